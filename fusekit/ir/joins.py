"""Finds sums and concatenations of linear branches in a graph.

A branch is followed from its end backwards, as long as its nodes can be read as linear maps of one tensor. Every node
on the way is a candidate for the source that the branches share. A branch that shares no source with the others is not
followed: its end becomes a source of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fusekit.algebra import Affine, AvgPool, Conv, Cut, Identity, Map, Pad
from fusekit.algebra.combination import Combination, Term
from fusekit.algebra.composition import Composition
from fusekit.ir.facts import facts
from fusekit.ir.graph import Graph
from fusekit.ir.read import read
from fusekit.ir.reading import Unread, bind

aten = torch.ops.aten
_LINEAR = (Affine, AvgPool, Conv, Cut, Identity, Pad)


@dataclass(frozen=True)
class Branch:
    """Nodes and maps from the end of a branch back to its source, outermost first."""

    source: fx.Node
    nodes: tuple[fx.Node, ...]
    maps: tuple[Map, ...]


def walk_back(graph: Graph, end: fx.Node) -> list[Branch]:
    """All branches that end at this node: with no nodes (the end is its own source), with one node, with two, ..."""
    found = [Branch(end, (), ())]
    while True:
        last = found[-1]
        reading = read(graph, last.source)
        if reading is None or isinstance(reading.map, Unread) or not isinstance(reading.map, _LINEAR):
            return found
        if last.nodes and set(last.source.users) - {last.nodes[-1]} and reading.map.is_weighted():
            return found  # others read this value: it must be computed anyway, so folding it saves nothing
        found.append(Branch(reading.source, (*last.nodes, last.source), (*last.maps, reading.map)))


def share_source(graph: Graph, ends: Sequence[fx.Node]) -> list[Branch]:
    """One branch for each end: from the source that most ends share, or an empty branch if this end does not share
    it."""
    walks = [walk_back(graph, end) for end in ends]
    counts: dict[fx.Node, int] = {}
    for walk in walks:
        for node in {branch.source for branch in walk}:
            counts[node] = counts.get(node, 0) + 1
    best = max(counts, key=lambda node: (counts[node], node))
    if counts[best] < 2:
        return [walk[0] for walk in walks]
    return [next((b for b in walk if b.source is best), walk[0]) for walk in walks]


def addends(graph: Graph, output: fx.Node) -> tuple[list[fx.Node], list[fx.Node]] | None:
    """(leaves, additions) of the tree of additions with this root. None if the node is no addition, or if it belongs
    to a larger tree."""
    if not _is_addition(output) or any(_is_addition(user) and len(output.users) == 1 for user in output.users):
        return None
    leaves: list[fx.Node] = []
    additions: list[fx.Node] = []
    stack = [output]
    while stack:
        node = stack.pop()
        if node is output or (_is_addition(node) and len(node.users) == 1):
            additions.append(node)
            stack.extend(reversed(node.args[:2]))  # type: ignore[arg-type]
        else:
            leaves.append(node)
    return leaves, sorted(additions)


def _is_addition(node: fx.Node) -> bool:
    """A plain sum of two tensors of equal shape, neither of them a constant."""
    if node.target is not aten.add.Tensor or node.kwargs or len(node.args) > 2:
        return False
    left, right = node.args[:2]
    if not isinstance(left, fx.Node) or not isinstance(right, fx.Node) or "get_attr" in (left.op, right.op):
        return False
    known = [facts(operand).shape for operand in (left, right)]
    # Only known ranks can be compared. Where one is unknown, broadcasting cannot be excluded here.
    return None in known or len(known[0] or ()) == len(known[1] or ())


def concatenated(graph: Graph, output: fx.Node) -> tuple[list[fx.Node], int] | None:
    """(parts, axis) of a concatenation of tensors of known rank; the axis is negative. None for any other node."""
    if output.target is not aten.cat.default:
        return None
    a = bind(output)
    parts: Any = a["tensors"]
    ranks = {facts(part).rank for part in (*parts, output) if facts(part).rank is not None}
    if len(ranks) != 1 or not all(isinstance(part, fx.Node) and part.op != "get_attr" for part in parts):
        return None
    dim = a["dim"]
    return list(parts), dim if dim < 0 else dim - ranks.pop()


def combination(branches: Iterable[Branch], axis: int | None) -> tuple[Combination, tuple[fx.Node, ...]]:
    """The branches as one algebraic value, and their sources, the one shared by most first. `axis`: where they are
    concatenated; None if they are added."""
    branches = list(branches)
    counts = [sum(other.source is branch.source for other in branches) for branch in branches]
    first = branches[counts.index(max(counts))].source
    sources = tuple(dict.fromkeys((first, *(branch.source for branch in branches))))
    terms = tuple(Term(sources.index(branch.source), Composition(branch.maps)) for branch in branches)
    return Combination(terms, axis), sources
