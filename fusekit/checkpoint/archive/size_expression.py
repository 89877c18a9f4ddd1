"""Parses symbolic sizes by a grammar, and writes them anew.

torch writes them as calls of sympy's constructors, `Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(1))`, and
evaluates such a text as Python code. Here, only such calls are accepted, of functions that sizes need. The values and
the number of terms after expansion are bounded while parsing, so that no expression takes long to evaluate, as 9**9**9
would.
"""

import ast
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from fusekit.checkpoint.archive.refused import Refused, shown

MOST_TEXT = 1 << 14
MOST_DEPTH = 48
MOST_NODES = 1_000
MOST_BITS = 4_096  # of any value; symbols have 63 bits
MOST_TERMS = 256  # of a sum, after products are expanded
MOST_CHOICES = 8  # arguments of nested maxima: sympy compares each with each
MOST_OPAQUE = 40  # quotients, maxima and the like in one expression, which cannot be expanded
MOST_DIVISOR = 4  # terms of a divisor
_SYMBOL_BITS = 63
_TEXT = re.compile(r"[A-Za-z0-9_'., ()=+\-]+", re.ASCII)
_SYMBOL = re.compile(r"[a-z]{1,4}[0-9]{1,6}", re.ASCII)
_ASSUMPTIONS = {"integer", "positive", "nonnegative", "negative", "nonpositive", "real", "nonzero", "zero"}
_FLOAT = re.compile(r"[+-]?\d{1,40}(\.\d{0,40})?([eE][+-]?\d{1,2})?", re.ASCII)


@dataclass(frozen=True)
class Bound:
    """An expression written anew (`text`), with upper bounds: `bits`, log2 of its magnitude; `terms` after expansion;
    `choices`, the arguments of nested maxima; `opaque`, the number of functions in it that cannot be expanded."""

    text: str
    bits: int
    terms: int = 1
    choices: int = 1
    opaque: int = 0


_Law = Callable[[list[Bound]], tuple[int, int, int]]  # (bits, terms, choices) from the bounds of the arguments


def _sum(parts: list[Bound]) -> tuple[int, int, int]:
    return _most(parts) + len(parts).bit_length(), sum(part.terms for part in parts), 1


def _product(parts: list[Bound]) -> tuple[int, int, int]:
    return sum(part.bits for part in parts), math.prod(part.terms for part in parts), 1


def _choice(parts: list[Bound]) -> tuple[int, int, int]:
    return _most(parts), 1, sum(part.choices for part in parts)


def _closed(parts: list[Bound]) -> tuple[int, int, int]:
    return _most(parts) + 1, 1, 1


def _quotient(parts: list[Bound]) -> tuple[int, int, int]:
    """The bounds of a quotient. sympy searches for common factors, which is fast only if the divisor has few terms."""
    divisor = parts[1]
    if divisor.opaque or divisor.terms > MOST_DIVISOR:
        raise Refused(f"it divides by {shown(divisor.text)}; expected a divisor of at most {MOST_DIVISOR} terms")
    return _closed(parts)


def _most(parts: list[Bound]) -> int:
    return max(part.bits for part in parts)


# For each function: the smallest and largest number of arguments, and the rule for its bounds.
_FUNCTIONS: dict[str, tuple[int, int, _Law]] = {
    "Add": (2, 64, _sum),
    "Mul": (2, 64, _product),
    **dict.fromkeys(("Max", "Min", "And", "Or"), (1, 12, _choice)),
    **dict.fromkeys(("FloorDiv", "CeilDiv", "Mod", "PythonMod", "IntTrueDiv", "FloatTrueDiv"), (2, 2, _quotient)),
    **dict.fromkeys(("CeilToInt", "FloorToInt", "TruncToInt", "RoundToInt", "ToFloat", "Identity"), (1, 1, _closed)),
    **dict.fromkeys(("Equality", "Unequality", "StrictLessThan", "LessThan"), (2, 2, _closed)),
    **dict.fromkeys(("StrictGreaterThan", "GreaterThan"), (2, 2, _closed)),
    "Not": (1, 1, _closed),
}
_POWERS = ("Pow", "PowByNatural")
_MOST_POWER = 16


