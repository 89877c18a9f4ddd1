"""A matched region of a graph: its shapes, dtype, costs, probes, and the names for the nodes that replace it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fusekit.algebra import Combination, Fork, Map, Rates, Shape, Work
from fusekit.algebra.pad import pad_channels
from fusekit.errors import Inapplicable
from fusekit.ir import Graph, known, where
from fusekit.ir.facts import facts, sources_of
from fusekit.ir.read import read
from fusekit.rewriting.pattern import Match
from fusekit.rewriting.price import joint, nominal_shape, nominal_shapes, work_of_chain
from fusekit.rewriting.verify import probe_shapes, probe_shapes_of_branches


@dataclass(frozen=True, eq=False)
class Region:
    """The nodes of a match in their graph."""

    graph: Graph
    match: Match

    def dtype(self) -> torch.dtype | None:
        """The floating or complex dtype shared by the region's constants and inputs; None for an expression of
        constants, which keeps its dtypes. Raises Inapplicable if the dtypes differ."""
        if not self.match.sources:
            return None
        values = [
            self.graph.constants[str(node.target)]
            for node in constants_of(self.match.nodes)
            if not all(user.target is pad_channels for user in node.users)  # cast to whatever is padded
        ]
        dtypes = {v.dtype for v in values if v.ndim and (v.is_floating_point() or v.is_complex())}
        dtypes |= {known for source in self.match.sources if (known := facts(source).dtype) is not None}
        if len(dtypes) > 1:
            raise Inapplicable("mixed dtypes: " + ", ".join(sorted(str(d) for d in dtypes)))
        return dtypes.pop() if dtypes else torch.float32

    def weight_entries(self) -> int:
        """The number of entries of all constants that a proposal is computed from."""
        maps: tuple[Map, ...] = self.match.maps if self.match.sources else ()
        return sum(c.numel() for m in maps for c in m.constants())

    def has_sizes(self) -> bool:
        """Whether the shapes of all sources are known from example inputs."""
        return None not in self._example()

    def shapes(self) -> list[Shape] | None:
        """The shapes of the sources, from the example inputs or else nominal ones; None if there are neither."""
        if self.match.sources and self.has_sizes():
            return [shape for shape in self._example() if shape is not None]
        if self.match.branches:
            return nominal_shapes(self.match.maps[-1], self.match.maps[:-1])
        shape = nominal_shape(self._chain()) if self.match.sources else None
        return None if shape is None else [shape]

    def _example(self) -> list[Shape | None]:
        return [known(source).shape for source in self.match.sources]

    def probes(self, affordable: int) -> Sequence[Sequence[Shape]]:
        """Shapes of the sources for comparing both sides. The example's shapes are included if the region needs at most
        `affordable` multiply-accumulates for them."""
        match = self.match
        assert match.source is not None
        rank = facts(match.source).rank
        if match.branches:
            return probe_shapes_of_branches(match.maps[-1], rank, match.maps[:-1])
        if rank is None and match.maps[-1].plain() is not None:
            rank = facts(match.nodes[0]).rank  # a convolution does not change the rank
        return [[s] for s in probe_shapes(self._chain(), rank, known(match.source).shape, affordable)]

    def works(self, shapes: Sequence[Shape], itemsize: int, rates: Rates) -> list[tuple[fx.Node, Work]]:
        """The work of each node of the region."""
        match = self.match
        if match.several:
            fork: Fork = match.maps[0]
            works = [conv.work(shapes[0], itemsize, rates) for conv in fork.convs]
            return list(zip(match.nodes, works, strict=True))
        if not match.branches:
            works = work_of_chain(match.maps, shapes[0], itemsize, rates)
            return list(zip(match.nodes, reversed(works), strict=True))
        found: dict[fx.Node, Work] = {}
        for branch in match.branches:
            works = work_of_chain(branch.maps, shapes[match.sources.index(branch.source)], itemsize, rates)
            found.update(zip(branch.nodes, works, strict=True))
        whole: Combination = match.maps[-1]
        outer = [m.work(whole.output_shape(*shapes), itemsize, rates) for m in match.maps[:-1]]
        found.setdefault(match.nodes[-1 - len(outer)], joint(whole, shapes, itemsize))
        return [*found.items(), *((match.output, each) for each in outer)]

    def alive(self) -> set[fx.Node]:
        """The inner nodes that stay after the rewrite: those read outside the region, and the nodes they depend on."""
        inside = set(self.match.nodes)
        alive: set[fx.Node] = set()
        for node in reversed(self.match.nodes[: -len(self.match.outputs)]):
            if set(node.users) - inside or not alive.isdisjoint(node.users):
                alive.add(node)
        return alive

    def sources(self) -> tuple[str, ...]:
        """The module paths that the region comes from."""
        return tuple(dict.fromkeys(path for node in self.match.nodes for path in sources_of(node)))

    def names(self) -> list[str]:
        """The module paths to name new nodes after: of the nodes with weights; with branches, of the first such node
        of each branch. If there is none, the path of a layer among the nodes, or that of the output."""
        if not self.match.branches:
            named: list[str | None] = [where(node) for node in self.match.nodes if self._has_weights(node)]
        else:
            regions = [reversed(branch.nodes) for branch in self.match.branches]
            named = [next((where(node) for node in nodes if self._has_weights(node)), None) for nodes in regions]
        layer = next((where(node) for node in self.match.nodes if known(node).module is not None), None)
        return [name for name in named if name is not None] or [layer or where(self.match.output)]

    def names_for(self, proposal: Any) -> list[str]:
        """The paths for what is proposed: of maps in a row, whose kinds differ as those of the region do, that of the
        node of this kind; else `names`."""
        nodes = {type(value): where(node) for value, node in zip(self._chain(), self.match.nodes[::-1], strict=False)}
        kinds = [type(value) for value in reversed(getattr(proposal, "maps", ()))]
        if self.match.branches or len(set(kinds)) < len(kinds) or not nodes.keys() >= set(kinds) or len(kinds) < 2:
            return self.names()
        return [nodes[kind] for kind in kinds]

    def sources_after(self, name: str) -> tuple[str, ...]:
        """The module paths that a new node of this name comes from: those of the branch with this name, if there is
        one, else those of the whole region."""
        nodes = [node for branch in self.match.branches for node in branch.nodes if where(node) == name]
        return tuple(dict.fromkeys(path for node in nodes for path in sources_of(node))) or self.sources()

    def _chain(self) -> tuple[Map, ...]:
        """The chain of maps from the source, outer first; of a fork, its first convolution."""
        maps = self.match.maps
        return maps[0].convs[:1] if maps and isinstance(maps[0], Fork) else maps

    def _has_weights(self, node: fx.Node) -> bool:
        reading = read(self.graph, node)
        if reading is not None and reading.known is not None:
            return reading.known.is_weighted()
        return any(self.graph.constants[str(s.target)].ndim > 1 for s in node.all_input_nodes if s.op == "get_attr")


def constants_of(nodes: Sequence[fx.Node]) -> list[fx.Node]:
    """The `get_attr` nodes among these nodes and their inputs."""
    read = (source for node in nodes for source in (*node.all_input_nodes, node) if source.op == "get_attr")
    return list(dict.fromkeys(read))
