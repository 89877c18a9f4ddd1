"""What a page shows, as plain records."""

import math
from dataclasses import dataclass, field

from fusekit.page.picture import Picture
from fusekit.page.words import OF_AN_OPTIMIZATION, Words

_LEAST, _MOST = -17.0, 0.0  # powers of ten at the ends of the scale of errors


@dataclass(frozen=True)
class Figure:
    """A quantity before and after, as numbers for the bars (None: unknown) and as text. `better`: whether the change is
    one that people hope for."""

    name: str
    before: float | None
    after: float | None
    before_text: str
    after_text: str
    change: str = ""
    better: bool = False

    @property
    def has_bars(self) -> bool:
        """Whether there are two numbers, and small ones are good. (Errors differ by chance.)"""
        return self.name != "error" and self.before is not None and self.after is not None

    def share(self, value: float | None) -> float:
        """The length of a bar, in percent of the longer one."""
        most = max(self.before or 0.0, self.after or 0.0)
        return 100 * (value or 0.0) / most if most else 0.0


@dataclass(frozen=True)
class Check:
    """The errors of one output on one probe against a run in float64: of the original, of the result, and the largest
    one allowed. `note`: why there are none."""

    probe: str
    output: str = ""
    reference: float | None = None
    error: float | None = None
    tolerance: float | None = None
    ok: bool = True
    note: str = ""

    @staticmethod
    def place(value: float | None) -> float:
        """The place of an error on a logarithmic scale, in percent."""
        if value is None or not math.isfinite(value):
            return 100.0
        power = math.log10(value) if value > 0 else _LEAST
        return 100 * (min(max(power, _LEAST), _MOST) - _LEAST) / (_MOST - _LEAST)


@dataclass(frozen=True)
class Timing:
    """One version of the network on one runtime: median and 95th percentile in milliseconds, and how many times faster
    than the original it is."""

    runtime: str
    version: str
    median: float | None = None
    p95: float | None = None
    speedup: str = ""
    ours: bool = False
    note: str = ""


@dataclass(frozen=True)
class Content:
    """Everything that a page shows.

    Args:
        title: of the page.
        ok, verdict: whether the result may be used, and why; None if nothing was compared.
        summary: what was saved, in one line.
        figures: the numbers before and after.
        done: (rewrite, law, lines) of what was done.
        refused: (rewrite, where, outcome, price or times, cost before, reason) of what was not done.
        checks, timings: errors by probe, and times by version.
        facts: (name, value) of the circumstances.
        notes: messages for the user.
        picture: the graph before and after; None if it was not recorded.
        words: what stands over the parts of the page.
    """

    title: str
    ok: bool | None = None
    verdict: str = ""
    summary: str = ""
    figures: tuple[Figure, ...] = ()
    done: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    refused: tuple[tuple[str, str, str, str, float, str], ...] = ()
    checks: tuple[Check, ...] = ()
    timings: tuple[Timing, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    picture: Picture | None = field(default=None, repr=False)
    words: Words = OF_AN_OPTIMIZATION
