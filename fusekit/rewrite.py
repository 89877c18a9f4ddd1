"""Rewrites, and the one driver that applies them: match -> propose -> cost -> verify -> commit.

A rewrite declares a pattern and proposes the right-hand side of its law; the rest is the driver's business. A proposal
that is not lawful or does not pay is *refused* with its reason or its price; one that does not verify is *rejected*
and leaves no trace. A value also read outside the region is still paid for, so sharing is no special case: it does
not pay. Every commit lowers the cost, so a stage ends.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import fx

from fusekit.algebra import Chain, Choice, Combination, Conv, Fork, Map, Shape
from fusekit.cost import FREE, Work, joint, nominal_shape, nominal_shapes, work, work_of, work_of_chain
from fusekit.cut import cheapest_cut
from fusekit.errors import Inapplicable, VerificationError
from fusekit.graph import Facts, Graph, facts, where
from fusekit.pattern import Having, Match, Pattern
from fusekit.report import Event, Outcome
from fusekit.verify import (
    AFFORDABLE,
    AFFORDABLE_FOR_PLANS,
    TOLERANCE,
    constant_error,
    probe_shapes,
    probe_shapes_of_branches,
    region_error,
)
from fusekit.view import Unread, read
from fusekit.write import write


class Exactness(Enum):
    """What a law promises: the same bits, equality over the reals (rounding may differ), or a stated bound (opt-in)."""

    BITWISE = "bitwise"
    REAL = "real"
    BOUNDED = "bounded"


@dataclass(frozen=True)
class Rewrite:
    """A law. Subclasses give `name`, `pattern`, `exactness` and `propose`; dataclass fields are its options.

    `gain` is the largest ratio of prices, after to before, at which the law is applied; `sized` says that the ratio
    hangs on the size of the input so much that without example inputs the law is not applied.
    """

    name: ClassVar[str]
    pattern: ClassVar[Pattern]
    exactness: ClassVar[Exactness] = Exactness.REAL
    gain: ClassVar[float] = 1.0
    sized: ClassVar[bool] = False

    def propose(self, *maps: Any) -> Map | Combination:
        """The right-hand side of the law for these maps, outermost first; raises Inapplicable where it fails."""
        raise NotImplementedError


@dataclass(frozen=True)
class Stage:
    """Passes that run together to a fixpoint."""

    name: str
    passes: tuple[Rewrite, ...]


_LARGE = 50_000  # entries of a region's constants from which computing a proposal only to refuse it is a waste

Progress = Callable[[str, int, int], None]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Probes are small: a second thread costs more to wait for than it brings, on a busy machine tenfold."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass
class Driver:
    """Runs stages over a graph and keeps the events."""

    graph: Graph
    target: str = "torch"
    strict: bool = False
    progress: Progress | None = None

    def __post_init__(self) -> None:
        self.events: list[Event] = []
        # by rewrite and region: what several stages refuse is refused once
        self._refused: dict[tuple[str, tuple[fx.Node, ...]], Event] = {}

    @torch.no_grad()
    def run(self, stages: Iterable[Stage]) -> list[Event]:
        """Each stage to its fixpoint, in order; the events of all."""
        with _one_thread():
            for stage in stages:
                self._run_stage(stage)
                self.graph.prune()
                self.graph.lint()
        standing = (event for (_, nodes), event in self._refused.items() if not any(node._erased for node in nodes))
        self.events.extend(standing)
        return self.events

    def _run_stage(self, stage: Stage) -> None:
        """Each node once, in order; after a commit, what it touched again."""
        queue = deque(self.graph.nodes)
        waiting = set(queue)
        done = 0
        while queue:
            node = queue.popleft()
            waiting.discard(node)
            done += 1
            if self.progress is not None and done % 16 == 0:
                self.progress(stage.name, done, done + len(queue))
            if node._erased or not node.users:
                continue
            for again in self._rewrite_at(node, stage.passes):
                if again not in waiting and again.op == "call_function":
                    waiting.add(again)
                    queue.appendleft(again)

    def _rewrite_at(self, node: fx.Node, passes: Sequence[Rewrite]) -> list[fx.Node]:
        """Try the passes at one node until one commits; the nodes to look at again."""
        for rewrite in passes:
            match = rewrite.pattern.match(self.graph, node)
            if match is None:
                continue
            attempt = Attempt(self.graph, rewrite, match, self.target)
            event = attempt.run()
            if event.outcome is Outcome.APPLIED:
                self.events.append(event)
                return attempt.touched
            if event.outcome is Outcome.REFUSED:
                self._refused[rewrite.name, match.nodes] = event
                continue
            self.events.append(event)
            if self.strict:
                raise VerificationError(f"{event.rewrite} at {event.where}: {event.reason}")
        return []


class Attempt:
    """One rewrite at one match, from proposal to commit or to no trace."""

    def __init__(self, graph: Graph, rewrite: Rewrite, match: Match, target: str) -> None:
        self.graph, self.rewrite, self.match, self.target = graph, rewrite, match, target
        self.sources = tuple(dict.fromkeys(path for n in match.nodes for path in n.meta.get("sources", (where(n),))))
        self.before = self.after = FREE
        self.error: float | None = None
        self.touched: list[fx.Node] = []

    def run(self) -> Event:
        try:
            for value in self.match.maps:
                if isinstance(value, Unread):
                    raise Inapplicable(value.reason)
            dtype = self._dtype()
            if self._is_large() and not isinstance(self.rewrite.pattern, Having):
                # priced on shapes alone first: a large kernel that does not pay is never computed
                self._settled(self.rewrite.propose(*(m.on_meta() for m in self.match.maps)), dtype)
            proposal = self._settled(self.rewrite.propose(*self.match.maps), dtype)
        except Inapplicable as refusal:
            return self._event(Outcome.REFUSED, str(refusal))
        except Exception as error:  # a bug in a law must not cost the user the other laws
            return self._event(Outcome.REJECTED, f"the law failed ({type(error).__name__}: {error})")
        new: list[fx.Node] = []
        try:
            with self.graph.fx.inserting_before(self.match.outputs[0]):
                new = write(self.graph, proposal, self.match.sources, self._names())
            self.error = self._error_of(new)
            reason = f"float64 error {self.error:.1e} exceeds {TOLERANCE:.0e}; rolled back"
        except Exception as error:  # a proposal that cannot even run is as wrong as one that runs wrongly
            self.error, reason = float("inf"), f"the check failed to run ({type(error).__name__}: {error}); rolled back"
        if not self.error <= TOLERANCE:
            self.graph.erase_dead(new)
            return self._event(Outcome.REJECTED, reason)
        self._commit(new, dtype)
        return self._event(Outcome.APPLIED, "")

    def _is_large(self) -> bool:
        maps: tuple[Map, ...] = self.match.maps if self.match.sources else ()
        return sum(c.numel() for m in maps for c in m.constants()) > _LARGE

    def _error_of(self, new: list[fx.Node]) -> float:
        match = self.match
        if match.source is None:
            return constant_error(self.graph, match.nodes, new[-1])
        rank = facts(match.source).rank
        if rank is None and not match.branches and isinstance(match.maps[-1], Conv):
            rank = facts(match.nodes[0]).rank  # a convolution keeps it
        chain = match.maps[0].convs[:1] if isinstance(match.maps[0], Fork) else match.maps
        if match.branches:
            probes: Sequence[Sequence[Shape]] = probe_shapes_of_branches(match.maps[-1], rank, match.maps[:-1])
        else:
            affordable = AFFORDABLE_FOR_PLANS if self.rewrite.sized else AFFORDABLE
            probes = [[s] for s in probe_shapes(chain, rank, match.source.meta.get("shape"), affordable)]
        return region_error(self.graph, match.nodes, new, match.sources, probes, len(match.outputs))

    def _dtype(self) -> torch.dtype | None:
        """The one floating dtype of the region's constants and input; None for constants, which keep their own."""
        if not self.match.sources:
            return None
        values = [self.graph.constants[str(node.target)] for node in self._constants(self.match.nodes)]
        dtypes = {v.dtype for v in values if v.ndim and (v.is_floating_point() or v.is_complex())}
        dtypes |= {known for source in self.match.sources if (known := facts(source).dtype) is not None}
        if len(dtypes) > 1:
            raise Inapplicable("mixed dtypes: " + ", ".join(sorted(str(d) for d in dtypes)))
        return dtypes.pop() if dtypes else torch.float32

    def _settled(self, proposal: Map | Combination, dtype: torch.dtype | None) -> Map | Combination:
        """The proposal, its cheapest form if it leaves that open; Inapplicable if it does not pay."""
        if self.rewrite.sized and any("shape" not in source.meta for source in self.match.sources):
            raise Inapplicable(
                "whether it pays depends on the size of the input, which is unknown: pass example inputs"
            )
        shapes = self._shapes()
        if shapes is None or dtype is None:
            return proposal
        gain = self.rewrite.gain
        if isinstance(proposal, Chain):
            kept = self.match.nodes[0] in self._alive()
            proposal, pays = cheapest_cut(proposal, shapes[0], dtype.itemsize, target=self.target, gain=gain, kept=kept)
            gain = 1.0 if pays else gain  # each stretch has met it
        if isinstance(proposal, Choice):
            prices = [work_of(o, shapes, dtype.itemsize, target=self.target).price for o in proposal.options]
            proposal = proposal.options[prices.index(min(prices))]
        self._require_gain(proposal, shapes, dtype, gain)
        return proposal

    def _require_gain(
        self, proposal: Map | Combination, shapes: Sequence[Shape], dtype: torch.dtype, gain: float
    ) -> None:
        """Price both sides; what the region computes for others too is paid on both."""
        works = self._works(shapes, dtype.itemsize)
        alive = self._alive()
        kept = [w for node, w in works if node in alive]
        self.before = sum((w for _, w in works), FREE)
        self.after = sum(kept, work_of(proposal, shapes, dtype.itemsize, target=self.target))
        if self.after.price >= gain * self.before.price:
            shared = "; the inner value is also used elsewhere and must be computed all the same" if kept else ""
            raise Inapplicable(
                f"does not pay: {self.before.macs:,} -> {self.after.macs:,} MACs, "
                f"price x{self.after.price / self.before.price:.2f}{shared}"
            )

    def _alive(self) -> set[fx.Node]:
        """The region's nodes that must be computed all the same: those read from outside, and what they need."""
        inside = set(self.match.nodes)
        alive: set[fx.Node] = set()
        for node in reversed(self.match.nodes[: -len(self.match.outputs)]):
            if set(node.users) - inside or not alive.isdisjoint(node.users):
                alive.add(node)
        return alive

    def _shapes(self) -> list[Shape] | None:
        """The shapes of the sources: the example's, else nominal ones; None if nothing fixes them."""
        known = [source.meta["shape"] for source in self.match.sources if "shape" in source.meta]
        if known and len(known) == len(self.match.sources):
            return known
        if self.match.branches:
            return nominal_shapes(self.match.maps[-1], self.match.maps[:-1])
        maps = self.match.maps
        chain = maps[0].convs[:1] if maps and isinstance(maps[0], Fork) else maps
        shape = nominal_shape(chain) if self.match.sources else None
        return None if shape is None else [shape]

    def _works(self, shapes: Sequence[Shape], itemsize: int) -> list[tuple[fx.Node, Work]]:
        """What each node of the region costs."""
        match = self.match
        if match.several:
            fork: Fork = match.maps[0]
            works = [work(conv, shapes[0], itemsize, target=self.target) for conv in fork.convs]
            return list(zip(match.nodes, works, strict=True))
        if not match.branches:
            works = work_of_chain(match.maps, shapes[0], itemsize, target=self.target)
            return list(zip(match.nodes, reversed(works), strict=True))
        found: dict[fx.Node, Work] = {}
        for branch in match.branches:
            works = work_of_chain(branch.maps, shapes[match.sources.index(branch.source)], itemsize, target=self.target)
            found.update(zip(branch.nodes, works, strict=True))
        whole: Combination = match.maps[-1]
        joined = joint(whole, shapes, itemsize)
        outer = [work(m, whole.output_shape(*shapes), itemsize, target=self.target) for m in match.maps[:-1]]
        joint_node = match.nodes[-1 - len(outer)]
        return [*found.items(), (joint_node, joined), *((match.output, each) for each in outer)]

    def _names(self) -> list[str]:
        """The paths of the nodes with weights of their own, of the first in each branch if there are any; else the
        output's."""
        if not self.match.branches:
            named: list[str | None] = [where(node) for node in self.match.nodes if self._has_weights(node)]
        else:
            regions = [reversed(branch.nodes) for branch in self.match.branches]
            named = [next((where(node) for node in nodes if self._has_weights(node)), None) for nodes in regions]
        return [name for name in named if name is not None] or [where(self.match.output)]

    def _sources_of(self, name: str) -> tuple[str, ...]:
        """Where a new node comes from: what is called after one branch comes from that branch alone."""
        nodes = [node for branch in self.match.branches for node in branch.nodes if where(node) == name]
        return tuple(dict.fromkeys(p for n in nodes for p in n.meta.get("sources", (name,)))) or self.sources

    def _has_weights(self, node: fx.Node) -> bool:
        return any(self.graph.constants[str(s.target)].ndim > 1 for s in node.all_input_nodes if s.op == "get_attr")

    def _commit(self, new: list[fx.Node], dtype: torch.dtype | None) -> None:
        """Round the constants to the region's dtype, hand over what is known of the output, replace it, clean up."""
        outputs, constants = self.match.outputs, self._constants(self.match.nodes)
        trains = any(self.graph.constants[str(node.target)].requires_grad for node in constants)
        for node in self._constants(new):
            value = self.graph.constants[str(node.target)].detach()
            value = value.to(dtype or value.dtype).contiguous()
            self.graph.constants[str(node.target)] = value.requires_grad_(trains and value.is_floating_point())
            node.meta["facts"] = Facts(tuple(value.shape), value.dtype)
        for node in new:
            node.meta.setdefault("where", where(outputs[-1]))
            node.meta["sources"] = self._sources_of(where(node))
        results = new[-len(outputs) :] if new else list(self.match.sources[:1])
        add = torch.ops.aten.add.Tensor  # whose operands are of the shape of the sum; a pad before a convolution is not
        for node in new:
            if node.target is add or (results[-1].target is add and results[-1] in node.users):
                self._hand_over(outputs[-1], node)
            elif node not in results:
                self._note_shape(node, dtype)
        self.touched = [*(user for output in outputs for user in output.users), *results]
        for output, result in zip(outputs, results, strict=True):
            if new:
                self._hand_over(output, result)
            output.replace_all_uses_with(result)
        self.graph.erase_dead(self.match.nodes)

    @staticmethod
    def _hand_over(output: fx.Node, node: fx.Node) -> None:
        """What is known of the old value holds for the new one."""
        node.meta.update({key: output.meta[key] for key in ("facts", "shape") if key in output.meta})

    def _note_shape(self, node: fx.Node, dtype: torch.dtype | None) -> None:
        """The shape of a new value inside the region, for the prices and totals that ask for it later."""
        reading = read(self.graph, node)
        if reading is None or isinstance(reading.map, Unread) or "shape" not in reading.source.meta:
            return
        node.meta.setdefault("shape", reading.map.output_shape(reading.source.meta["shape"]))
        node.meta.setdefault("facts", Facts(None, dtype))

    @staticmethod
    def _constants(nodes: Sequence[fx.Node]) -> list[fx.Node]:
        """The constants that nodes read, or are."""
        read = (source for node in nodes for source in (*node.all_input_nodes, node) if source.op == "get_attr")
        return list(dict.fromkeys(read))

    def _event(self, outcome: Outcome, reason: str) -> Event:
        before, after = (self.before.price, self.after.price) if self.before is not FREE else (None, None)
        return Event(self.rewrite.name, " + ".join(self.sources), outcome, before, after, self.error, reason)
