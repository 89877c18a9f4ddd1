"""Reads nodes as algebra: with `write.py` the only file that knows argument order and layouts of operators.

A node *reads* as a map if, its constants given, it is that function of one tensor. What is not in the table does not
read, and stays as it is. The spelling is ATen overloads; `capture` brings every model to it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fusekit.activation import read_activation
from fusekit.algebra import (
    Affine,
    AppendOnes,
    AvgPool,
    Conv,
    EdgePad,
    Flatten,
    GlobalMean,
    Identity,
    Map,
    Pad,
    PixelShuffle,
)
from fusekit.algebra.bordered import bordered_conv, bordered_of
from fusekit.algebra.edge import circular_pad
from fusekit.algebra.map import Pairs, Shape
from fusekit.algebra.spectral_conv import spectral_conv, spectral_of
from fusekit.errors import Inapplicable
from fusekit.graph import Facts, Graph, facts

aten = torch.ops.aten


@dataclass(frozen=True)
class Unread:
    """In place of a map: the operator is of this kind, but what is known of its input does not suffice to read it."""

    kind: type[Map]
    reason: str


@dataclass(frozen=True)
class Reading:
    """The node is `map` applied to the value of `source`."""

    map: Map | Unread
    source: fx.Node

    def is_a(self, kind: type[Map]) -> bool:
        return issubclass(self.map.kind if isinstance(self.map, Unread) else type(self.map), kind)


Arguments = dict[str, Any]
Spelled = tuple[Any, Any] | None  # (scale, shift): tensors or numbers; None where the map is not affine
Spelling = Callable[[Tensor | None, Tensor | None, float], Spelled]  # of (left, right, alpha), None for the input
Reader = Callable[[Graph, fx.Node, Arguments], Reading | None]


def read(graph: Graph, node: fx.Node) -> Reading | None:
    """The node as a map, or None."""
    reader = _READERS.get(node.target) if node.op == "call_function" else None
    if reader is not None:
        return reader(graph, node, bind(node))
    activation = read_activation(graph, node)
    return None if activation is None else Reading(*activation)


def bind(node: fx.Node) -> Arguments:
    """The arguments of an ATen call by name, defaults filled in from the operator's schema; empty for other calls."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return {}
    schema = node.target._schema.arguments
    bound = {argument.name: argument.default_value for argument in schema}
    bound.update(zip(bound, node.args, strict=False))
    bound.update(node.kwargs)
    return bound


def _static(values: Any, n: int) -> Shape | None:
    """A list of n plain integers; one integer stands for all axes. None if any is computed by the graph."""
    values = list(values) if isinstance(values, list | tuple) else [values]
    if not all(isinstance(value, int) for value in values):
        return None
    return tuple(values * n if len(values) == 1 else values)


def _floating(*tensors: Tensor | None) -> bool:
    return all(t is None or t.is_floating_point() or t.is_complex() for t in tensors)


def _weights(graph: Graph, a: Arguments) -> tuple[Tensor, Tensor | None] | None:
    weight, bias = graph.constant(a["weight"]), graph.constant(a["bias"])
    if weight is None or (bias is None and a["bias"] is not None) or not _floating(weight, bias):
        return None
    return weight, bias


