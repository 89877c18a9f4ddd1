"""From an operator's name to its rule on pairs. A rule has the signature of the torch callable it stands for; the first
argument of those in `CALLS` is the operator itself, to be called on reals with its own geometry.
"""

from collections.abc import Callable
from typing import Any

import torch

from fusekit.lower import functions
from fusekit.lower.linear import block
from fusekit.lower.pair import Pair

Rule = Callable[..., Any]


def _complex(real: Any, imag: Any) -> Pair:
    return Pair(real, imag)


def _real(input: Any) -> Any:
    z = Pair.of(input)
    return z.re if z.re is not None else z.full()[0]


def _imag(input: Any) -> Any:
    return Pair.of(input).full()[1]


def _conj(input: Any) -> Pair:
    return Pair(input.re, None if input.im is None else -input.im)


def _view_as_real(input: Any) -> Any:
    return torch.stack(list(Pair.of(input).full()), -1)


def _view_as_complex(input: Any) -> Pair:
    return Pair(input.select(-1, 0), input.select(-1, 1))


def _add(input: Any, other: Any, *, alpha: Any = 1) -> Pair:
    return Pair.of(input) + (Pair.of(other) if alpha == 1 else Pair.of(other) * Pair.of(alpha))


def _sub(input: Any, other: Any, *, alpha: Any = 1) -> Pair:
    return Pair.of(input) - (Pair.of(other) if alpha == 1 else Pair.of(other) * Pair.of(alpha))


def _rsub(input: Any, other: Any, alpha: Any = 1) -> Pair:
    return _sub(other, input, alpha=alpha)


def _mul(input: Any, other: Any) -> Pair:
    return Pair.of(input) * Pair.of(other)


def _div(input: Any, other: Any) -> Pair:
    return functions.quotient(Pair.of(input), Pair.of(other))


def _pow(input: Any, exponent: Any) -> Pair:
    if not isinstance(exponent, int) or not 1 <= exponent <= 4:
        raise TypeError("only the powers 1 to 4 are lowered")
    z = result = Pair.of(input)
    for _ in range(exponent - 1):
        result = result * z
    return result


def _unary(function: Callable[[Pair], Any]) -> Rule:
    def rule(input: Any) -> Any:
        return function(Pair.of(input))

    return rule


def _where(condition: Any, input: Any, other: Any) -> Pair:
    (a, b), (c, d) = Pair.of(input).full(), Pair.of(other).full()
    return Pair(torch.where(condition, a, c), torch.where(condition, b, d))


def _masked_fill(input: Any, mask: Any, value: Any) -> Pair:
    z, (re, im) = input.full(), Pair.of(value).full()
    return Pair(torch.masked_fill(z[0], mask, re), torch.masked_fill(z[1], mask, im))


def _eq(input: Any, other: Any) -> Any:
    (a, b), (c, d) = Pair.of(input).full(), Pair.of(other).full()
    return (a == c) & (b == d)


def _joined(function: Callable[..., Any]) -> Rule:
    """Of a list of tensors: the parts joined each for itself, none at all where every one is absent."""

    def rule(tensors: Any, dim: int = 0) -> Pair:
        pairs = [Pair.of(tensor) for tensor in tensors]
        full = [z.full() for z in pairs]
        re = None if all(z.re is None for z in pairs) else function([z[0] for z in full], dim)
        im = None if all(z.im is None for z in pairs) else function([z[1] for z in full], dim)
        return Pair(re, im)

    return rule


def _product(function: Callable[..., Any]) -> Rule:
    def rule(input: Any, other: Any) -> Pair:
        return Pair.of(input).product(Pair.of(other), function)

    return rule


def _einsum(equation: str, *operands: Any) -> Pair:
    flat = operands[0] if len(operands) == 1 and isinstance(operands[0], tuple | list) else operands
    if len(flat) == 1:
        return Pair.of(flat[0]).map(lambda part: torch.einsum(equation, part))
    if len(flat) != 2:
        raise TypeError("einsum of three and more operands is not lowered")
    return Pair.of(flat[0]).product(Pair.of(flat[1]), lambda a, b: torch.einsum(equation, a, b))


