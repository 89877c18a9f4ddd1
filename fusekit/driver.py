"""The one driver that applies rewrites: match -> propose -> cost -> verify -> commit, each stage to its fixpoint.

A value also read outside the region is still paid for, so sharing is no special case: it does not pay. Every commit
lowers the cost, so a stage ends.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import fx

from fusekit.attempt import Attempt
from fusekit.errors import VerificationError
from fusekit.graph import Graph
from fusekit.report import Event, Outcome
from fusekit.rewrite import Rewrite, Stage

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
