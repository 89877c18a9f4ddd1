"""Rules for reductions. The norm of complex numbers is the norm of their magnitudes; their variance is the sum of the
variances of the parts.

Π zᵢ = Π|zᵢ| · e^{j Σ∠zᵢ}        for any number of factors, which may vary in a file
"""

from collections.abc import Callable
from typing import Any

import torch

from fusekit.lower import functions
from fusekit.lower.creation import convert
from fusekit.lower.pair import Pair

Rule = Callable[..., Any]


def linear(call: Rule, input: Any, *args: Any, dtype: Any = None, **options: Any) -> Any:
    """A sum or mean, converted to `dtype` first if it is given."""
    z = convert(input, dtype)
    return z.map(lambda part: call(part, *args, **options)) if isinstance(z, Pair) else call(z, *args, **options)


def _var(input: Any, *args: Any, **options: Any) -> Any:
    re, im = input.full()
    return torch.var(re, *args, **options) + torch.var(im, *args, **options)


def _std(input: Any, *args: Any, **options: Any) -> Any:
    return torch.sqrt(_var(input, *args, **options))


def _prod(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Pair:
    z = Pair.of(convert(input, dtype))
    r, turn = functions.magnitude(z), functions.angle(z)
    if dim is None:
        return functions.polar(torch.prod(r), torch.sum(turn))
    return functions.polar(torch.prod(r, dim, keepdim), torch.sum(turn, dim, keepdim))


def _cumprod(input: Any, dim: int, *, dtype: Any = None) -> Pair:
    z = Pair.of(convert(input, dtype))
    r = torch.exp(torch.cumsum(torch.log(functions.magnitude(z)), dim))  # ONNX has no cumulative product
    return functions.polar(r, torch.cumsum(functions.angle(z), dim))


def _vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    size = functions.magnitude(Pair.of(convert(x, dtype)))
    return torch.linalg.vector_norm(size, ord, dim, keepdim)


def _matrix_norm(A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None) -> Any:
    if ord in (2, -2, "nuc"):
        raise TypeError("norms by singular values are not lowered")
    size = functions.magnitude(Pair.of(convert(A, dtype)))
    if ord == "fro":
        return torch.linalg.vector_norm(size, 2, dim, keepdim)
    rows, columns = dim
    return _by_sums(size, ord, rows, columns, keepdim)


def _by_sums(size: Any, ord: Any, rows: int, columns: int, keepdim: bool) -> Any:
    """The matrix norms 1 (the largest column sum) and inf (the largest row sum); for -1 and -inf, the smallest."""
    along, over = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = size.sum(along, keepdim=True)
    norm = sums.amax(over, keepdim=True) if ord > 0 else sums.amin(over, keepdim=True)
    return norm if keepdim else norm.squeeze((rows, columns))


def _linalg_norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    if ord is None:
        return _vector_norm(A, 2, dim, keepdim, dtype=dtype)
    size = functions.magnitude(Pair.of(convert(A, dtype)))
    if ord in (2, -2, "nuc") and not isinstance(dim, int):
        raise TypeError("norms by singular values are not lowered")
    if isinstance(dim, tuple | list) and len(dim) == 2:
        return _matrix_norm(A, ord, dim, keepdim, dtype=dtype)
    return torch.linalg.norm(size, ord, dim, keepdim)


def _norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    if p == "nuc":
        raise TypeError("norms by singular values are not lowered")
    return _vector_norm(input, 2 if p in ("fro", None) else p, dim, keepdim, dtype=dtype)


def _frobenius(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return _vector_norm(input, 2, dim or None, keepdim)


def _normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Pair:
    size = _vector_norm(input, p, dim, True).clamp_min(eps)
    return Pair.of(input).map(lambda part: part / size)


def _count(function: Rule) -> Rule:
    """Rule for a function of the booleans "is not 0"."""

    def rule(input: Any, *args: Any, **options: Any) -> Any:
        return function(convert(input, torch.bool), *args, **options)

    return rule


REDUCTIONS: dict[str, Rule] = {
    "var": _var,
    "std": _std,
    "prod": _prod,
    "cumprod": _cumprod,
    "norm": _norm,
    "normalize": _normalize,
    "frobenius_norm": _frobenius,
    "linalg_norm": _linalg_norm,
    "linalg_vector_norm": _vector_norm,
    "linalg_matrix_norm": _matrix_norm,
    "count_nonzero": _count(torch.count_nonzero),
    "any": _count(torch.any),
    "all": _count(torch.all),
    "logical_not": _count(torch.logical_not),
}
