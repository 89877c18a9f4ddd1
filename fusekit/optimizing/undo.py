"""Which realizations are undone where the whole model does not hold with them, or is slower.

One at a time, the one that gained least first; after a few in vain all that are left.
"""

from collections.abc import Iterable
from dataclasses import replace

from fusekit.report import Event, Outcome

NOISE = 0.03  # of the model's time: what two runs of the same program may differ by
HARMLESS = {"drop-identity", "fold-constants", "fold-affine"}  # less work in every runtime, whatever the shapes
_ONE_BY_ONE = 3  # realizations undone singly before all are

Place = tuple[str, str]  # the name of a rewrite, and where


def chosen(events: Iterable[Event]) -> tuple[Event, ...]:
    """Realizations applied: the same map computed in another way, with rounding errors of another kind."""
    return tuple(event for event in events if event.outcome is Outcome.APPLIED and event.realizes)


def least_gained(events: Iterable[Event], undone: int) -> tuple[Event, ...]:
    """The realization that gained least; all that are left, once several have been undone in vain."""
    left = chosen(events)
    if undone >= _ONE_BY_ONE:
        return left
    return tuple(sorted(left, key=lambda event: event.times[1] / event.times[0] if event.times else 1.0)[-1:])


def is_slower(times: tuple[float, float]) -> bool:
    """Whether the second of two programs takes longer than the first, by more than noise."""
    return times[1] > (1 + NOISE) * times[0]


def ratio(times: tuple[float, float]) -> str:
    """How many times the first one's time the second takes, in words."""
    return f"{times[1] / times[0]:.2f} times"


def rejected(events: Iterable[Event], reason: str) -> list[Event]:
    """The events of what was applied, as it is told once it has been undone."""
    return [replace(event, outcome=Outcome.REJECTED, reason=reason) for event in events]
