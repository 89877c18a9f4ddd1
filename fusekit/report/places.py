"""Groups events by law and by block of the model, so that equal blocks take one line.

The block of an event is the longest path that all its modules share. Blocks that differ only in a number are one group:
"stages.2.0" and "stages.2.7" are "stages.2.*". If a law still has too many groups, more numbers become stars, from the
right to the left; then the ends of the paths are cut off.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fusekit.report.event import Event

MOST = 4  # groups of one law
DROPPED = "drop-identity"


@dataclass(frozen=True)
class Group:
    """Events of one law at blocks of one `pattern`, each with the same `change`."""

    rewrite: str
    pattern: str
    change: tuple[str, ...]
    events: tuple[Event, ...]

    @property
    def blocks(self) -> int:
        """The number of different blocks."""
        return len({block(event.where) for event in self.events})

    def __str__(self) -> str:
        """stages.2.*: 20 blocks, 5 branches each -> 1 convolution"""
        count = len(self.events)
        if not self.change:
            return f"{self.pattern}: {count} places" if count > 1 else self.pattern
        old, new = self.change
        if count == 1:
            return f"{self.pattern}: {old} -> {new}"
        places = f"{count} blocks" if self.blocks == count else f"{count} places"
        return f"{self.pattern}: {places}, {old} each -> {new}"


def block(where: str) -> str:
    """The longest path that all modules of an event share; if they share none, that of the first."""
    paths = [path.split(".") for path in re.split(r" \+ | \.\.\. ", where)]
    shared = []
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return ".".join(shared or paths[0])


def by_law(applied: Iterable[Event], most: int = MOST) -> dict[str, list[str]]:
    """For each law, what it did, line by line; operators that do nothing come last, in one line."""
    laws: dict[str, list[Event]] = {}
    for event in applied:
        laws.setdefault(event.rewrite, []).append(event)
    dropped = laws.pop(DROPPED, [])
    lines = {law: [str(group) for group in grouped(events, most)] for law, events in laws.items()}
    if dropped:
        lines[DROPPED] = [f"{len(dropped)} operators that do nothing" if len(dropped) > 1 else str(grouped(dropped)[0])]
    return lines


def grouped(events: Iterable[Event], most: int = MOST) -> list[Group]:
    """The groups of events that belong to one law, in the order of their first events: the finest that are at most
    `most` groups."""
    events = list(events)
    groups: list[Group] = []
    for blur in _BLURS:
        groups = _by(events, blur)
        if len(groups) <= most:
            break
    return groups


def _by(events: Sequence[Event], blur: "_Blur") -> list[Group]:
    found: dict[tuple[str, str, tuple[str, ...]], list[Event]] = {}
    for event in events:
        found.setdefault((event.rewrite, blur(block(event.where)), event.change), []).append(event)
    alone = {key for key, members in found.items() if len({block(event.where) for event in members}) == 1}
    return [
        Group(rewrite, block(members[0].where) if (rewrite, pattern, change) in alone else pattern, change, (*members,))
        for (rewrite, pattern, change), members in found.items()
    ]


@dataclass(frozen=True)
class _Blur:
    """Makes paths alike: the last `stars` numbers become stars, all but the first `names` names are cut off."""

    stars: int
    names: int | None = None

    def __call__(self, path: str) -> str:
        names = [re.sub(r"_\d+$", "_*", name) for name in path.split(".")]
        numbers = [index for index, name in enumerate(names) if name.isdigit()][-self.stars :]
        for index in numbers:
            names[index] = "*"
        if self.names is not None and len(names) > self.names:
            names = [*names[: self.names], "*"] if names[self.names - 1] != "*" else names[: self.names]
        return ".".join(names)


_BLURS = (_Blur(1), _Blur(1, 3), _Blur(2, 3), _Blur(9, 3), _Blur(9, 2), _Blur(9, 1))
