"""Interleaved timing: the candidates are called in turn, so that a slow moment of the machine affects all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Call = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """The times of one call in milliseconds, one for each round; there is at least one."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def p95(self) -> float:
        """The 95th percentile in milliseconds."""
        ordered = sorted(self.rounds)
        return ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]

    @property
    def spread(self) -> float:
        """Half the interquartile range, relative to the median."""
        if len(self.rounds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return (high - low) / 2 / self.median


def interleaved(
    calls: Mapping[str, Call],
    rounds: int = 9,
    seconds: float = 3.0,
    least: int = 3,
    warm: bool = False,
    turning: bool = False,
) -> dict[str, Times]:
    """The times of each call. Each is called once to warm up; then all are called in turn, `rounds` times.

    There are fewer rounds, but at least `least`, if they would take longer than `seconds` in total. `warm`: call each
    once more, untimed, right before it is timed. Without that, the state in which the previous call left the caches
    changes the time of very short calls. `turning`: go through them forwards and backwards by turns, so that the last
    one of a round is the first of the next: for calls that are slow to begin after another one.
    """
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= least and time.perf_counter() - begin > seconds:
            break
        for name, call in list(calls.items())[:: -1 if turning and done % 2 == 0 else 1]:
            if warm:
                call()
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: Times(tuple(each)) for name, each in times.items()}
