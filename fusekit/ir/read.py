"""Reads nodes as algebra: with `write.py` the only file that knows argument order and layouts of operators.

A node *reads* as a map if, its constants given, it is that function of one tensor. What is not in the table does not
read, and stays as it is. The spelling is ATen overloads; `capture` brings every model to it.
"""

from typing import Any

import torch
from torch import Tensor, fx

from fusekit.algebra import (
    Affine,
    AppendOnes,
    AvgPool,
    Conv,
    EdgePad,
    Flatten,
    GlobalMean,
    GroupedLinear,
    Identity,
    Mixing,
    Pad,
    PixelShuffle,
)
from fusekit.algebra.bordered import bordered_conv, bordered_of
from fusekit.algebra.edge import circular_pad
from fusekit.algebra.map import Pairs, Shape
from fusekit.algebra.products.mixing import grouped_linear, mix
from fusekit.algebra.transforms.spectral_conv import spectral_conv, spectral_of
from fusekit.ir.arithmetic import ARITHMETIC
from fusekit.ir.elementwise import read_activation
from fusekit.ir.facts import facts
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reader, Reading, Unread

aten = torch.ops.aten


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


def _read_mix(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    source, matrix, bias, n, reads_inner, writes_inner = node.args
    values = graph.constant(matrix), graph.constant(bias)
    if values[0] is None or (values[1] is None and bias is not None) or not isinstance(source, fx.Node):
        return None
    layout: Any = (reads_inner, writes_inner)
    return Reading(Mixing(values[0], int(n), values[1], *layout), source)  # type: ignore[arg-type]


def _read_grouped_linear(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    source, weight, bias = node.args
    values = graph.constant(weight), graph.constant(bias)
    if values[0] is None or (values[1] is None and bias is not None) or not isinstance(source, fx.Node):
        return None
    return Reading(GroupedLinear(values[0], values[1]), source)


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
    grouped_linear: _read_grouped_linear,
    mix: _read_mix,
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
    **ARITHMETIC,
}
