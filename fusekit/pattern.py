"""What may match, and the function each pattern stands for.

A pattern names the kinds of maps; the maps found, inner first... outer last, are the arguments of the law, outermost
first, as the law is written: `Compose(Affine, Conv)` matches a(c(x)) and hands `propose(a, c)` its two maps.
"""

import operator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import fx

from fusekit.algebra import Map
from fusekit.graph import Graph, evaluate
from fusekit.view import read


@dataclass(frozen=True)
class Match:
    """A region that reads as the pattern: its input (None: it has none), its nodes in order, last the output, and its
    maps, outer first."""

    source: fx.Node | None
    nodes: tuple[fx.Node, ...]
    maps: tuple[Any, ...]

    @property
    def output(self) -> fx.Node:
        return self.nodes[-1]


class Pattern(Protocol):
    """A shape of region, found from its output node."""

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        """The region that ends at this node, or None."""
        ...


class Compose:
    """m1 ∘ m2 ∘ ... ∘ mk on a chain of nodes."""

    def __init__(self, *kinds: type[Map]) -> None:
        self.kinds = kinds

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        node, maps, nodes = output, [], []
        for kind in self.kinds:
            reading = read(graph, node)
            if reading is None or not reading.is_a(kind):
                return None
            maps.append(reading.map)
            nodes.append(node)
            node = reading.source
        return Match(node, tuple(reversed(nodes)), tuple(maps))

    def __str__(self) -> str:
        return " ∘ ".join(kind.__name__ for kind in self.kinds)


@dataclass(frozen=True)
class Deferred:
    """An expression not yet computed: its nodes, and how many numbers it is made of."""

    graph: Graph
    nodes: tuple[fx.Node, ...]
    entries: int

    def value(self) -> Any:
        """What the expression evaluates to, in its own dtype."""
        return evaluate(self.graph, self.nodes, {})[self.nodes[-1]]


class Expression:
    """A value computed from constants alone, where something that is not such a value reads it."""

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        if not is_expression(graph, output) or all(is_expression(graph, user) for user in output.users):
            return None
        nodes = _expression_nodes(output)
        sources = {source for node in nodes for source in node.all_input_nodes if source.op == "get_attr"}
        if not sources:
            return None
        entries = sum(graph.constants[str(source.target)].numel() for source in sources)
        return Match(None, nodes, (Deferred(graph, nodes, entries),))

    def __str__(self) -> str:
        return "Expression"


def is_expression(graph: Graph, node: fx.Node) -> bool:
    """Constants, and pure functions of them. Remembered at the node: asked in order, it looks one step back."""
    known = node.meta.get("expression")
    if known is None:
        known = node.op == "get_attr" or (
            _is_pure(node) and all(is_expression(graph, source) for source in node.all_input_nodes)
        )
        node.meta["expression"] = known
    return bool(known)


def _is_pure(node: fx.Node) -> bool:
    """ATen overloads that write nowhere and draw no random numbers, and element access on what they return."""
    if node.op != "call_function":
        return False
    if isinstance(node.target, torch._ops.OpOverload):
        return not node.target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in node.target.tags
    return node.target is operator.getitem


def _expression_nodes(output: fx.Node) -> tuple[fx.Node, ...]:
    """The operators of an expression, in execution order."""
    found: dict[fx.Node, None] = {}
    stack = [output]
    while stack:
        node = stack.pop()
        if node.op != "get_attr" and node not in found:
            found[node] = None
            stack.extend(node.all_input_nodes)
    return tuple(sorted(found))
