"""Parses the conditions that a program assumes of its inputs. torch runs them as Python code, so they must be checked.

Examples: `2 <= L['x'].size()[2]`, `L['x'].size()[2] % 4 == 0`. Allowed are sizes of the arguments `L`, numbers,
arithmetic and comparisons. A program with a condition that cannot be parsed is refused: without the condition it would
accept inputs for which its results are wrong.
"""

import ast
import re
from typing import Any

from fusekit.checkpoint.archive.refused import Refused, shown

MOST_TEXT = 1 << 14
MOST_DEPTH = 96
MOST_BITS = 8_192  # of any value in a condition; sizes of inputs have 64 bits
_MOST_POWER = 4
_TEXT = re.compile(r"[A-Za-z0-9_'., ()\[\]=+\-*/%<>!]+", re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9_ .\-]{1,100}", re.ASCII)
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.Div)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_OF_MODULES = {
    "math": ("trunc", "floor", "ceil", "isnan"),
    "torch": ("sym_float", "sym_int", "sym_max", "sym_min", "sym_not"),
}
_NAMED = ("max", "min", "abs", "int", "float")
_READINGS = ("size", "stride", "storage_offset", "dim")


def rewrite_guard(value: Any, where: str) -> str:
    """The same condition, written anew from its syntax tree. Raises Refused if it is not allowed."""
    if not isinstance(value, str) or len(value) > MOST_TEXT or not _TEXT.fullmatch(value):
        raise Refused(f"{where} is {shown(value)}; expected a comparison of the sizes of inputs")
    try:
        tree = ast.parse(value, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Refused(f"{where} is {shown(value)}, which cannot be read as a condition") from error
    try:
        _check(tree, MOST_DEPTH)
    except Refused as error:
        raise Refused(f"{where} is {shown(value)}: {error}") from error
    return ast.unparse(tree)


def _check(node: ast.expr, depth: int) -> int:
    """Check that every node of the tree is of an allowed kind, and that the only strings are keys of inputs. Returns an
    upper bound for the number of bits of the value. Raises Refused."""
    if depth == 0:
        raise Refused(f"it is nested deeper than {MOST_DEPTH}")
    inner: list[ast.expr]
    power = 1
    match node:
        case ast.BoolOp(values=inner):
            pass
        case ast.Compare(left=left, ops=operators, comparators=others) if _all(operators, _COMPARISONS):
            inner = [left, *others]
        case ast.BinOp(left=left, op=operator, right=right) if isinstance(operator, _OPERATORS):
            inner = [left, right]
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))) if 0 <= power <= _MOST_POWER:
            inner = [left]
        case ast.UnaryOp(op=operator, operand=operand) if isinstance(operator, ast.USub | ast.UAdd | ast.Not):
            inner = [operand]
        case ast.Constant(value=bool() | float()):
            inner = []
        case ast.Constant(value=int(value)) if value < 1 << 63:
            inner = []
        case ast.Call(func=function, args=inner, keywords=[]) if 1 <= len(inner) <= 12 and _is_function(function):
            pass
        case _ if _is_input(node):
            inner = []
        case _:
            raise Refused(f"it must not contain {shown(ast.unparse(node))}")
    bits = [_check(child, depth - 1) for child in inner] or [64]
    product = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)
    most = sum(bits) if product else max(bits) * power + 1
    if most > MOST_BITS:
        raise Refused(f"its value may have {most:,} bits; expected at most {MOST_BITS:,}")
    return most


def _is_function(node: ast.expr) -> bool:
    match node:
        case ast.Name(id=name):
            return name in _NAMED
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return name in _OF_MODULES.get(module, ())
    return False


def _is_input(node: ast.expr) -> bool:
    """Whether the node is an input `L['x']`, an entry of it, or a property of a tensor: `L['d']['u'][0].size()[2]`."""
    entry = False
    while True:
        match node:
            case ast.Name(id="L"):
                return entry
            case ast.Subscript(value=node, slice=ast.Constant(value=key)):
                if not (type(key) is int and 0 <= key < 1_000) and not (isinstance(key, str) and _KEY.fullmatch(key)):
                    return False
                entry = True
            case ast.Call(func=ast.Attribute(value=node, attr=reading), args=[], keywords=[]):
                if reading not in _READINGS:
                    return False
            case _:
                return False


def _all(nodes: list[ast.cmpop], kinds: tuple[type[ast.cmpop], ...]) -> bool:
    return all(isinstance(node, kinds) for node in nodes)
