"""Which boxes of the model and of the result belong together: a region is what was rewritten, on both sides.

Boxes of the model are in one region if one rewrite took them, or if one box of the result stands for them. A region of
one box that came out as it was is none.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from fusekit.report.drawing import Box, Drawing
from fusekit.report.event import Event, Outcome


@dataclass(frozen=True)
class Regions:
    """The number of the region of each box by its id, of the model and of the result; boxes without one are left
    out."""

    before: dict[str, int]
    after: dict[str, int]


def regions(before: Drawing, after: Drawing, events: Iterable[Event]) -> Regions:
    """The regions, numbered in the order in which the result runs them; those with nothing left come last."""
    sets = _Sets()
    applied = [event for event in events if event.outcome is Outcome.APPLIED]
    for members in (*(event.region for event in applied), *(box.origins for box in after.boxes)):
        sets.join(members)
    old: dict[str, list[Box]] = {}
    new: dict[str, list[Box]] = {}
    for box in before.boxes:
        old.setdefault(sets.root(box.id), []).append(box)
    for box in after.boxes:
        if box.origins:
            new.setdefault(sets.root(box.origins[0]), []).append(box)
    roots = [
        root for root in (*new, *(r for r in old if r not in new)) if _changed(old.get(root, ()), new.get(root, ()))
    ]
    numbers = {root: number for number, root in enumerate(roots)}
    return Regions(
        {box.id: numbers[root] for root in numbers for box in old.get(root, ())},
        {box.id: numbers[root] for root in numbers for box in new.get(root, ())},
    )


def _changed(old: Iterable[Box], new: Iterable[Box]) -> bool:
    """Whether other operators stand there now."""
    bare = [[replace(box, id="", inputs=(), origins=(), where="") for box in boxes] for boxes in (old, new)]
    ends = all(box.operator in ("input", "output") for boxes in bare for box in boxes)
    return not ends and bare[0] != bare[1]


class _Sets:
    """Disjoint sets of ids."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def root(self, name: str) -> str:
        """The id that stands for the set of this one."""
        path = []
        while (above := self._above.get(name, name)) != name:
            path.append(name)
            name = above
        self._above.update(dict.fromkeys(path, name))
        return name

    def join(self, names: Iterable[str]) -> None:
        """Make one set of the sets of these ids."""
        first, *others = [self.root(name) for name in names] or [""]
        self._above.update(dict.fromkeys(others, first))
