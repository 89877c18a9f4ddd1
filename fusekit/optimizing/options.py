"""How to optimize: what the public functions were asked for, understood."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fusekit.errors import FusekitError
from fusekit.optimizing.channels_last import NAME as CHANNELS_LAST
from fusekit.optimizing.race import Clock
from fusekit.optimizing.undo import HARMLESS, Place
from fusekit.passes import CHOOSE, PASSES, STAGES
from fusekit.report import Event
from fusekit.rewriting import Progress, Rewrite, Stage
from fusekit.runtimes import runtime
from fusekit.runtimes.protocol import Runtime

NO_MEASURE = "FUSEKIT_MEASURE"  # set to 0, nothing is measured
_LAYOUTS = {"use-planar-conv", "use-planar-channels-last", "use-channels-last"}


@dataclass(frozen=True)
class Options:
    """What `api.optimize` says of them, and `vetoed`: rewrites that may not be applied at these places again."""

    runtime: Runtime
    stages: Sequence[Stage]
    strict: bool = False
    progress: Progress | None = None
    tolerance: float | None = None
    clock: Clock | None = None
    relays: bool = False  # whether whole regions may be laid out with their channels last
    vetoed: frozenset[Place] = frozenset()

    @classmethod
    def of(
        cls,
        target: str,
        passes: Sequence[str | Rewrite] | None,
        strict: bool,
        progress: Progress | None,
        tolerance: float | None,
        measure: bool,
        budget: float,
    ) -> "Options":
        """The words of the public functions, understood. Raises `FusekitError` for a runtime or pass that there is not,
        and for a budget below 0."""
        found = runtime(target)
        if not budget >= 0:
            raise FusekitError(f"budget must be a number of seconds from 0 on, got {budget!r}")
        clock = Clock(found, budget, progress=progress) if measure and os.environ.get(NO_MEASURE, "1") != "0" else None
        relays = passes is None or CHANNELS_LAST in passes
        names = passes if passes is None or isinstance(passes, str) else [p for p in passes if p != CHANNELS_LAST]
        return cls(found, select(names), strict, progress, tolerance, clock, relays)

    @property
    def plainer(self) -> "Options":
        """Without realizations."""
        return replace(self, stages=[stage for stage in self.stages if stage.name != CHOOSE], relays=False)

    @property
    def laid_out(self) -> "Options":
        """Where the model has its channels last already: without what would convert them."""
        stages = [replace(s, passes=tuple(p for p in s.passes if p.name not in _LAYOUTS)) for s in self.stages]
        return replace(self, stages=stages, relays=False)

    @property
    def harmless(self) -> "Options":
        """With only what can make nothing slower."""
        kept = (replace(s, passes=tuple(p for p in s.passes if p.name in HARMLESS)) for s in self.stages)
        return replace(self, stages=[stage for stage in kept if stage.passes], relays=False)

    def without(self, events: Iterable[Event]) -> "Options":
        """Without what was applied in these events, where it was."""
        return replace(self, vetoed=self.vetoed | {(event.rewrite, event.where) for event in events})


def select(passes: Sequence[str | Rewrite] | None) -> list[Stage]:
    """The stages, with only the passes asked for, each in every stage it belongs to; an instance stands in for the pass
    of its name. A new one competes in the choice of realizations if it is one, else gets a stage before that."""
    if passes is None:
        return list(STAGES)
    if isinstance(passes, str):
        passes = [passes]
    unknown = [p for p in passes if isinstance(p, str) and p not in PASSES]
    if unknown:
        raise FusekitError(f"no pass named {unknown[0]!r}; there are {', '.join(PASSES)}")
    chosen = {p if isinstance(p, str) else p.name: PASSES[p] if isinstance(p, str) else p for p in passes}
    stages = [replace(s, passes=tuple(chosen[p.name] for p in s.passes if p.name in chosen)) for s in STAGES]
    added = [rewrite for name, rewrite in chosen.items() if name not in PASSES]
    realizations = tuple(rewrite for rewrite in added if rewrite.realizes)
    before = Stage("added", tuple(rewrite for rewrite in added if not rewrite.realizes))
    choose = next(index for index, stage in enumerate(stages) if stage.name == CHOOSE)
    with_new = replace(stages[choose], passes=(*stages[choose].passes, *realizations))
    return [*stages[:choose], *([before] if before.passes else []), with_new, *stages[choose + 1 :]]
