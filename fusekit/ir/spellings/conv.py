"""Convolutions and linear layers, as torch's operators of these names and as its layers."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from fusekit.algebra import Conv, Shape
from fusekit.algebra.map import Pairs
from fusekit.algebra.pad import flat_padding
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reading, bind, listed, static, weight_and_bias
from fusekit.ir.spellings.pads import pad_first
from fusekit.ir.spellings.table import Call, CalledLayer, Layer, Spelling

aten = torch.ops.aten

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED_LAYERS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
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


def write_conv(graph: Graph, value: Conv, source: fx.Node, name: str) -> list[fx.Node]:
    """With its weights as new constants."""
    weight = graph.add_constant(value.weight, f"{name}.weight")
    bias = None if value.bias is None else graph.add_constant(value.bias, f"{name}.bias")
    return write_call(graph, value, source, weight, bias)


def write_call(
    graph: Graph, value: Conv, source: fx.Node, weight: fx.Node | None, bias: fx.Node | None
) -> list[fx.Node]:
    """With these weights. Padding that differs between the sides is a pad of its own in torch."""
    if value.n == 0:
        return [graph.fx.call_function(aten.linear.default, (source, weight, bias))]
    if value.transposed:
        padding = [low for low, _ in value.padding]
        geometry = (value.stride, padding, value.output_padding, value.groups, value.dilation)
        return [graph.fx.call_function(*transposed_call(value.n, source, weight, bias, *geometry))]
    first, common = value.symmetric_padding()
    nodes = []
    if any(pair != (0, 0) for pair in first):
        nodes.append(graph.fx.call_function(aten.constant_pad_nd.default, (source, flat_padding(first))))
    x = nodes[-1] if nodes else source
    call = conv_call(value.n, x, weight, bias, value.stride, common, value.dilation, value.groups)
    return [*nodes, graph.fx.call_function(*call)]


def constant_of(graph: Graph, tensor: Tensor | None, name: str) -> fx.Node | None:
    """The constant that this tensor is, or a new one: a realization computes with the numbers that are there, shared
    with whoever shares them."""
    if tensor is None:
        return None
    for known, value in graph.constants.items():
        alike = value.shape == tensor.shape and value.dtype == tensor.dtype and value.stride() == tensor.stride()
        if alike and value.data_ptr() == tensor.data_ptr():
            return graph.fx.create_node("get_attr", known, name=known.replace(".", "_"))
    return graph.add_constant(tensor, name)


def _weights(graph: Graph, a: Arguments) -> tuple[Tensor, Tensor | None] | None:
    weights = weight_and_bias(graph, a["weight"], a["bias"])
    return weights if weights is not None and all(map(_is_floating, weights)) else None


def _is_floating(tensor: Tensor | None) -> bool:
    return tensor is None or tensor.is_floating_point() or tensor.is_complex()


def _read_conv(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    conv = _conv(graph, a)
    return None if conv is None else Reading(conv, a["input"])


def _conv(graph: Graph, a: Arguments) -> Conv | None:
    weights = _weights(graph, a)
    if weights is None:
        return None
    n = weights[0].ndim - 2
    stride, dilation = static(a["stride"], n), static(a["dilation"], n)
    if stride is None or dilation is None:
        return None
    transposed = bool(a.get("transposed", "output_padding" in a))
    output_padding = static(a.get("output_padding", 0), n)
    padding = _padding(a["padding"], weights[0].shape[2:], dilation)
    if padding is None or output_padding is None:
        return None
    return Conv.from_torch(
        *weights,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=a["groups"],
        transposed=transposed,
        output_padding=output_padding if transposed else (),
    )


def _padding(padding: Any, window: Shape, dilation: Shape) -> Pairs | None:
    if isinstance(padding, str):
        return named_padding(padding, window, dilation)
    amounts = static(padding, len(window))
    return None if amounts is None else tuple((amount, amount) for amount in amounts)


def named_padding(padding: str, window: Shape, dilation: Shape) -> Pairs:
    """'valid' pads nothing; 'same' pads d (k - 1) in all, the odd one on the high side."""
    totals = [0 if padding == "valid" else d * (k - 1) for d, k in zip(dilation, window, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def _read_linear(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    linear = _linear(graph, a)
    return None if linear is None else Reading(linear, a["input"])


def _linear(graph: Graph, a: Arguments) -> Conv | None:
    weights = _weights(graph, a)
    return None if weights is None or weights[0].ndim != 2 else Conv.from_torch(*weights)


def _read_matmul(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """x W with a constant W [in, out]: a linear layer spelled by hand."""
    left, right = a["self"], a["other"] if "other" in a else a["mat2"]
    weight = graph.constant(right)
    if weight is None or weight.ndim != 2 or not _is_floating(weight) or graph.constant(left) is not None:
        return None
    return Reading(Conv.from_torch(weight.t(), None), left)


def _read_einsum(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """A constant matrix on the last axis, or on the one behind the batch: "bchw,oc->bohw"."""
    if len(a["tensors"]) != 2:
        return None
    first, second = a["tensors"]
    words, _, made = a["equation"].replace(" ", "").partition("->")
    names = words.split(",")
    if graph.constant(second) is None:
        first, second, names = second, first, names[::-1]
    weight = graph.constant(second)
    if weight is None or weight.ndim != 2 or not _is_floating(weight) or graph.constant(first) is not None:
        return None
    given, matrix = names
    inner, outer = (set(matrix) & set(given)), (set(matrix) & set(made))
    if len(inner) != 1 or len(outer) != 1 or inner & set(made) or outer & set(given) or not given.isalpha():
        return None
    (i,), (o,), n = inner, outer, len(given) - 2
    if made != given.replace(i, o) or len(set(given)) < len(given) or len(made) != len(given):
        return None
    weight = weight if matrix == o + i else weight.t()
    if given.endswith(i):
        return Reading(Conv.from_torch(weight, None), first)
    if given.index(i) != 1 or n not in _CALLS:
        return None
    return Reading(Conv.from_torch(weight.reshape(*weight.shape, *(1,) * n), None), first)


def _emit_conv(graph: Graph, node: fx.Node) -> Layer | None:
    a = bind(node)
    conv = _conv(graph, a)
    if conv is None:
        return None
    given = a["padding"]
    padding = given if isinstance(given, str) else tuple(low for low, _ in conv.padding)
    kind = (_TRANSPOSED_LAYERS if conv.transposed else _LAYERS)[conv.n - 1]
    return Layer(empty_layer(kind, conv, padding), weights_by_name(graph, a["weight"], a["bias"]))


def _emit_linear(graph: Graph, node: fx.Node) -> Layer | None:
    a = bind(node)
    conv = _linear(graph, a)
    if conv is None:
        return None
    layer = nn.Linear(conv.in_channels, conv.out_channels, bias=conv.bias is not None, device="meta")
    return Layer(layer, weights_by_name(graph, a["weight"], a["bias"]))


def empty_layer(kind: Any, conv: Conv, padding: str | tuple[int, ...]) -> nn.Module:
    """A layer of this kind for a convolution, its parameters yet to be filled in."""
    options: dict[str, Any] = {"bias": conv.bias is not None, "device": "meta"}
    options |= {"stride": conv.stride, "padding": padding, "dilation": conv.dilation, "groups": conv.groups}
    options |= {"output_padding": conv.output_padding} if conv.transposed else {}
    layer: nn.Module = kind(conv.in_channels, conv.out_channels, conv.window, **options)
    return layer


def weights_by_name(graph: Graph, weight: object, bias: object) -> dict[str, Tensor]:
    """The constants of a layer with a weight and, maybe, a bias."""
    values = (("weight", graph.constant(weight)), ("bias", graph.constant(bias)))
    return {name: value for name, value in values if value is not None}


_CALLS = {1: aten.conv1d, 2: aten.conv2d, 3: aten.conv3d}
_TRANSPOSED = {1: aten.conv_transpose1d.default, 2: aten.conv_transpose2d.input, 3: aten.conv_transpose3d.input}


def conv_call(
    n: int,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Call:
    """`F.conv{n}d` as ATen's."""
    overload = _CALLS[n].padding if isinstance(padding, str) else _CALLS[n].default
    amounts = padding if isinstance(padding, str) else listed(padding)
    return overload, (input, weight, bias, listed(stride), amounts, listed(dilation), groups)


