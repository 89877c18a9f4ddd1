"""Writes algebra as nodes, in the spelling that `view.py` reads back."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fusekit.algebra import (
    AppendOnes,
    BorderedConv,
    Combination,
    Composition,
    Constant,
    Conv,
    EdgePad,
    Elementwise,
    Flatten,
    GlobalMean,
    GroupedLinear,
    Identity,
    Map,
    Mixing,
    PixelShuffle,
    Relaid,
    SpectralConv,
    Split,
    WinogradConv,
)
from fusekit.algebra.bordered import bordered_conv, geometry_of
from fusekit.algebra.edge import circular_pad
from fusekit.algebra.layout import channels_first, channels_last
from fusekit.algebra.pad import flat_padding
from fusekit.algebra.products.mixing import grouped_linear, mix
from fusekit.algebra.products.winograd_conv import cut, join
from fusekit.algebra.transforms.spectral_conv import spectral_conv
from fusekit.ir.facts import Known, note
from fusekit.ir.graph import Graph

aten = torch.ops.aten


def write(graph: Graph, value: Map | Combination, sources: Sequence[fx.Node], names: Sequence[str]) -> list[fx.Node]:
    """Nodes that compute the value, at the insertion point, last the output; constants registered as they are.

    `names`: the paths for the branches of a combination, the last for all further ones; for the maps of a composition
    that have constants, if there are as many, else the first. An empty list of nodes: the value is its first source. A
    split ends in as many nodes as it has parts.
    """
    if isinstance(value, Combination):
        return _write_combination(graph, value, sources, names)
    if isinstance(value, Split):
        return _write_split(graph, value, sources, names)
    if isinstance(value, Constant):
        return [graph.add_constant(value.value, names[0])]
    maps = value.maps[::-1] if isinstance(value, Composition) else (value,)
    weighted = [each for each in maps if each.constants()]
    paths = iter(names if len(names) == len(weighted) else [names[0]] * len(weighted))
    nodes: list[fx.Node] = []
    for each in maps:
        path = next(paths) if each.constants() else names[0]
        written = _write_map(graph, each, nodes[-1] if nodes else sources[0], path)
        for node in written:
            note(node, Known(where=path))
        nodes += written
    return nodes


def _write_split(graph: Graph, value: Split, sources: Sequence[fx.Node], names: Sequence[str]) -> list[fx.Node]:
    nodes = write(graph, value.conv, sources, names[:1])
    sizes = (nodes[-1], list(value.sizes), value.conv.channel_axis)
    parts = graph.fx.call_function(aten.split_with_sizes.default, sizes)
    ends = [graph.fx.call_function(operator.getitem, (parts, index)) for index in range(len(value.sizes))]
    return [*nodes, parts, *ends]


def _write_combination(
    graph: Graph, value: Combination, sources: Sequence[fx.Node], names: Sequence[str]
) -> list[fx.Node]:
    nodes: list[fx.Node] = []
    ends: list[fx.Node] = []
    for index, term in enumerate(value.terms):
        branch = write(graph, term.map, [sources[term.source]], [names[min(index, len(names) - 1)]])
        ends.append(branch[-1] if branch else sources[term.source])
        nodes += branch
    total = ends[0]
    if value.axis is not None and len(ends) > 1:
        total = graph.fx.call_function(aten.cat.default, (ends, value.axis))
        nodes.append(total)
    else:
        for end in ends[1:]:
            total = graph.fx.call_function(aten.add.Tensor, (total, end))
            nodes.append(total)
    return [*nodes, *write(graph, value.after, [total], names)]


def _write_map(graph: Graph, value: Map, source: fx.Node, name: str) -> list[fx.Node]:
    """Padding that differs between the sides is a pad of its own in torch."""
    if isinstance(value, Identity):
        return []
    if isinstance(value, BorderedConv):
        return [_write_bordered(graph, value, source, name)]
    if isinstance(value, SpectralConv):
        return _write_spectral(graph, value.conv, source, name)
    if isinstance(value, Relaid):
        return _write_relaid(graph, value, source, name)
    if isinstance(value, WinogradConv):
        return _write_winograd(graph, value, source, name)
    if isinstance(value, Mixing):
        return [_write_mixing(graph, value, source, name)]
    if isinstance(value, GroupedLinear):
        weight = graph.add_constant(value.kernel, f"{name}.weight")
        bias = None if value.bias is None else graph.add_constant(value.bias, f"{name}.bias")
        return [graph.fx.call_function(grouped_linear, (source, weight, bias))]
    if isinstance(value, PixelShuffle):
        return [graph.fx.call_function(aten.pixel_shuffle.default, (source, value.factor))]
    if isinstance(value, Flatten):
        return [graph.fx.call_function(aten.flatten.using_ints, (source, 1, -1))]
    if isinstance(value, GlobalMean):
        means = (aten.adaptive_avg_pool1d, aten.adaptive_avg_pool2d, aten.adaptive_avg_pool3d)
        return [graph.fx.call_function(means[value.n - 1].default, (source, [1] * value.n))]
    if isinstance(value, EdgePad):
        if len(value.stages) > 1:
            return [graph.fx.call_function(circular_pad, (source, value.stages))]
        return [graph.fx.call_function(aten.pad.default, (source, flat_padding(value.stages[0]), value.mode))]
    if isinstance(value, Elementwise) and value.spelling is not None:
        kind, target = value.spelling
        return [graph.fx.create_node(kind, target, (source, *value.arguments), value.options)]
    if isinstance(value, AppendOnes):
        return [graph.fx.call_function(aten.constant_pad_nd.default, (source, value.amounts, 1.0))]
    if not isinstance(value, Conv):
        raise AssertionError(f"{type(value).__name__} has no spelling as an operator yet")
    weight = graph.add_constant(value.weight, f"{name}.weight")
    bias = None if value.bias is None else graph.add_constant(value.bias, f"{name}.bias")
    return _write_conv(graph, value, source, weight, bias)


def _write_conv(
    graph: Graph, value: Conv, source: fx.Node, weight: fx.Node | None, bias: fx.Node | None
) -> list[fx.Node]:
    if value.n == 0:
        return [graph.fx.call_function(aten.linear.default, (source, weight, bias))]
    if value.transposed:
        targets = (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
        padding = [low for low, _ in value.padding]
        shape = (list(value.stride), padding, list(value.output_padding), value.groups, list(value.dilation))
        return [graph.fx.call_function(targets[value.n - 1], (source, weight, bias, *shape))]
    first, common = value.symmetric_padding()
    nodes = []
    if any(pair != (0, 0) for pair in first):
        nodes.append(graph.fx.call_function(aten.constant_pad_nd.default, (source, flat_padding(first))))
    target = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)[value.n - 1]
    geometry = (list(value.stride), list(common), list(value.dilation), value.groups)
    nodes.append(graph.fx.call_function(target, (nodes[-1] if nodes else source, weight, bias, *geometry)))
    return nodes


def _write_bordered(graph: Graph, value: BorderedConv, source: fx.Node, name: str) -> fx.Node:
    def constant(tensor: Tensor | None, suffix: str) -> fx.Node | None:
        return None if tensor is None else graph.add_constant(tensor, f"{name}.{suffix}")

    folded, inner, outer = value.folded, value.inner, value.outer
    tensors = (
        constant(folded.weight, "weight"),
        constant(folded.bias, "bias"),
        constant(inner.weight, "inner_weight"),
        constant(inner.bias, "inner_bias"),
        constant(outer.weight, "outer_weight"),
    )
    geometry = (geometry_of(folded), geometry_of(inner), geometry_of(outer))
    return graph.fx.call_function(bordered_conv, (source, *tensors, geometry))


def _write_mixing(graph: Graph, value: Mixing, source: fx.Node, name: str) -> fx.Node:
    """The matrix belongs to the algorithm and does not train; the bias belongs to the layer."""
    matrix = graph.add_constant(value.matrix, f"{name}.mixing")
    note(matrix, Known(fixed=True))
    bias = None if value.bias is None else graph.add_constant(value.bias, f"{name}.bias")
    return graph.fx.call_function(mix, (source, matrix, bias, value.n, value.reads_inner, value.writes_inner))


def _write_winograd(graph: Graph, value: WinogradConv, source: fx.Node, name: str) -> list[fx.Node]:
    geometry = (value.conv.n, value.outputs, value.taps, *value.conv.padding[-1])
    nodes = [graph.fx.call_function(cut, (source, *geometry))]
    for each in (value.before, value.products, value.after):
        nodes += _write_map(graph, each, nodes[-1], name)
    return [*nodes, graph.fx.call_function(join, (nodes[-1], source, *geometry))]


def _known(graph: Graph, tensor: Tensor | None, name: str) -> fx.Node | None:
    """The constant that this tensor is, or a new one: a realization computes with the numbers that are there, shared
    with whoever shares them."""
    if tensor is None:
        return None
    for known, value in graph.constants.items():
        alike = value.shape == tensor.shape and value.dtype == tensor.dtype and value.stride() == tensor.stride()
        if alike and value.data_ptr() == tensor.data_ptr():
            return graph.fx.create_node("get_attr", known, name=known.replace(".", "_"))
    return graph.add_constant(tensor, name)


def _write_spectral(graph: Graph, conv: Conv, source: fx.Node, name: str) -> list[fx.Node]:
    """A padding that no layer can have is a pad of its own."""
    nodes = []
    padding = conv.padding
    if not (conv.transposed or conv.pads_same or all(low == high >= 0 for low, high in padding)):
        first, common = conv.symmetric_padding()
        nodes.append(graph.fx.call_function(aten.constant_pad_nd.default, (source, flat_padding(first))))
        source, padding = nodes[-1], tuple((amount, amount) for amount in common)
    weight, bias = _known(graph, conv.weight, f"{name}.weight"), _known(graph, conv.bias, f"{name}.bias")
    geometry = (conv.stride, padding, conv.dilation, conv.groups, conv.transposed, conv.output_padding)
    return [*nodes, graph.fx.call_function(spectral_conv, (source, weight, bias, *geometry))]


def _write_relaid(graph: Graph, value: Relaid, source: fx.Node, name: str) -> list[fx.Node]:
    nodes: list[fx.Node] = []

    def call(target: Any, *arguments: int) -> None:
        nodes.append(graph.fx.call_function(target, (nodes[-1] if nodes else source, *arguments)))

    if value.planar:
        call(aten.unsqueeze.default, -2)
    if value.channels_last:
        call(channels_last)
    inner = value.inner
    weight, bias = _known(graph, inner.weight, f"{name}.weight"), _known(graph, inner.bias, f"{name}.bias")
    nodes += _write_conv(graph, inner, nodes[-1], weight, bias)
    if value.channels_last:
        call(channels_first)
    if value.planar:
        call(aten.squeeze.dim, -2)
    return nodes