def rewrite_size(value: object, where: str) -> str:
    """The same size, written anew from its syntax tree. Raises Refused if it is not allowed."""
    if not isinstance(value, str) or len(value) > MOST_TEXT or not _TEXT.fullmatch(value):
        raise Refused(
            f"{where} is {shown(value)}; expected a size: sympy's constructors of sums, products and the like"
        )
    try:
        tree = ast.parse(value, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Refused(f"{where} is {shown(value)}, which cannot be read as a size") from error
    if sum(1 for _ in ast.walk(tree)) > 4 * MOST_NODES:
        raise Refused(f"{where} is a size of more than {MOST_NODES:,} parts")
    try:
        return _read(tree, MOST_DEPTH).text
    except Refused as error:
        raise Refused(f"{where} is {shown(value)}: {error}") from error


def _read(node: ast.expr, depth: int) -> Bound:
    if depth == 0:
        raise Refused(f"it is nested deeper than {MOST_DEPTH} calls")
    if isinstance(node, ast.Name) and node.id in ("true", "false"):
        return Bound(node.id, 1)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise Refused(f"it must not contain {shown(ast.unparse(node))}")
    function = node.func.id
    if function in ("Integer", "Symbol", "Float", "Rational"):
        return _atom(function, node)
    if node.keywords:
        raise Refused(f"{function} takes no keywords")
    if function in _POWERS:
        return _power(function, node, depth)
    if function not in _FUNCTIONS:
        raise Refused(f"{shown(function)} is no function of sizes")
    fewest, most, law = _FUNCTIONS[function]
    if not fewest <= len(node.args) <= most:
        raise Refused(f"{function} takes {fewest} to {most} arguments, not {len(node.args)}")
    parts = [_read(argument, depth - 1) for argument in node.args]
    bits, terms, choices = law(parts)
    opaque = sum(part.opaque for part in parts) + (law not in (_sum, _product))
    return _bounded(Bound(f"{function}({', '.join(part.text for part in parts)})", bits, terms, choices, opaque))


def _power(function: str, node: ast.Call, depth: int) -> Bound:
    """A power whose exponent is a small number."""
    if len(node.args) != 2:
        raise Refused(f"{function} takes 2 arguments, not {len(node.args)}")
    base, exponent = (_read(argument, depth - 1) for argument in node.args)
    matched = re.fullmatch(r"Integer\((\d+)\)", exponent.text)
    if matched is None or not 0 <= int(matched[1]) <= _MOST_POWER:
        raise Refused(f"a power has the exponent {shown(exponent.text)}; expected an integer up to {_MOST_POWER}")
    power = int(matched[1])
    text = f"{function}({base.text}, {exponent.text})"
    return _bounded(Bound(text, base.bits * power, base.terms**power, 1, base.opaque))


def _bounded(bound: Bound) -> Bound:
    for name, value, most in (
        ("bits", bound.bits, MOST_BITS),
        ("terms after expansion", bound.terms, MOST_TERMS),
        ("arguments of nested maxima", bound.choices, MOST_CHOICES),
        ("quotients, maxima and the like", bound.opaque, MOST_OPAQUE),
    ):
        if value > most:
            raise Refused(f"it may have {value:,} {name}; expected at most {most:,}")
    return bound


def _atom(function: str, node: ast.Call) -> Bound:
    """A number or a symbol. These are the only calls whose arguments are literals, not sizes."""
    values = [_literal(argument) for argument in node.args]
    keywords = {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
    match function, values, keywords:
        case "Integer", [int(value)], {**rest} if not rest and type(value) is int:
            return Bound(f"Integer({value})", _bits(value))
        case "Rational", [int(above), int(below)], {**rest} if not rest and type(above) is type(below) is int and below:
            return Bound(f"Rational({above}, {below})", _bits(above))
        case "Float", [str(text)], {"precision": int(bits), **rest} if not rest and 1 <= bits <= 256:
            if _FLOAT.fullmatch(text):
                return Bound(f"Float({text!r}, precision={bits})", 1_024)
        case "Symbol", [str(text)], _ if _SYMBOL.fullmatch(text) and _are_assumptions(keywords):
            told = "".join(f", {key}={value}" for key, value in keywords.items())
            return Bound(f"Symbol({text!r}{told})", _SYMBOL_BITS)
    raise Refused(f"{shown(ast.unparse(node))} is neither a number nor a symbol")


def _are_assumptions(keywords: dict[str | None, object]) -> bool:
    return all(key in _ASSUMPTIONS and type(value) is bool for key, value in keywords.items())


def _bits(value: int) -> int:
    if abs(value) >= 1 << 63:
        raise Refused(f"{value} is no number of 64 bits")
    return value.bit_length()


def _literal(node: ast.expr) -> object:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        value = node.operand.value
        return -value if type(value) is int else None
    return node.value if isinstance(node, ast.Constant) else None
