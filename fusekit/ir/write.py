"""Writes algebra as nodes, in the spelling that `read.py` reads back.

Compositions and combinations of maps are written here; how a single kind of map is written is in its file in
`spellings`.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import torch
from torch import fx

from fusekit.algebra import Combination, Composition, Constant, Map, Split
from fusekit.ir.facts import Facts, Known, facts, note, supply
from fusekit.ir.graph import Graph
from fusekit.ir.spellings import SPELLINGS

aten = torch.ops.aten


def write(graph: Graph, value: Map | Combination, sources: Sequence[fx.Node], names: Sequence[str]) -> list[fx.Node]:
    """Write nodes that compute the value at the insertion point, and return them; the last one is the output.

    Args:
        graph: where the nodes are written and their constants are registered.
        value: what to write.
        sources: the nodes that the value reads.
        names: module paths to name the nodes after. For a combination: one for each branch; the last one also serves
            for all further branches. For a composition: one for each map that has constants, or one for each map; if
            their number is neither, the first one serves for all.

    The list is empty if the value is the identity of its first source. For a split, the last nodes of the list are its
    parts.
    """
    return _write(value, _Place(graph, tuple(sources), tuple(names)))


@dataclass(frozen=True)
class _Place:
    """Where nodes are written: what they read, and the paths they are named after."""

    graph: Graph
    sources: tuple[fx.Node, ...]
    names: tuple[str, ...]


@singledispatch
def _write(value: Any, place: _Place) -> list[fx.Node]:
    """Write one map, by the writer in its own file of `spellings`."""
    source = place.sources[0]
    nodes = SPELLINGS.writer(value)(place.graph, value, source, place.names[0])
    for node in nodes:
        note(node, Known(where=place.names[0]))
    if nodes and (seen := facts(source)).shape is not None:
        supply(nodes[-1], Known(facts=Facts(value.output_sizes(seen.shape), seen.dtype)))
    return nodes


@_write.register
def _(value: Composition, place: _Place) -> list[fx.Node]:
    maps = value.maps[::-1]
    weighted = sum(bool(each.constants()) for each in maps)
    paths = iter(place.names if len(place.names) == weighted else place.names[:1] * weighted)
    one_each = iter(place.names) if len(place.names) == len(maps) > weighted else None
    nodes: list[fx.Node] = []
    for each in maps:
        path = next(one_each) if one_each else next(paths) if each.constants() else place.names[0]
        nodes += _write(each, replace(place, sources=tuple(nodes[-1:]) or place.sources, names=(path,)))
    return nodes


@_write.register
def _(value: Constant, place: _Place) -> list[fx.Node]:
    return [place.graph.add_constant(value.value, place.names[0])]


@_write.register
def _(value: Split, place: _Place) -> list[fx.Node]:
    call = place.graph.fx.call_function
    nodes = _write(value.conv, place)
    sizes = (nodes[-1], list(value.sizes), value.conv.channel_axis)
    parts = call(aten.split_with_sizes.default, sizes)
    return [*nodes, parts, *(call(operator.getitem, (parts, index)) for index in range(len(value.sizes)))]


@_write.register
def _(value: Combination, place: _Place) -> list[fx.Node]:
    call = place.graph.fx.call_function
    nodes: list[fx.Node] = []
    ends: list[fx.Node] = []
    for index, term in enumerate(value.terms):
        source, name = place.sources[term.source], place.names[min(index, len(place.names) - 1)]
        branch = _write(term.map, replace(place, sources=(source,), names=(name,)))
        ends.append(branch[-1] if branch else source)
        nodes += branch
    total = ends[0]
    if value.axis is not None and len(ends) > 1:
        total = call(aten.cat.default, (ends, value.axis))
        nodes.append(total)
    else:
        for end in ends[1:]:
            total = call(aten.add.Tensor, (total, end))
            nodes.append(total)
    return [*nodes, *_write(value.after, replace(place, sources=(total,)))]
