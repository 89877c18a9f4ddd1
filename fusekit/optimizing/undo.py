"""Decides which realizations are undone if the whole model is slower or not accurate enough.

They are undone one at a time, the one that gained least first. If a few of them did not help, all others are undone.
"""

from collections.abc import Iterable
from dataclasses import replace

from fusekit.report import Event, Outcome

NOISE = 0.03  # relative difference in time that two runs of the same program may have
# These save work on every runtime, for all shapes; the last one changes only numbers.
HARMLESS = {"drop-identity", "fold-constants", "fold-affine", "equalize-channels"}
_ONE_BY_ONE = 3  # so many realizations are undone one at a time before all are

Place = tuple[str, str]  # the name of a rewrite, and where


def chosen(events: Iterable[Event]) -> tuple[Event, ...]:
    """The realizations that were applied. They compute the same map in another way, so their rounding errors differ."""
    return tuple(event for event in events if event.outcome is Outcome.APPLIED and event.realizes)


def least_gained(events: Iterable[Event], undone: int) -> tuple[Event, ...]:
    """The realization that gained least; all that are left, if several have been undone already. `undone`: how many."""
    left = chosen(events)
    if undone >= _ONE_BY_ONE:
        return left
    return tuple(sorted(left, key=lambda event: event.times[1] / event.times[0] if event.times else 1.0)[-1:])


def is_slower(times: tuple[float, float]) -> bool:
    """Whether the second of two programs takes longer than the first, by more than noise."""
    return times[1] > (1 + NOISE) * times[0]


def ratio(times: tuple[float, float]) -> str:
    """The second time divided by the first, as text: "1.20 times"."""
    return f"{times[1] / times[0]:.2f} times"


def rejected(events: Iterable[Event], reason: str) -> list[Event]:
    """These events, recorded as rejected for this reason."""
    return [replace(event, outcome=Outcome.REJECTED, reason=reason) for event in events]
