"""Convolutions and linear layers with constant weights.

A kernel lies in a file as it does in torch: [out, in / group, *window], transposed [in, out / group, *window].
"""

from functools import partial
from typing import Any

from torch import Tensor

from fusekit.algebra import Conv, Shape
from fusekit.algebra.values import wide
from fusekit.grafting.meaning import Known, Linear, Meaning, Reader
from fusekit.grafting.operator_node import OperatorNode
from fusekit.grafting.operators import arithmetic
from fusekit.grafting.operators.padding import fits, window_padding


def _conv_of(weight: Tensor, bias: Tensor | None = None, **geometry: Any) -> Conv:
    return Conv.from_torch(weight, bias, **geometry)


def _geometry(node: OperatorNode, known: Known) -> tuple[Shape, dict[str, Any]] | None:
    """The window of a convolution, and its stride, dilation and groups; None if its weights are not constant, or do not
    fit what it says of them."""
    weights = known.weights(*node.inputs[1:])
    if weights is None or not 3 <= weights[0].ndim <= 5:
        return None
    window = tuple(weights[0].shape[2:])
    ones, groups = [1] * len(window), int(node.number("group", 1))
    if tuple(node.numbers("kernel_shape", list(window))) != window or weights[0].shape[0] % groups:
        return None
    stride, dilation = node.numbers("strides", ones), node.numbers("dilations", ones)
    return window, {"stride": stride, "dilation": dilation, "groups": groups}


def _conv(node: OperatorNode, known: Known) -> Linear | None:
    found = _geometry(node, known)
    if found is None:
        return None
    window, geometry = found
    stride, dilation = geometry["stride"], geometry["dilation"]
    sizes = (known.facts(node.input(0)).shape or (None,) * (len(window) + 2))[2:]
    padding = window_padding(node, window, stride, dilation, sizes)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True)]
    if padding is None or not fits(known, node.input(0), reach, padding):
        return None
    return Linear(node.input(0), partial(_conv_of, **geometry, padding=padding), tuple(node.inputs[1:]))


def _conv_transpose(node: OperatorNode, known: Known) -> Linear | None:
    """With explicit padding, the same on both sides: the algebra knows no other crop."""
    found = _geometry(node, known)
    if found is None:
        return None
    window, geometry = found
    n = len(window)
    extra, pads = node.numbers("output_padding", [0] * n), node.numbers("pads", [0] * 2 * n)
    explicit = node.word("auto_pad", "NOTSET") == "NOTSET" and not node.has("output_shape")
    sides = zip(extra, geometry["stride"], geometry["dilation"], strict=True)
    lawful = all(e < max(s, d) for e, s, d in sides)
    if not explicit or not lawful or pads[:n] != pads[n:] or min(pads) < 0:
        return None
    padding = tuple((amount, amount) for amount in pads[:n])
    build = partial(_conv_of, **geometry, padding=padding, transposed=True, output_padding=extra)
    return Linear(node.input(0), build, tuple(node.inputs[1:]))


def _linear_of(weight: Tensor, bias: Tensor | None = None, *, alpha: float, beta: float, transposed: bool) -> Conv:
    weight = weight if transposed else weight.t()
    if bias is not None:
        bias = bias.reshape(-1).expand(weight.shape[0])
        bias = bias if beta == 1 else beta * wide(bias)
    return Conv.from_torch(weight if alpha == 1 else alpha * wide(weight), bias)


def _gemm(node: OperatorNode, known: Known) -> Linear | None:
    """α A B + β C, where C is one number for each column, or one for all."""
    weights = known.weights(*node.inputs[1:])
    if weights is None or weights[0].ndim != 2 or node.number("transA", 0):
        return None
    transposed = bool(node.number("transB", 0))
    columns = weights[0].shape[0 if transposed else 1]
    if len(weights) > 1 and tuple(weights[1].shape) not in ((columns,), (1, columns), (1,), (), (1, 1)):
        return None
    alpha, beta = float(node.number("alpha", 1.0)), float(node.number("beta", 1.0))
    build = partial(_linear_of, alpha=alpha, beta=beta, transposed=transposed)
    return Linear(node.input(0), build, tuple(node.inputs[1:]))


def _matmul(node: OperatorNode, known: Known) -> Linear | None:
    """x W with a constant matrix W [in, out]."""
    weights = known.weights(node.input(1))
    if weights is None or weights[0].ndim != 2 or node.input(0) in known.constants:
        return None
    return Linear(node.input(0), partial(_linear_of, alpha=1.0, beta=1.0, transposed=False), (node.input(1),))


_ADD = arithmetic.READERS["Add"]


def _add(node: OperatorNode, known: Known) -> Meaning | None:
    """x W + b is one linear layer, however a file spells it; written again it would be spelled so, too."""
    meaning = _ADD(node, known)
    product = known.read_once.get(meaning.source) if isinstance(meaning, Linear) else None
    inner = _matmul(product, known) if product is not None and product.operator == "MatMul" else None
    if not isinstance(meaning, Linear) or inner is None:
        return meaning
    bias = known.weights(*meaning.constants)
    if bias is None or any(size != 1 for size in bias[0].shape[:-1]):
        return meaning
    return Linear(inner.source, inner.build, (*inner.constants, *meaning.constants), absorbs=meaning.source)


READERS: dict[str, Reader] = {
    "Add": _add,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
