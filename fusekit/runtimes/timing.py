"""Interleaved timing: one call of each in turn, so that a slow moment of the machine falls on all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Call = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """What one call took, in milliseconds, round by round; at least one."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def p95(self) -> float:
        """What 95 of 100 rounds stay below."""
        ordered = sorted(self.rounds)
        return ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, relative to the median."""
        if len(self.rounds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return (high - low) / 2 / self.median


def interleaved(
    calls: Mapping[str, Call], rounds: int = 9, seconds: float = 3.0, least: int = 3, warm: bool = False
) -> dict[str, Times]:
    """Every call once to warm up, then `rounds` times in turn; fewer, but at least `least`, where that would take
    longer than `seconds` together. `warm`: each is called once more, untimed, right before it is timed: what takes a
    fraction of a millisecond otherwise pays for the caches its predecessor left behind, or profits from them."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= least and time.perf_counter() - begin > seconds:
            break
        for name, call in calls.items():
            if warm:
                call()
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: Times(tuple(each)) for name, each in times.items()}
