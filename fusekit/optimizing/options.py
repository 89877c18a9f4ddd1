"""How to optimize: what the public functions were asked for, understood."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fusekit.optimizing.race import Clock
from fusekit.passes import CHOOSE
from fusekit.rewriting.driver import Progress
from fusekit.rewriting.rewrite import Stage
from fusekit.runtimes.protocol import Runtime

_LAYOUTS = {"use-planar-conv", "use-planar-channels-last", "use-channels-last"}


@dataclass(frozen=True)
class Options:
    """How to optimize: the words of `api.optimize`, understood."""

    runtime: Runtime
    stages: Sequence[Stage]
    strict: bool = False
    progress: Progress | None = None
    tolerance: float | None = None
    clock: Clock | None = None
    relays: bool = False  # whether whole regions may be laid out with their channels last

    @property
    def plainer(self) -> "Options":
        """Without realizations."""
        return replace(self, stages=[stage for stage in self.stages if stage.name != CHOOSE], relays=False)

    def laid_out(self) -> "Options":
        """Where the model has its channels last already: without what would convert them."""
        stages = [replace(s, passes=tuple(p for p in s.passes if p.name not in _LAYOUTS)) for s in self.stages]
        return replace(self, stages=stages, relays=False)