def transposed_call(
    n: int,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Call:
    """`F.conv_transpose{n}d` as ATen's."""
    geometry = (listed(stride), listed(padding), listed(output_padding), groups, listed(dilation))
    return _TRANSPOSED[n], (input, weight, bias, *geometry)


def _call(call: CalledLayer) -> Call:
    layer = call.module
    x, padding = pad_first(call)
    geometry = (layer.stride, padding, layer.dilation, layer.groups)
    return conv_call(len(layer.kernel_size), x, call.own("weight"), call.own("bias"), *geometry)


def _call_transposed(call: CalledLayer) -> Call:
    layer = call.module
    geometry = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
    return transposed_call(len(layer.kernel_size), call.x, call.own("weight"), call.own("bias"), *geometry)


def _call_linear(call: CalledLayer) -> Call:
    return aten.linear.default, (call.x, call.own("weight"), call.own("bias"))


SPELLING = Spelling(
    written={Conv: write_conv},
    read={
        **dict.fromkeys(_CONVS, _read_conv),
        aten.linear.default: _read_linear,
        aten.matmul.default: _read_matmul,
        aten.mm.default: _read_matmul,
        aten.einsum.default: _read_einsum,
    },
    emitted={**dict.fromkeys(_CONVS, _emit_conv), aten.linear.default: _emit_linear},
    called={
        **dict.fromkeys(_LAYERS, _call),
        **dict.fromkeys(_TRANSPOSED_LAYERS, _call_transposed),
        nn.Linear: _call_linear,
    },
)
