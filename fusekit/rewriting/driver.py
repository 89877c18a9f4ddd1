"""The driver that applies rewrites: match -> propose -> cost -> verify -> commit, each stage until nothing changes.

A value that is also read outside the region stays, and its cost counts on both sides. So shared values need no special
case: a fold that saves nothing does not pay. Every commit lowers the cost, so each stage ends.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import fx

from fusekit.algebra import EAGER, Composition, Map, Rates, Shape
from fusekit.errors import VerificationError, reason_of
from fusekit.ir import Graph, where
from fusekit.model import computing_threads
from fusekit.report import Event, Outcome
from fusekit.rewriting.attempt import Attempt, has_any_form
from fusekit.rewriting.pattern import Match
from fusekit.rewriting.rewrite import Rewrite, Stage
from fusekit.rewriting.spoiled import spoiled_layers

Progress = Callable[[str, int, int], None]


class Clock(Protocol):
    """Measures the time of realizations on the target runtime."""

    def times(self, maps: Sequence[Map], shape: Shape, dtype: torch.dtype) -> list[float] | None:
        """Milliseconds of each map on an input of this shape; None if they cannot be measured."""
        ...


MARGIN = 0.9  # a realization must take less than 0.9 of the present time to replace it


@dataclass
class Driver:
    """Runs stages over a graph and collects the events.

    With a `clock`, contests are decided by measured times, otherwise by price. `vetoed` holds pairs (rewrite, where) of
    realizations that must not be used there, because the whole model was slower with them. `has_form` says which maps
    can be written where the graph goes; a rewrite that makes another one is refused. With `most`, it stops after so
    many commits. `guests` names the passes that are not fusekit's own: after the first failure, such a pass is left
    out. `left_out` holds the names of these; several drivers may share it.
    """

    graph: Graph
    rates: Rates = EAGER
    strict: bool = False
    progress: Progress | None = None
    clock: Clock | None = None
    vetoed: frozenset[tuple[str, str]] = frozenset()
    has_form: Callable[[Map], bool] = has_any_form
    most: int | None = None
    guests: Collection[str] = ()
    left_out: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.events: list[Event] = []
        # keyed by rewrite and region, so that a refusal by several stages is reported once
        self._refused: dict[tuple[str, tuple[fx.Node, ...]], Event] = {}
        self._spoiled = spoiled_layers(self.graph)
        self._readings: dict[fx.Node, Any] = {}
        self._settled: set[fx.Node] = set()  # nodes whose realization has been chosen

    @torch.no_grad()
    def run(self, stages: Iterable[Stage]) -> list[Event]:
        """Run the stages in order, each until nothing changes, and return all events."""
        # The probes are small. Waiting for a second thread costs more than it saves, up to ten times on a busy machine.
        with computing_threads(1):
            for stage in stages:
                self._run_stage(stage)
                self._readings.clear()
                self.graph.prune()
                self.graph.lint()
        standing = (event for (_, nodes), event in self._refused.items() if not any(node._erased for node in nodes))
        self.events.extend(standing)
        return self.events

    def _run_stage(self, stage: Stage) -> None:
        """Visit each node in order; after a commit, visit the nodes that it touched again."""
        queue = deque(self.graph.nodes)
        waiting = set(queue)
        done = 0
        while queue and (self.most is None or len(self.committed) < self.most):
            node = queue.popleft()
            waiting.discard(node)
            done += 1
            if self.progress is not None and done % 16 == 0:
                self.progress(stage.name, done, done + len(queue))
            if node._erased or not node.users:
                continue
            touched = self._contest_at(node, stage.passes) if stage.contest else self._rewrite_at(node, stage.passes)
            for again in touched:
                if again not in waiting and again.op == "call_function":
                    waiting.add(again)
                    queue.appendleft(again)

    def _rewrite_at(self, node: fx.Node, passes: Sequence[Rewrite]) -> list[fx.Node]:
        """Try the passes at one node until one is committed. Returns the nodes to visit again."""
        for rewrite in passes:
            match = self._match(rewrite, node)
            if match is None:
                continue
            attempt = Attempt(self.graph, rewrite, match, self.rates, self._spoiled, self.has_form)
            event = attempt.run()
            self._readings.clear()
            if event.outcome is Outcome.APPLIED:
                self.events.append(event)
                return attempt.touched
            if event.outcome is Outcome.REFUSED:
                self._refused[rewrite.name, match.nodes] = event
                continue
            self._reject(event)
        return []

    @property
    def committed(self) -> list[Event]:
        """The rewrites that were carried out, in order."""
        return [event for event in self.events if event.outcome is Outcome.APPLIED]

    def _reject(self, event: Event) -> None:
        """Record that a rewrite failed. A pass of ours may be right elsewhere; about one of others nothing is known."""
        if event.rewrite in self.guests:
            self.left_out.add(event.rewrite)
            event = replace(event, reason=f"{event.reason}; this pass of another package is left out from here on")
        self.events.append(event)
        if self.strict:
            raise VerificationError(f"{event.rewrite} at {event.where}: {event.reason}")

    def _match(self, rewrite: Rewrite, node: fx.Node) -> Match | None:
        """The pattern's match at a node. Until an attempt changes the graph, patterns read each node once."""
        if rewrite.name in self.left_out:
            return None
        self.graph.readings = self._readings
        try:
            return rewrite.pattern.match(self.graph, node)
        except Exception as error:
            if rewrite.name not in self.guests:
                raise
            reason = f"its pattern failed ({reason_of(error)})"
            self._reject(Event(rewrite.name, where(node), Outcome.REJECTED, reason=reason))
            return None
        finally:
            self.graph.readings = None

    def _contest_at(self, node: fx.Node, passes: Sequence[Rewrite]) -> list[fx.Node]:
        """All realizations of one node compete; the fastest is committed if it clearly beats the present one. Returns
        the nodes to visit again."""
        if node in self._settled:
            return []
        entrants: list[Attempt] = []
        for rewrite in passes:
            match = self._match(rewrite, node)
            if match is None:
                continue
            attempt = Attempt(self.graph, rewrite, match, self.rates, self._spoiled, self.has_form)
            vetoed = (rewrite.name, attempt.where) in self.vetoed
            refusal = (
                attempt.refuse("the whole model was slower with it")
                if vetoed
                else attempt.prepare(rewrite.gain if self.clock is None else max(rewrite.gain, rewrite.hope))
            )
            if refusal is None:
                entrants.append(attempt)
            elif refusal.outcome is Outcome.REFUSED:
                self._refused[rewrite.name, match.nodes] = refusal
            else:
                self._reject(refusal)
        if not entrants:
            return []
        winner = self._fastest(entrants)
        for attempt in entrants:
            if attempt is not winner:
                self.events.append(attempt.refuse(self._why_not(attempt, winner)))
        if winner is None:
            return []
        before = set(self.graph.nodes)
        event = winner.carry_out()
        self._readings.clear()
        if event.outcome is not Outcome.APPLIED:
            self._reject(event)
            return []
        self.events.append(event)
        self._settled.update(new for new in self.graph.nodes if new not in before)
        return winner.touched

    def _fastest(self, entrants: Sequence[Attempt]) -> Attempt | None:
        """The best realization, or None if the present one stays. Decided by measured times if there are any, else by
        price among those that clearly pay."""
        first = entrants[0]
        shapes, dtype = first.region.shapes(), first.dtype
        times = None
        if self.clock is not None and shapes is not None and dtype is not None:
            maps = [Composition(first.match.maps), *(attempt.proposal for attempt in entrants)]
            times = self.clock.times(maps, shapes[0], dtype)
        if times is None:
            paying = [a for a in entrants if a.after.price < a.rewrite.gain * a.before.price]
            return min(paying, key=lambda a: a.after.price, default=None)
        for attempt, time in zip(entrants, times[1:], strict=True):
            attempt.times = (times[0], time)
        best = min(range(len(entrants)), key=lambda index: times[1 + index])
        return entrants[best] if times[1 + best] < MARGIN * times[0] else None

    @staticmethod
    def _why_not(attempt: Attempt, winner: Attempt | None) -> str:
        measured = attempt.times is not None
        if winner is not None:
            return f"{winner.rewrite.name} {'is faster' if measured else 'has the lower price'}"
        return "not clearly faster" if measured else "does not clearly pay, and could not be measured"
