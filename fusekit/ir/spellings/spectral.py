"""Convolutions by transforms: the call of `spectral_conv`, and the layers `fusekit.nn.FFTConv1d` and so on."""

from typing import Any

import torch
from torch import fx, nn

from fusekit.algebra import SpectralConv
from fusekit.algebra.pad import flat_padding
from fusekit.algebra.transforms.spectral_conv import spectral_conv, spectral_of
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reading, weight_and_bias
from fusekit.ir.spellings.conv import constant_of, empty_layer, named_padding, weights_by_name
from fusekit.ir.spellings.pads import pad_first
from fusekit.ir.spellings.table import Call, CalledLayer, Layer, Spelling
from fusekit.nn import FFTConv1d, FFTConv2d, FFTConv3d, FFTConvTranspose1d, FFTConvTranspose2d, FFTConvTranspose3d

aten = torch.ops.aten

_LAYERS: tuple[type[nn.Module], ...] = (FFTConv1d, FFTConv2d, FFTConv3d)
_TRANSPOSED_LAYERS: tuple[type[nn.Module], ...] = (FFTConvTranspose1d, FFTConvTranspose2d, FFTConvTranspose3d)


def _write(graph: Graph, value: SpectralConv, source: fx.Node, name: str) -> list[fx.Node]:
    """A padding that no layer can have is a pad of its own."""
    nodes: list[fx.Node] = []
    conv, padding = value.conv, value.conv.padding
    if not (conv.transposed or conv.pads_same or all(low == high >= 0 for low, high in padding)):
        first, common = conv.symmetric_padding()
        nodes.append(graph.fx.call_function(aten.constant_pad_nd.default, (source, flat_padding(first))))
        source, padding = nodes[-1], tuple((amount, amount) for amount in common)
    weight, bias = constant_of(graph, conv.weight, f"{name}.weight"), constant_of(graph, conv.bias, f"{name}.bias")
    geometry = (conv.stride, padding, conv.dilation, conv.groups, conv.transposed, conv.output_padding)
    return [*nodes, graph.fx.call_function(spectral_conv, (source, weight, bias, *geometry))]


def _read(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    value, source = _value(graph, node), node.args[0]
    return Reading(value, source) if value is not None and isinstance(source, fx.Node) else None


def _value(graph: Graph, node: fx.Node) -> SpectralConv | None:
    _, weight, bias, *geometry = node.args
    weights = weight_and_bias(graph, weight, bias)
    shaped: list[Any] = geometry
    return None if weights is None else spectral_of(*weights, *shaped)


def _emit(graph: Graph, node: fx.Node) -> Layer | None:
    value = _value(graph, node)
    if value is None:
        return None
    conv = value.conv
    alike = all(low == high for low, high in conv.padding)
    padding = tuple(low for low, _ in conv.padding) if alike else "same"
    kind = (_TRANSPOSED_LAYERS if conv.transposed else _LAYERS)[conv.n - 1]
    return Layer(empty_layer(kind, conv, padding), weights_by_name(graph, *node.args[1:3]))


def _call(call: CalledLayer) -> Call:
    layer = call.module
    x, padding = pad_first(call)
    if isinstance(padding, str):
        pairs = named_padding(padding, layer.kernel_size, layer.dilation)
    else:
        pairs = tuple((amount, amount) for amount in padding)
    return spectral_conv, (x, call.own("weight"), call.own("bias"), layer.stride, pairs, layer.dilation, layer.groups)


def _call_transposed(call: CalledLayer) -> Call:
    layer = call.module
    pairs = tuple((amount, amount) for amount in layer.padding)
    geometry = (layer.stride, pairs, layer.dilation, layer.groups, True, layer.output_padding)
    return spectral_conv, (call.x, call.own("weight"), call.own("bias"), *geometry)


SPELLING = Spelling(
    written={SpectralConv: _write},
    read={spectral_conv: _read},
    emitted={spectral_conv: _emit},
    called={**dict.fromkeys(_LAYERS, _call), **dict.fromkeys(_TRANSPOSED_LAYERS, _call_transposed)},
)
