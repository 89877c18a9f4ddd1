"""Where two graphs differ: regions, each of operators of both sides that stand for each other as a whole.

An operator is *loose* if it has no partner, if its partner computes something else, or if both read different values.
Loose operators that are neighbours are one region, and so are those of both sides that are partners, or whose results
are read in the same place by partners. All other operators are the same on both sides.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property

from fusekit.comparing.matching import Matching
from fusekit.comparing.meaning import ROUNDING, alike, apart

Id = tuple[int, str]  # (0 for the first side and 1 for the second, id of the box)


@dataclass(frozen=True)
class Region:
    """The operators of both sides, by id, in the order in which they run. `whole`: each has a partner and reads what
    its partner reads, so that their values should be equal, one by one."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    whole: bool


class Regions:
    """The regions of two matched sides."""

    def __init__(self, matching: Matching) -> None:
        self._matching = matching
        self._loose: set[Id] = set()
        self._find_loose()

    def is_same(self, a: str) -> bool:
        """Whether an operator of the first side is the same on the other."""
        return (0, a) not in self._loose

    @cached_property
    def found(self) -> list[Region]:
        """The regions, in the order of the second side; those that are only in the first come last."""
        sets = self._joined()
        matching = self._matching
        groups: dict[Hashable, tuple[list[str], list[str]]] = {}
        for number, side in ((1, matching.after), (0, matching.before)):
            for name in side.boxes:
                if (number, name) in self._loose:
                    groups.setdefault(sets.root((number, name)), ([], []))[number].append(name)
        return [Region(tuple(ours), tuple(theirs), self._is_whole(ours, theirs)) for ours, theirs in groups.values()]

    def _is_whole(self, ours: Iterable[str], theirs: Iterable[str]) -> bool:
        partner = self._matching.partner
        paired = {partner.get(a) for a in ours}
        return paired == set(theirs) and all(self._matching.reads_the_same(a, str(partner[a])) for a in ours)

    def _find_loose(self) -> None:
        matching = self._matching
        self._loose |= {(0, a) for a in matching.before.boxes if a not in matching.partner}
        self._loose |= {(1, b) for b in matching.after.boxes if b not in matching.back}
        for a in matching.before.boxes:
            b = matching.partner.get(a)
            if b is not None and (self._differ(a, b) or self._reads_others(a, b)):
                self._loose |= {(0, a), (1, b)}

    def _differ(self, a: str, b: str) -> bool:
        ours, theirs = (each[name] for each, name in zip(self._matching.meaning, (a, b), strict=True))
        return not alike(ours, theirs) or apart(ours, theirs) > ROUNDING

    def _reads_others(self, a: str, b: str) -> bool:
        """Whether partners read values that are known to be others."""
        matching = self._matching
        if matching.reads_the_same(a, b):
            return False
        ours, theirs = matching.before.boxes[a].inputs, matching.after.boxes[b].inputs
        if len(ours) != len(theirs):
            return True
        return any(
            (0, x) not in self._loose and (1, y) not in self._loose and matching.partner[x] != y
            for x, y in zip(ours, theirs, strict=True)
        )

    def _joined(self) -> "_Sets":
        matching, sets = self._matching, _Sets()
        for number, side in enumerate((matching.before, matching.after)):
            for box in side.boxes.values():
                if (number, box.id) in self._loose:
                    for name in box.inputs:
                        if (number, name) in self._loose:
                            sets.join((number, box.id), (number, name))
        for a, b in matching.partner.items():
            if (0, a) in self._loose:
                sets.join((0, a), (1, b))
                continue
            for x, y in zip(matching.before.boxes[a].inputs, matching.after.boxes[b].inputs, strict=False):
                if (0, x) in self._loose and (1, y) in self._loose:
                    sets.join((0, x), (1, y))
        return sets


class _Sets:
    """Disjoint sets."""

    def __init__(self) -> None:
        self._above: dict[Id, Id] = {}

    def root(self, item: Id) -> Id:
        """The member that stands for the set of this one."""
        path = []
        while (above := self._above.get(item, item)) != item:
            path.append(item)
            item = above
        self._above.update(dict.fromkeys(path, item))
        return item

    def join(self, first: Id, second: Id) -> None:
        """Make one set of two."""
        self._above[self.root(second)] = self.root(first)
