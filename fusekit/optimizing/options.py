"""The options of an optimization: the arguments of the public functions, checked and converted."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fusekit.errors import FusekitError, closest
from fusekit.optimizing.channels_last import NAME as CHANNELS_LAST
from fusekit.optimizing.laws import OTHERS, passes, stages
from fusekit.optimizing.race import Clock
from fusekit.optimizing.undo import HARMLESS, Place
from fusekit.passes import CHOOSE
from fusekit.report import Event
from fusekit.rewriting import Progress, Rewrite, Stage
from fusekit.runtimes import runtime
from fusekit.runtimes.protocol import Runtime

CACHED = "cached"  # the third answer to `measure`, beside True and False
NO_MEASURE = "FUSEKIT_MEASURE"  # environment variable; if it is 0, nothing is measured
_LAYOUTS = {"use-planar-conv", "use-planar-channels-last", "use-channels-last"}


@dataclass(frozen=True)
class Options:
    """The options described at `api.optimize`. `vetoed`: rewrites that must not be applied at these places again;
    `most`: how many rewrites may be committed, None for all. `guests`: the names of the passes that other packages
    bring."""

    runtime: Runtime
    stages: Sequence[Stage]
    strict: bool = False
    progress: Progress | None = None
    tolerance: float | None = None
    clock: Clock | None = None
    relays: bool = False  # whether whole regions may be converted to channels last
    vetoed: frozenset[Place] = frozenset()
    most: int | None = None
    guests: frozenset[str] = frozenset()
    equalizes: bool = False  # whether ranges of channels are narrowed
    chosen: bool = False  # whether the passes were named, in place of all

    @classmethod
    def of(
        cls,
        target: str,
        passes: Sequence[str | Rewrite] | None,
        strict: bool,
        progress: Progress | None,
        tolerance: float | None,
        measure: bool | str,
        budget: float,
    ) -> "Options":
        """Options from the arguments of the public functions. Raises FusekitError for an unknown runtime or pass, for
        a budget below 0, and for a `measure` that is neither true, false nor "cached"."""
        found = runtime(target)
        if not (isinstance(budget, int | float) and budget >= 0):
            raise FusekitError(f"budget must be a number of seconds, 0 or more, got {budget!r}")
        if tolerance is not None and not (isinstance(tolerance, int | float) and 0 < tolerance < math.inf):
            raise FusekitError(f"tolerance must be a positive number such as 1e-5, got {tolerance!r}")
        if isinstance(measure, str) and measure != CACHED:
            raise FusekitError(f"measure must be True, False or {CACHED!r}, got {measure!r}")
        clock = None
        if measure and os.environ.get(NO_MEASURE, "1") != "0":
            clock = Clock(found, budget, progress=progress, remembers_only=measure == CACHED)
        relays = passes is None or CHANNELS_LAST in passes
        names = passes if passes is None or isinstance(passes, str) else [p for p in passes if p != CHANNELS_LAST]
        guests = frozenset(OTHERS.names())
        words = (found, select(names), strict, progress, tolerance, clock, relays)
        return cls(*words, guests=guests, chosen=passes is not None)

    @property
    def races(self) -> Clock | None:
        """The clock that times whole programs; None if nothing is to be timed."""
        return None if self.clock is None or self.clock.remembers_only else self.clock

    @property
    def plainer(self) -> "Options":
        """These options without realizations."""
        return replace(self, stages=[stage for stage in self.stages if stage.name != CHOOSE], relays=False)

    @property
    def laid_out(self) -> "Options":
        """These options without the passes that convert to channels last, for a model whose inputs already are."""
        stages = [replace(s, passes=tuple(p for p in s.passes if p.name not in _LAYOUTS)) for s in self.stages]
        return replace(self, stages=stages, relays=False)

    @property
    def harmless(self) -> "Options":
        """These options with only the passes that cannot make a model slower."""
        kept = (replace(s, passes=tuple(p for p in s.passes if p.name in HARMLESS)) for s in self.stages)
        return replace(self, stages=[stage for stage in kept if stage.passes], relays=False)

    @property
    def equalized(self) -> "Options":
        """These options, for a network that will be quantized: ranges of channels are narrowed, and there are no
        realizations, because quantizers know only plain layers. Raises FusekitError if one was asked for by name."""
        asked = [p.name for stage in self.stages if stage.name == CHOOSE for p in stage.passes]
        if self.chosen and (self.relays or asked):
            name = CHANNELS_LAST if self.relays else asked[0]
            raise FusekitError(
                f"{name} is a realization, and quantizers know only plain layers: equalize without this pass"
            )
        return replace(self.plainer, equalizes=True)

    def without(self, events: Iterable[Event]) -> "Options":
        """These options, with a veto on what these events applied, at the same places."""
        return replace(self, vetoed=self.vetoed | {(event.rewrite, event.where) for event in events})


def select(chosen: Sequence[str | Rewrite] | None) -> list[Stage]:
    """The stages, with only the `chosen` passes (None: all of them, also those of other packages).

    A pass is given by name or as an instance; an instance replaces the pass of the same name. Raises FusekitError for
    an unknown name.
    """
    known = passes()
    if chosen is None:
        return stages(known)
    named: list[str | Rewrite] = [chosen] if isinstance(chosen, str) else list(chosen)
    unknown = [p for p in named if isinstance(p, str) and p not in known]
    if unknown:
        broken = OTHERS.broken.get(str(unknown[0]))
        hint = closest(str(unknown[0]), [*known, CHANNELS_LAST])
        raise FusekitError(broken or f"no pass named {unknown[0]!r}{hint or '; `fusekit passes` lists them'}")
    return stages({p if isinstance(p, str) else p.name: known[p] if isinstance(p, str) else p for p in named})