def _addmm(input: Any, mat1: Any, mat2: Any) -> Pair:
    return Pair.of(input) + Pair.of(mat1).product(Pair.of(mat2), torch.mm)


def _var(input: Any, dim: Any, **options: Any) -> Any:
    """The variance of a complex value is that of its parts, summed."""
    re, im = input.full()
    return torch.var(re, dim, **options) + torch.var(im, dim, **options)


def _linear(call: Rule, input: Any, weight: Any, bias: Any = None) -> Pair:
    return block(call, Pair.of(input), Pair.of(weight), bias, -1)


def _conv(n: int) -> Rule:
    def rule(
        call: Rule, x: Any, w: Any, b: Any = None, stride: Any = 1, pad: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> Pair:
        def own(x: Any, w: Any, b: Any) -> Any:
            return call(x, w, b, stride, pad, dilation, groups)

        return block(own, Pair.of(x), Pair.of(w), b, -n - 1, groups=groups)

    return rule


def _conv_transpose(n: int) -> Rule:
    def rule(
        call: Rule,
        x: Any,
        w: Any,
        b: Any = None,
        stride: Any = 1,
        pad: Any = 0,
        output_pad: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Pair:
        def own(x: Any, w: Any, b: Any) -> Any:
            return call(x, w, b, stride, pad, output_pad, groups, dilation)

        return block(own, Pair.of(x), Pair.of(w), b, -n - 1, groups=groups, transposed=True)

    return rule


RULES: dict[str, Rule] = {
    "complex": _complex,
    "real": _real,
    "imag": _imag,
    "conj": _conj,
    "_conj": _conj,
    "conj_physical": _conj,
    "_conj_physical": _conj,
    "view_as_real": _view_as_real,
    "view_as_complex": _view_as_complex,
    "polar": functions.polar,
    "add": _add,
    "sub": _sub,
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "truediv": _div,
    "pow": _pow,
    "where": _where,
    "masked_fill": _masked_fill,
    "eq": _eq,
    "cat": _joined(torch.cat),
    "stack": _joined(torch.stack),
    "matmul": _product(torch.matmul),
    "mm": _product(torch.mm),
    "bmm": _product(torch.bmm),
    "dot": _product(torch.dot),
    "einsum": _einsum,
    "addmm": _addmm,
    "var": _var,
    "abs": _unary(functions.magnitude),
    "angle": _unary(functions.angle),
    "reciprocal": _unary(functions.inverse),
    "exp": _unary(functions.exp),
    "log": _unary(functions.log),
    "sqrt": _unary(functions.sqrt),
    "sin": _unary(functions.sin),
    "cos": _unary(functions.cos),
    "tanh": _unary(functions.tanh),
    "sigmoid": _unary(functions.sigmoid),
    "sgn": _unary(functions.sign),
}

# Rules that call their own operator: convolutions and linear layers keep their geometry.
CALLS: dict[str, Rule] = {
    "linear": _linear,
    **{f"conv{n}d": _conv(n) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _conv_transpose(n) for n in (1, 2, 3)},
}

# Real linear functions of one argument: applied to each part with the same other arguments.
PARTWISE = frozenset(
    (
        *("neg", "unsqueeze", "squeeze", "select", "slice", "index", "gather", "pad", "expand", "repeat", "flatten"),
        *("view", "reshape", "permute", "transpose", "t", "movedim", "flip", "roll", "unflatten", "swapaxes", "clone"),
        *("contiguous", "mean", "sum", "cumsum", "getitem", "alias", "dropout", "index_select", "expand_as"),
        *("view_as", "detach", "diagonal", "narrow", "ravel", "tril", "triu"),
    )
)

# Several results: each part is taken apart, the pairs are put together again.
SEVERAL = frozenset(("split", "chunk", "unbind", "split_with_sizes", "tensor_split"))

# What ONNX has an operator for (DFT): called on the complex number itself, its result taken apart again.
WHOLE = frozenset(
    f"fft_{inverse}{kind}fft{n}" for inverse in ("", "i") for kind in ("", "r", "h") for n in ("", "2", "n")
)