def _read_conv(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    weights = _weights(graph, a)
    if weights is None:
        return None
    n = weights[0].ndim - 2
    stride, dilation = _static(a["stride"], n), _static(a["dilation"], n)
    if stride is None or dilation is None:
        return None
    transposed = bool(a.get("transposed", "output_padding" in a))
    output_padding = _static(a.get("output_padding", 0), n)
    padding = _read_padding(a["padding"], weights[0].shape[2:], dilation)
    if padding is None or output_padding is None:
        return None
    conv = Conv.from_torch(
        *weights,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=a["groups"],
        transposed=transposed,
        output_padding=output_padding if transposed else (),
    )
    return Reading(conv, a["input"])


def _read_padding(padding: Any, window: Shape, dilation: Shape) -> Pairs | None:
    """'same' pads d (k - 1) in all, the odd one on the high side."""
    if padding == "valid":
        return ((0, 0),) * len(window)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, window, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    amounts = _static(padding, len(window))
    return None if amounts is None else tuple((amount, amount) for amount in amounts)


def _read_linear(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    weights = _weights(graph, a)
    if weights is None or weights[0].ndim != 2:
        return None
    return Reading(Conv.from_torch(*weights), a["input"])


def _read_batch_norm(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """Evaluation mode, with running statistics. The channels are axis 1 from the left, so the rank must be known."""
    names = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, var = (graph.constant(a[name]) for name in names)
    rank = facts(a["input"]).rank or facts(node).rank
    computed = any(a[name] is not None and graph.constant(a[name]) is None for name in names)
    if a["training"] or computed or mean is None or var is None:
        return None
    if rank is None:
        return Reading(Unread(Affine, "the rank of the batch norm's input is unknown: pass example inputs"), a["input"])
    return Reading(Affine.batch_norm(weight, bias, mean, var, a["eps"], 1 - rank), a["input"])


def _read_bordered(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    source, *constants, geometry = node.args
    values = [graph.constant(constant) for constant in constants]
    weight, bias, inner_weight, inner_bias, outer_weight = values
    if weight is None or inner_weight is None or outer_weight is None or not isinstance(source, fx.Node):
        return None
    pair: Any = geometry
    return Reading(bordered_of(weight, bias, inner_weight, inner_bias, outer_weight, pair), source)


def _read_spectral(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    source, weight, bias, *geometry = node.args
    values = graph.constant(weight), graph.constant(bias)
    if values[0] is None or (values[1] is None and bias is not None) or not isinstance(source, fx.Node):
        return None
    shaped: list[Any] = geometry
    return Reading(spectral_of(values[0], values[1], *shaped), source)


def _read_identity(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    return None if a.get("train") else Reading(Identity(), a["input"] if "input" in a else a["self"])


def _read_pad(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    amounts, mode = a["pad"], a.get("mode", "constant")
    if not all(isinstance(amount, int) for amount in amounts):
        return None
    if mode == "constant" and a.get("value"):
        ones = AppendOnes(len(amounts) // 2 - 1)
        return Reading(ones, a["self"]) if a["value"] == 1 and list(amounts) == ones.amounts else None
    pad = Pad(tuple((amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2))[::-1])
    if pad.is_identity():
        return Reading(Identity(None if mode == "constant" else len(pad.padding)), a["self"])
    if mode == "constant":
        return Reading(pad, a["self"])
    crops = any(amount < 0 for amount in amounts)
    return None if crops else Reading(EdgePad(mode, (pad.padding,)), a["self"])


def _read_circular_pad(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    source, stages = node.args
    stages = tuple(tuple((low, high) for low, high in stage) for stage in stages)  # type: ignore[union-attr, misc]
    return Reading(EdgePad("circular", stages), source)  # type: ignore[arg-type]


def _read_pixel_shuffle(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    factor = a["upscale_factor"]
    return Reading(PixelShuffle(factor), a["self"]) if isinstance(factor, int) else None


def _read_global_mean(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """Adaptive pooling to one position, or a mean over all axes but batch and channels that keeps them."""
    if "output_size" in a:
        sizes = a["output_size"]
        return Reading(GlobalMean(len(sizes)), a["self"]) if all(size == 1 for size in sizes) else None
    rank, dims = facts(a["self"]).rank, a["dim"]
    if not dims or not a["keepdim"] or a["dtype"] is not None or (rank is None and any(d >= 0 for d in dims)):
        return None
    axes = {d if d < 0 else d - (rank or 0) for d in dims}
    n = len(axes)
    return Reading(GlobalMean(n), a["self"]) if axes == set(range(-n, 0)) and n <= 3 else None


def _read_flatten(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    if (a["start_dim"], a["end_dim"]) != (1, -1):
        return None
    known = (facts(a["self"]).shape or ())[2:]
    fixed = tuple(size for size in known if size is not None)
    return Reading(Flatten(fixed if fixed and len(fixed) == len(known) else None), a["self"])


def _read_matmul(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """x W with a constant W [in, out]: a linear layer spelled by hand."""
    left, right = a["self"], a["other"] if "other" in a else a["mat2"]
    weight = graph.constant(right)
    if weight is None or weight.ndim != 2 or not _floating(weight) or graph.constant(left) is not None:
        return None
    return Reading(Conv.from_torch(weight.t(), None), left)


def _read_avg_pool(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """Where the padding counts as zeros and the size is not rounded up; with no padding it does not matter."""
    n = _POOL_AXES[node.target]
    window, padding = _static(a["kernel_size"], n), _static(a["padding"], n)
    stride = _static(a["stride"] or a["kernel_size"], n)
    if window is None or padding is None or stride is None or a["ceil_mode"] or a.get("divisor_override"):
        return None
    if any(padding) and not a["count_include_pad"]:
        return None
    return Reading(AvgPool(window, stride, padding), a["input"] if "input" in a else a["self"])


def _read_arithmetic(spell: Spelling) -> Reader:
    """Arithmetic of a tensor and a constant, on either side."""

    def reader(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
        left, right = a["self"], a["other"]
        on_left = isinstance(left, fx.Node) and left.op != "get_attr"
        source, operand = (left, right) if on_left else (right, left)
        if not isinstance(source, fx.Node) or source.op == "get_attr":
            return None
        try:
            constant, axis = _operand(graph, operand, facts(source))
        except Inapplicable as unread:
            return Reading(Unread(Affine, str(unread)), source) if graph.constant(operand) is not None else None
        spelled = spell(None if on_left else constant, constant if on_left else None, a.get("alpha", 1))
        if spelled is None:
            return None
        scale, shift = (v if isinstance(v, Tensor) else torch.full_like(constant, v) for v in spelled)
        affine = Affine.of(scale, shift, axis)
        # x + zeros of [C] is not x where x has one entry that broadcasts up, and an example does not rule that out
        return Reading(Identity() if axis is None and affine.is_identity() else affine, source)

    return reader


def _operand(graph: Graph, operand: Any, source: Facts) -> tuple[Tensor, int | None]:
    """A constant operand as a float64 scalar, or as a vector along one axis (counted from the right).

    A vector reads only if the tensor is known to have as many entries *on that axis*: with as many on another axis, or
    with one that broadcasts up, it is another map. A tensor operand of higher precision would widen the result.
    """
    if source.dtype is None or not source.dtype.is_floating_point:
        raise Inapplicable(f"the dtype of the other operand is {source.dtype or 'unknown: pass example inputs'}")
    if isinstance(operand, int | float) and not isinstance(operand, bool):
        return torch.tensor(float(operand), dtype=torch.float64), None
    value = graph.constant(operand)
    if value is None or not value.is_floating_point() or (value.ndim and value.dtype != source.dtype):
        raise Inapplicable("the operand is no floating constant of the tensor's dtype")
    axes = [axis for axis in range(-value.ndim, 0) if value.shape[axis] != 1]
    if (value.ndim > 1 or axes) and source.rank is None:
        raise Inapplicable("the rank of the other operand is unknown: pass example inputs")
    if (source.rank is not None and source.rank < value.ndim) or len(axes) > 1:
        raise Inapplicable(f"a constant of shape {list(value.shape)} is not one number per channel")
    if axes and source.size(axes[0]) != value.shape[axes[0]]:
        size = source.size(axes[0])
        known = "unknown: pass example inputs" if size is None else str(size)
        raise Inapplicable(f"a constant of shape {list(value.shape)} on an axis whose size is {known}")
    flat = value.detach().double()
    return (flat.flatten(), axes[0]) if axes else (flat.reshape(()), None)


def _add(left: Tensor | None, right: Tensor | None, alpha: float) -> Spelled:
    """x + alpha y."""
    return (1.0, alpha * right) if right is not None else (alpha, left)


def _sub(left: Tensor | None, right: Tensor | None, alpha: float) -> Spelled:
    """x - alpha y."""
    return (1.0, -alpha * right) if right is not None else (-alpha, left)


def _rsub(left: Tensor | None, right: Tensor | None, alpha: float) -> Spelled:
    """y - alpha x."""
    return (-alpha, right) if right is not None else (1.0, None if left is None else -alpha * left)


def _mul(left: Tensor | None, right: Tensor | None, alpha: float) -> Spelled:
    return (left if right is None else right, 0.0)


def _div(left: Tensor | None, right: Tensor | None, alpha: float) -> Spelled:
    """x / y; constant / x is not affine, and neither is a division by zero."""
    return (1.0 / right, 0.0) if right is not None and bool(torch.all(right != 0)) else None


_CONVS = (
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.conv1d.padding,
    aten.conv2d.padding,
    aten.conv3d.padding,
    aten.convolution.default,
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
)

_POOL_AXES: dict[Any, int] = {
    aten.avg_pool1d.default: 1,
    aten.avg_pool2d.default: 2,
    aten.avg_pool3d.default: 3,
}

_READERS: dict[Any, Reader] = {
    bordered_conv: _read_bordered,
    circular_pad: _read_circular_pad,
    spectral_conv: _read_spectral,
    **dict.fromkeys(_CONVS, _read_conv),
    aten.linear.default: _read_linear,
    aten.matmul.default: _read_matmul,
    aten.mm.default: _read_matmul,
    aten.pixel_shuffle.default: _read_pixel_shuffle,
    aten.adaptive_avg_pool1d.default: _read_global_mean,
    aten.adaptive_avg_pool2d.default: _read_global_mean,
    aten.adaptive_avg_pool3d.default: _read_global_mean,
    aten.mean.dim: _read_global_mean,
    aten.flatten.using_ints: _read_flatten,
    aten.avg_pool1d.default: _read_avg_pool,
    aten.avg_pool2d.default: _read_avg_pool,
    aten.avg_pool3d.default: _read_avg_pool,
    aten.batch_norm.default: _read_batch_norm,
    aten.dropout.default: _read_identity,
    aten.feature_dropout.default: _read_identity,
    aten.alpha_dropout.default: _read_identity,
    aten.feature_alpha_dropout.default: _read_identity,
    aten.alias.default: _read_identity,
    aten.pad.default: _read_pad,
    aten.constant_pad_nd.default: _read_pad,
    **dict.fromkeys((aten.add.Tensor, aten.add.Scalar), _read_arithmetic(_add)),
    **dict.fromkeys((aten.sub.Tensor, aten.sub.Scalar), _read_arithmetic(_sub)),
    **dict.fromkeys((aten.subtract.Tensor, aten.subtract.Scalar), _read_arithmetic(_sub)),
    **dict.fromkeys((aten.rsub.Tensor, aten.rsub.Scalar), _read_arithmetic(_rsub)),
    **dict.fromkeys((aten.mul.Tensor, aten.mul.Scalar), _read_arithmetic(_mul)),
    **dict.fromkeys((aten.multiply.Tensor, aten.multiply.Scalar), _read_arithmetic(_mul)),
    **dict.fromkeys((aten.div.Tensor, aten.div.Scalar), _read_arithmetic(_div)),
    **dict.fromkeys((aten.divide.Tensor, aten.divide.Scalar), _read_arithmetic(_div)),
    **dict.fromkeys((aten.true_divide.Tensor, aten.true_divide.Scalar), _read_arithmetic(_div)),
}
