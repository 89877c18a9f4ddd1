"""Which operator of one graph is which of the other.

    inputs       by name, else in order
    weights      the same kind, geometry and numbers
    names        the same kind at the same path of the model
    neighbours   the same kind, reading what is matched, or read by what is matched
    gaps         the same kind, reading what is matched but for operators of one input that only one side has
    places       other kinds in the same place: all that they read is matched, and so is a reader of each

An operator that is found by none of these is only in its model.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence

from fusekit.comparing.meaning import Meaning
from fusekit.comparing.side import Side

_COMMUTES = {"add", "mul"}
_ENDS = ("input", "output")


class Matching:
    """The pairs of two sides: `partner` of each id of the first, `back` of each of the second."""

    def __init__(self, before: Side, after: Side, meaning: tuple[dict[str, Meaning], dict[str, Meaning]]) -> None:
        self.before, self.after = before, after
        self.meaning = meaning
        self.partner: dict[str, str] = {}
        self.back: dict[str, str] = {}
        # what only one side has, and the matched operator (of the second side) behind whose result it stands
        self._skipped: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self._behind: dict[str, list[str]] = {}  # the skipped ones of the second side, by what they stand behind
        self._ends()
        self._groups(self._weighted)
        self._groups(self._named)
        self._neighbours()
        while self._skip():
            self._neighbours()
        self._places()

    def reads_the_same(self, a: str, b: str) -> bool:
        """Whether what two operators read is matched, one for one."""
        ours = [self.partner.get(name) for name in self.before.boxes[a].inputs]
        return self._equal(a, ours, list(self.after.boxes[b].inputs))

    def _reads_alike(self, a: str, b: str) -> bool:
        """The same, but for operators that were looked through."""
        ours = [self._stands_for(0, name) for name in self.before.boxes[a].inputs]
        return self._equal(a, ours, [self._stands_for(1, name) for name in self.after.boxes[b].inputs])

    def _equal(self, a: str, ours: Sequence[str | None], theirs: Sequence[str | None]) -> bool:
        if None in ours or None in theirs:
            return False
        if self.meaning[0][a].kind in _COMMUTES:
            return sorted(map(str, ours)) == sorted(map(str, theirs))
        return ours == theirs

    def _pair(self, a: str, b: str) -> None:
        self.partner[a], self.back[b] = b, a

    def _ends(self) -> None:
        for kind in _ENDS:
            ours, theirs = (
                [box.id for box in side.boxes.values() if box.operator == kind] for side in (self.before, self.after)
            )
            named = {_plain(self.after, name): name for name in theirs}
            for a in ours:
                if (b := named.pop(_plain(self.before, a), None)) is not None:
                    self._pair(a, b)
            ours, theirs = [n for n in ours if n not in self.partner], [n for n in theirs if n not in self.back]
            if len(ours) == len(theirs):
                for a, b in zip(ours, theirs, strict=True):
                    self._pair(a, b)

    def _groups(self, key: Callable[[Side, Meaning, str], Hashable | None]) -> None:
        """Pair the operators of equal key in order, where there are as many on both sides; else those of one path."""
        sides = ((self.before, self.partner), (self.after, self.back))
        found: tuple[dict[Hashable, list[str]], ...] = (defaultdict(list), defaultdict(list))
        for group, (side, taken), meaning in zip(found, sides, self.meaning, strict=True):
            for name in side.boxes:
                told = None if name in taken else key(side, meaning[name], name)
                if told is not None:
                    group[told].append(name)
        for told, ours in found[0].items():
            theirs = found[1].get(told, [])
            if len(ours) == len(theirs):
                for a, b in zip(ours, theirs, strict=True):
                    self._pair(a, b)
            elif theirs:
                paths = {path_of(self.after, b): b for b in theirs}
                for a in ours:
                    if (b := paths.pop(path_of(self.before, a), "")) and a not in self.partner:
                        self._pair(a, b)

    @staticmethod
    def _weighted(side: Side, meaning: Meaning, name: str) -> Hashable | None:
        return (meaning.kind, meaning.geometry, meaning.mark) if meaning.mark else None

    @staticmethod
    def _named(side: Side, meaning: Meaning, name: str) -> Hashable | None:
        path = path_of(side, name)
        return (meaning.kind, path) if path and side.boxes[name].operator not in _ENDS else None

    def _neighbours(self) -> bool:
        """Pair neighbours until there are no more. Returns whether there were any."""
        count = len(self.partner)
        while self._downward() or self._upward():
            pass
        return len(self.partner) > count

    def _downward(self) -> bool:
        """Pair operators of one kind that read the same."""
        count = len(self.partner)
        for a in self.before.boxes:
            if a not in self.partner and self.before.boxes[a].inputs:
                b = next((b for b in self._candidates(a) if self._alike(a, b)), None)
                if b is not None:
                    self._pair(a, b)
        return len(self.partner) > count

    def _skip(self) -> bool:
        """Look through one more operator in each place where the sides part: one that reads a single value, which is
        matched, and has no partner. Returns whether there were any."""
        found = 0
        for number, (side, taken) in enumerate(((self.before, self.partner), (self.after, self.back))):
            skipped = self._skipped[number]
            for box in side.boxes.values():
                if box.id in taken or box.id in skipped or len(box.inputs) != 1 or box.operator in _ENDS:
                    continue
                behind = self._stands_for(number, box.inputs[0])
                if behind is not None:
                    skipped[box.id] = behind
                    if number:
                        self._behind.setdefault(behind, []).append(box.id)
                    found += 1
                    if self._neighbours():
                        return True
        return bool(found)

    def _stands_for(self, number: int, name: str) -> str | None:
        """The matched operator of the second side behind whose result a value stands."""
        matched = self.partner.get(name) if number == 0 else name if name in self.back else None
        return matched or self._skipped[number].get(name)

    def _upward(self) -> bool:
        """Pair what matched operators read in the same place, if it is of one kind."""
        count = len(self.partner)
        for a in reversed(list(self.before.boxes)):
            if (b := self.partner.get(a)) is None:
                continue
            ours, theirs = self.before.boxes[a].inputs, self.after.boxes[b].inputs
            for x, y in zip(ours, theirs, strict=False) if len(ours) == len(theirs) else ():
                if x not in self.partner and y not in self.back and self._alike(x, y):
                    self._pair(x, y)
        return len(self.partner) > count

    def _places(self) -> None:
        for a in self.before.boxes:
            if a in self.partner or not self.before.boxes[a].inputs:
                continue
            readers = {self.partner.get(reader) for reader in self.before.readers[a]}
            for b in self._candidates(a):
                if not readers.isdisjoint(self.after.readers[b]):
                    self._pair(a, b)
                    break

    def _candidates(self, a: str) -> Iterator[str]:
        """Operators of the other side that are not matched and read the same."""
        first = self._stands_for(0, self.before.boxes[a].inputs[0])
        for name in [first, *self._behind.get(first, ())] if first else ():
            for b in self.after.readers[name]:
                if b not in self.back and self._reads_alike(a, b):
                    yield b

    def _alike(self, a: str, b: str) -> bool:
        return self.meaning[0][a].kind == self.meaning[1][b].kind


def path_of(side: Side, name: str) -> str:
    """The path of the module of an operator, as PyTorch spells it; "" if it belongs to none.

    "features.0/Conv" of our files is "features.0"; "/layer1/layer1.0/Conv" of torch's older exporter is "layer1.0".
    """
    where = side.boxes[name].where
    if side.path is None:
        return "" if where == name else where
    return torch_path(where)


def torch_path(name: str) -> str:
    """The path in the name of a node of a file."""
    *parts, _ = name.strip("/").split("/")
    path = ""
    for part in parts:
        path = part if not path or part == path or part.startswith(f"{path}.") else f"{path}.{part}"
    return path


def _plain(side: Side, name: str) -> str:
    """The name of an input or output, without case and signs."""
    return re.sub(r"\W", "_", str(side.nodes[name].target)).lower()
