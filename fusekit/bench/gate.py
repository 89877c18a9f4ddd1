"""Whether a new file is too slow: the measured ratio against a bound, with what the measurement itself leaves open."""

import math
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from rich.text import Text

from fusekit.bench.contenders import Side
from fusekit.bench.measure import Bench


class Outcome(str, Enum):
    """What the measurement shows: fast enough, below the bound by no more than the noise, or slower than allowed."""

    FAST_ENOUGH = "fast enough"
    WITHIN_NOISE = "within noise"
    SLOWER = "slower"


@dataclass(frozen=True)
class Verdict:
    """The decision for one runtime. `speedup`: how many times faster the new file is than the old one; `noise`: how far
    the speed-up may be off; `bound`: the smallest speed-up that is allowed."""

    runtime: str
    speedup: float
    noise: float
    bound: float
    outcome: Outcome

    @property
    def ok(self) -> bool:
        return self.outcome is not Outcome.SLOWER

    def to_dict(self) -> dict[str, Any]:
        """The verdict as a dict, for JSON."""
        return {**asdict(self), "outcome": self.outcome.value}

    def __str__(self) -> str:
        return f"{self.runtime} {self.speedup:.3f} ± {self.noise:.3f}, at least {self.bound:g} is asked for"

    def __rich__(self) -> Text:
        styles = {Outcome.FAST_ENOUGH: "bold green", Outcome.WITHIN_NOISE: "yellow", Outcome.SLOWER: "bold red"}
        advice = "; more --rounds may decide it" if self.outcome is Outcome.WITHIN_NOISE else ""
        return Text(f"{self.outcome.value}: {self}{advice}", style=styles[self.outcome])


def decide(speedup: float, spread: float, rounds: int, again: float, bound: float) -> tuple[Outcome, float]:
    """The outcome, and the noise that it allows for.

    The noise is the larger of two figures. One is three standard errors of the median, which become smaller with more
    rounds: for normal noise, the standard error is 1.253 σ / √rounds, and half the interquartile range is 0.674 σ. The
    other is how far the old file is from being as fast as itself: this also sees what disturbs all rounds alike.

    Args:
        speedup: time of the old file / time of the new one, the median over the rounds.
        spread: half the interquartile range of that ratio.
        rounds: how many there were.
        again: the same ratio of the old file to itself, which would be 1 without noise.
        bound: the smallest speed-up that is allowed.
    """
    noise = max(3 * 1.253 / 0.674 * spread / math.sqrt(rounds), speedup * (max(again, 1 / again) - 1))
    if speedup >= bound:
        return Outcome.FAST_ENOUGH, noise
    return Outcome.WITHIN_NOISE if speedup + noise >= bound else Outcome.SLOWER, noise


def verdicts(measured: Bench, bound: float) -> list[Verdict]:
    """The decision for each runtime in which both files ran (see `file_pair`)."""
    found = []
    for row in measured.rows:
        if row.side is Side.OTHER and row.speedup is not None and row.spread is not None:
            outcome, noise = decide(row.speedup, row.spread, measured.rounds, measured.noise[row.runtime], bound)
            found.append(Verdict(row.runtime, row.speedup, noise, bound, outcome))
    return found
