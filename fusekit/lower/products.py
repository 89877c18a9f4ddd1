"""Rules for products: bilinear functions on parts; contractions of several operands two at a time, from the left."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from fusekit.lower.arithmetic import conj, scaled
from fusekit.lower.pair import Pair
from fusekit.lower.parts import number

Rule = Callable[..., Any]


def bilinear(function: Rule) -> Rule:
    def rule(input: Any, other: Any, *args: Any, **options: Any) -> Pair:
        return Pair.of(input).product(Pair.of(other), lambda a, b: function(a, b, *args, **options))

    return rule


def _tensordot(a: Any, b: Any, dims: Any = 2, dims_other: Any = None) -> Pair:
    axes = dims if dims_other is None else (list(dims), list(dims_other))
    return Pair.of(a).product(Pair.of(b), lambda a, b: torch.tensordot(a, b, axes))


def _vdot(input: Any, other: Any) -> Pair:
    return conj(Pair.of(input)).product(Pair.of(other), torch.dot)


def _vecdot(x: Any, y: Any, *, dim: int = -1) -> Pair:
    return (conj(Pair.of(x)) * Pair.of(y)).map(lambda part: part.sum(dim))


def _plus(product: Rule) -> Rule:
    """β·input + α·(first ∘ second)."""

    def rule(input: Any, first: Any, second: Any, *, beta: Any = 1, alpha: Any = 1) -> Pair:
        z = scaled(Pair.of(first).product(Pair.of(second), product), alpha)
        return z if beta == 0 else scaled(number(input), beta) + z

    return rule


def _bmm_sum(a: Any, b: Any) -> Any:
    return torch.bmm(a, b).sum(0)


def _chain(*matrices: Any) -> Pair:
    flat = matrices[0] if len(matrices) == 1 and isinstance(matrices[0], tuple | list) else matrices
    result = Pair.of(flat[0])
    for matrix in flat[1:]:
        result = result.product(Pair.of(matrix), torch.matmul)
    return result


def _matrix_power(A: Any, n: int) -> Pair:
    if not isinstance(n, int) or n < 1:
        raise TypeError(f"the power {n} of a matrix is not supported")
    half = A if n == 1 else _matrix_power(A, n // 2)
    if n == 1:
        return half
    square = half.product(half, torch.matmul)
    return square.product(A, torch.matmul) if n % 2 else square


def _einsum(equation: str, *operands: Any, path: Any = None) -> Pair:
    """Two operands at a time, from the left. An intermediate result keeps the letters that occur in a later operand or
    in the result."""
    flat = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], tuple | list) else list(operands)
    if not isinstance(equation, str):
        raise TypeError("einsum is called without an equation")
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        right = _implied(terms)
    result = Pair.of(flat[0])
    if len(flat) == 1:
        return result.map(lambda part: torch.einsum(f"{left}->{right}", part))
    for index, operand in enumerate(flat[1:], 1):
        first, second = terms[0], terms[index]
        later = right + "".join(terms[index + 1 :])
        kept = right if index == len(flat) - 1 else _kept(first + second, later)
        formula = f"{first},{second}->{kept}"
        result = result.product(Pair.of(operand), partial(torch.einsum, formula))
        terms[0] = kept
    return result


def _implied(terms: list[str]) -> str:
    """The letters of the result of an equation without an arrow: the ellipsis, then all letters that occur once, in
    alphabetical order."""
    letters = "".join(terms).replace(".", "")
    dots = "..." if any("..." in term for term in terms) else ""
    return dots + "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))


def _kept(letters: str, later: str) -> str:
    dots = "..." if "..." in letters else ""
    return dots + "".join(dict.fromkeys(letter for letter in letters if letter != "." and letter in later))


PRODUCTS: dict[str, Rule] = {
    "matmul": bilinear(torch.matmul),
    "linalg_matmul": bilinear(torch.matmul),
    "mm": bilinear(torch.mm),
    "bmm": bilinear(torch.bmm),
    "mv": bilinear(torch.mv),
    "dot": bilinear(torch.dot),
    "inner": bilinear(torch.inner),
    "outer": bilinear(torch.outer),
    "ger": bilinear(torch.outer),
    "kron": bilinear(torch.kron),
    "tensordot": _tensordot,
    "vdot": _vdot,
    "linalg_vecdot": _vecdot,
    "addmm": _plus(torch.mm),
    "addmv": _plus(torch.mv),
    "addr": _plus(torch.outer),
    "baddbmm": _plus(torch.bmm),
    "addbmm": _plus(_bmm_sum),
    "chain_matmul": _chain,
    "linalg_multi_dot": _chain,
    "matrix_power": _matrix_power,
    "linalg_matrix_power": _matrix_power,
    "einsum": _einsum,
}
