"""Patterns: which regions of a graph a law may apply to.

A pattern names kinds of maps. The maps that it finds become the arguments of the law, outermost first, in the order in
which the law is written: `Compose(Affine, Conv)` matches a(c(x)), and the driver calls `propose(a, c)`.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import fx

from fusekit.algebra import Conv, Fork, Map
from fusekit.errors import Inapplicable
from fusekit.ir import Graph, Known, Unread, evaluate, known, note
from fusekit.ir.joins import Branch, addends, combination, concatenated, share_source, walk_back
from fusekit.ir.read import read
from fusekit.rewriting.spoiled import has_finite_constants


@dataclass(frozen=True)
class Match:
    """A region that matches a pattern.

    `sources`: its inputs; empty for an expression of constants.
    `nodes`: its nodes in execution order; the last one is the output.
    `maps`: the arguments of the law.
    `branches`: the branches of a sum or concatenation, each with its nodes.
    `several`: True if every node is an output, as for siblings that read one tensor.
    """

    sources: tuple[fx.Node, ...]
    nodes: tuple[fx.Node, ...]
    maps: tuple[Any, ...]
    branches: tuple[Branch, ...] = ()
    several: bool = False

    @property
    def source(self) -> fx.Node | None:
        """The first input (a chain has only one); None for an expression of constants."""
        return self.sources[0] if self.sources else None

    @property
    def output(self) -> fx.Node:
        """The output; the last one if there are several."""
        return self.nodes[-1]

    @property
    def outputs(self) -> tuple[fx.Node, ...]:
        return self.nodes if self.several else self.nodes[-1:]


class Pattern(Protocol):
    """A kind of region, found from its output node."""

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        """The region that ends at this node, or None."""
        ...


class Compose:
    """A chain of nodes m1 ∘ m2 ∘ ... ∘ mk of these kinds of maps. `when(*maps)` may exclude maps for which the law has
    nothing to do."""

    def __init__(self, *kinds: type[Map], when: Callable[..., bool] | None = None) -> None:
        self.kinds, self.when = kinds, when

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        node, maps, nodes = output, [], []
        for kind in self.kinds:
            reading = read(graph, node)
            if reading is None or not reading.is_a(kind):
                return None
            maps.append(reading.map)
            nodes.append(node)
            node = reading.source
        readable = not any(isinstance(value, Unread) for value in maps)
        if self.when is not None and not (readable and self.when(*maps)):
            return None
        return Match((node,), tuple(reversed(nodes)), tuple(maps))

    def __str__(self) -> str:
        return " ∘ ".join(kind.__name__ for kind in self.kinds)


class Row:
    """The longest chain of maps of one kind, of at least two, found from the last one. The value of each map is read
    only by the next map; the value of the first (innermost) map may have other readers too. `alike`: a property that
    neighbours must share if the chain is to be longer than two."""

    def __init__(self, kind: type[Map], alike: Callable[[Any], object] = type) -> None:
        self.kind, self.alike = kind, alike

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        users = list(output.users)
        last = self._reads(graph, output)
        behind = self._reads(graph, users[0]) if len(users) == 1 else None
        if last is None or (behind is not None and self.alike(behind[0]) == self.alike(last[0])):
            return None
        nodes, maps, node = [output], [last[0]], last[1]
        while (found := self._reads(graph, node)) is not None:
            same = self.alike(found[0]) == self.alike(maps[-1])
            if not same and len(nodes) > 1:
                break
            nodes.append(node)
            maps.append(found[0])
            if not same or len(node.users) > 1:
                break
            node = found[1]
        source = read(graph, nodes[-1])
        return Match((source.source,), tuple(reversed(nodes)), tuple(maps)) if source and len(nodes) > 1 else None

    def _reads(self, graph: Graph, node: fx.Node) -> tuple[Map, fx.Node] | None:
        reading = read(graph, node)
        if reading is None or isinstance(reading.map, Unread) or not isinstance(reading.map, self.kind):
            return None
        return reading.map, reading.source

    def __str__(self) -> str:
        return f"{self.kind.__name__} ∘ ... ∘ {self.kind.__name__}"


class Siblings:
    """Convolutions with one group and equal geometry that read the same tensor, found from the last of them."""

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        own = self._conv(graph, output)
        if own is None or len(own[1].users) < 2:
            return None
        first, source = own
        found = {node: conv for node in sorted(source.users) if (conv := self._conv(graph, node))}
        alike = {node: conv for node, (conv, read_from) in found.items() if read_from is source and _alike(conv, first)}
        if len(alike) < 2 or next(reversed(alike)) is not output:
            return None
        return Match((source,), tuple(alike), (Fork(tuple(alike.values())),), several=True)

    @staticmethod
    def _conv(graph: Graph, node: fx.Node) -> tuple[Conv, fx.Node] | None:
        reading = read(graph, node)
        plain = reading is not None and isinstance(reading.map, Conv) and reading.map.groups == 1
        return (reading.map, reading.source) if plain else None  # type: ignore[union-attr, return-value]

    def __str__(self) -> str:
        return "Conv, ..., Conv of one tensor"


def _alike(a: Conv, b: Conv) -> bool:
    """Whether window, stride, padding, dilation and kind of two convolutions are equal."""
    geometries = ((c.n, c.window, c.stride, c.padding, c.dilation, c.transposed, c.output_padding) for c in (a, b))
    return next(geometries) == next(geometries)


class Having:
    """A single map to which `law` applies. Where `law` raises Inapplicable there is no match, so no refusal is
    reported."""

    def __init__(self, kind: type[Map], law: Callable[[Any], object]) -> None:
        self.kind, self.law = kind, law

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        reading = read(graph, output)
        if reading is None or type(reading.map) is not self.kind or not has_finite_constants(reading.map):
            return None
        try:
            self.law(reading.map)
        except Inapplicable:
            return None
        return Match((reading.source,), (output,), (reading.map,))

    def __str__(self) -> str:
        return f"{self.kind.__name__} with {self.law.__name__} form"


class Sum:
    """A sum of branches, two or more of which start from one tensor."""

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        found = addends(graph, output)
        return None if found is None else _joined(share_source(graph, found[0]), found[1], None)

    def __str__(self) -> str:
        return "Σ"


class Concat:
    """A concatenation of branches along their channels, two or more of which start from one tensor."""

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        found = concatenated(graph, output)
        return None if found is None else _joined(share_source(graph, found[0]), [output], found[1])

    def __str__(self) -> str:
        return "concat"


class AfterConcat:
    """A map applied to a concatenation of convolutions, along the axis on which the map acts."""

    def __init__(self, kind: type[Map]) -> None:
        self.kind = kind

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        reading = read(graph, output)
        if reading is None or not reading.is_a(self.kind):
            return None
        found = concatenated(graph, reading.source)
        if found is None or self._axis(reading.map) not in (None, found[1]):
            return None
        walks = [walk_back(graph, part) for part in found[0]]
        chosen = [walk[min(1, len(walk) - 1)] for walk in walks]
        starts = {branch.source for branch in chosen}  # a part that another one is made of is where both start
        chosen = [walk[0] if walk[0].source in starts else branch for walk, branch in zip(walks, chosen, strict=True)]
        match = _joined(chosen, [reading.source, output], found[1], shared=1)
        return None if match is None else replace(match, maps=(reading.map, *match.maps))

    @staticmethod
    def _axis(value: Any) -> int | None:
        axis: int | None = value.channel_axis if isinstance(value, Conv) else getattr(value, "axis", None)
        return axis

    def __str__(self) -> str:
        return f"{self.kind.__name__} ∘ concat"


def _joined(branches: list[Branch], joints: list[fx.Node], axis: int | None, shared: int = 2) -> Match | None:
    """The match of branches and of the nodes that join them (`joints`). None if fewer than `shared` branches have the
    same source, or if no branch has a node."""
    whole, sources = combination(branches, axis)
    if sum(branch.source is sources[0] for branch in branches) < shared or not any(b.nodes for b in branches):
        return None
    nodes = dict.fromkeys(node for branch in branches for node in branch.nodes)
    if not nodes.keys().isdisjoint(sources):
        return None  # one branch starts inside another, so one source would depend on another
    return Match(sources, tuple(dict.fromkeys((*sorted(nodes), *joints))), (whole,), tuple(branches))


@dataclass(frozen=True)
class Deferred:
    """An expression that is not evaluated yet: its nodes, and the number of entries of the constants it reads."""

    graph: Graph
    nodes: tuple[fx.Node, ...]
    entries: int

    def value(self) -> Any:
        """The value of the expression, in its own dtype."""
        return evaluate(self.graph, self.nodes, {})[self.nodes[-1]]


class Expression:
    """A value computed from constants only, that is read by at least one node that is not."""

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        if not is_expression(graph, output) or all(is_expression(graph, user) for user in output.users):
            return None
        nodes = _expression_nodes(output)
        sources = {source for node in nodes for source in node.all_input_nodes if source.op == "get_attr"}
        if not sources:
            return None
        entries = sum(graph.constants[str(source.target)].numel() for source in sources)
        return Match((), nodes, (Deferred(graph, nodes, entries),))

    def __str__(self) -> str:
        return "Expression"


def is_expression(graph: Graph, node: fx.Node) -> bool:
    """Whether a node is a constant or a pure function of constants. The answer is stored at the node, so that asking
    for all nodes in order takes linear time."""
    answer = known(node).expression
    if answer is None:
        answer = node.op == "get_attr" or (
            _is_pure(node) and all(is_expression(graph, source) for source in node.all_input_nodes)
        )
        note(node, Known(expression=answer))
    return answer


def _is_pure(node: fx.Node) -> bool:
    """Whether a node is an ATen overload without side effects and random numbers, or takes an item of a result."""
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
