"""Groups what was not done by law and reason, the most important first.

A rewrite that failed its check comes first, because it is a bug; then what kept fusekit from reading a part of the
model; then what would have changed the most costly layers.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fusekit.report.event import Event, Outcome
from fusekit.report.places import grouped

_UNREAD = ("capture", "read", "lower-complex")  # events of whole parts of the model


@dataclass(frozen=True)
class Refusal:
    """Events of one law that were not applied for the same reason; numbers in the reason may differ."""

    rewrite: str
    events: tuple[Event, ...]

    @property
    def reason(self) -> str:
        """The reason of the event at the most costly place."""
        return max(self.events, key=_cost).reason

    @property
    def rejected(self) -> bool:
        return self.events[0].outcome is Outcome.REJECTED

    @property
    def where(self) -> str:
        """The places, as patterns of paths."""
        groups = grouped(self.events)
        more = f" and {len(groups) - 2} more" if len(groups) > 2 else ""
        return ", ".join(group.pattern for group in groups[:2]) + more

    @property
    def weight(self) -> tuple[bool, bool, float]:
        """Greater for what is more important."""
        return self.rejected, self.rewrite in _UNREAD, sum(map(_cost, self.events))


def refusals(events: Iterable[Event]) -> list[Refusal]:
    """All refused and rejected events in groups, the most important first."""
    found: dict[tuple[str, Outcome, str], list[Event]] = {}
    for event in events:
        if event.outcome is not Outcome.APPLIED:
            alike = re.sub(r"\d[\d,.e+-]*", "#", event.reason)
            found.setdefault((event.rewrite, event.outcome, alike), []).append(event)
    groups = [Refusal(rewrite, tuple(members)) for (rewrite, _, _), members in found.items()]
    return sorted(groups, key=lambda group: group.weight, reverse=True)


def _cost(event: Event) -> float:
    return event.cost_before or 0.0
