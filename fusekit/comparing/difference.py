"""How two models differ: plain records, as text for a terminal, as JSON and as a page."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fusekit.page import Content, Figure, Picture, PicturedEvent, Words, snippet, write_page
from fusekit.report import Box, Drawing, Event, Measure, Outcome, Totals
from fusekit.report.measures import measures
from fusekit.report.pictured import boxes_of, typeset
from fusekit.report.places import grouped
from fusekit.report.plain import plain
from fusekit.report.text import comparison

_LINES = 4  # of one kind of difference on the terminal
_HINT = (
    "What differs has one colour and one number on both sides; all others are the same. Select an operator to see what "
    "stands for it on the other side."
)


@dataclass(frozen=True)
class Change:
    """One place where the models differ.

    Args:
        kind: "weights", "geometry", "replaced", "only in A" or "only in B".
        where: the path of the modules or nodes.
        what: the difference in words, such as "weights differ by 3.1e-03"; empty if there is nothing to add.
        before, after: the ids of its operators in both models.
        apart: ‖a − b‖ / ‖a‖ of the weights, where they have the same shapes and differ.
    """

    kind: str
    where: str
    what: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    apart: float | None = None


@dataclass(frozen=True)
class Difference:
    """What two models have in common, and where they differ.

    Args:
        names: of both models.
        sizes: operators, parameters, multiply-accumulates and bytes of both.
        changes: the places where they differ, in the order in which the second model runs them.
        same: how many operators are the same on both sides.
        partners: (id, id) of the operators that stand for each other.
        drawings: both graphs.
    """

    names: tuple[str, str]
    sizes: tuple[Totals, Totals]
    changes: tuple[Change, ...]
    same: int
    partners: tuple[tuple[str, str], ...] = field(repr=False, default=())
    drawings: tuple[Drawing, Drawing] = field(repr=False, default=(Drawing(), Drawing()))

    @property
    def equal(self) -> bool:
        """Whether there is no difference: the same operators, and weights that are equal up to rounding."""
        return not self.changes

    def measures(self) -> list[Measure]:
        """The sizes of both, in rows."""
        return measures(*self.sizes)

    def to_json(self, indent: int | None = 2) -> str:
        """Everything but the drawings as one JSON object. `indent`: as for `json.dumps`."""
        told = {
            "equal": self.equal,
            "names": self.names,
            "sizes": [asdict(size) for size in self.sizes],
            "same": self.same,
            "changes": [asdict(change) for change in self.changes],
            "partners": self.partners,
        }
        return json.dumps(told, indent=indent)

    def to_html(self, path: str | Path) -> None:
        """Write a page with both graphs side by side to `path`: one file that loads nothing from elsewhere.

        Raises ExportError if no file can be written there.
        """
        write_page(self._content(), path)

    def _repr_html_(self) -> str:
        return snippet(self._content(drawn=False))

    def __rich__(self) -> Group:
        parts: list[RenderableType] = [Text(self._headline(), style="bold")]
        if self.changes:
            parts += ["", Text("What differs", style="bold"), Padding(self._table(), (0, 0, 0, 2))]
        table = comparison(self.measures())
        for column, heading in zip(table.columns[1:3], ("A", "B"), strict=True):
            column.header = heading
        parts += ["", table]
        return Group(*parts)

    def __str__(self) -> str:
        return plain(self)

    def _headline(self) -> str:
        first, second = self.names
        told = f"A = {first}, B = {second}: {self.same:,} operator{'s' * (self.same != 1)} the same"
        if self.equal:
            return f"{told}; there is no difference"
        return f"{told}, {len(self.changes):,} place{'s' * (len(self.changes) != 1)} where they differ"

    def _table(self) -> Table:
        lines = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        lines.add_column(no_wrap=True)
        lines.add_column(overflow="fold")
        for kind, groups in self._lines(_LINES).items():
            for number, group in enumerate(groups[:_LINES]):
                lines.add_row("" if number else kind, Text(group))
            if len(groups) > _LINES:
                lines.add_row("", f"and {len(groups) - _LINES} more; --json and the page show all")
        return lines

    def _lines(self, most: int) -> dict[str, list[str]]:
        """For each kind of difference, the places in groups, `most` of them if that can be."""
        kinds: dict[str, list[Event]] = {}
        distance: dict[tuple[str, ...], float] = {}
        for change, event in zip(self.changes, self._events(), strict=True):
            kinds.setdefault(change.kind, []).append(event)
            distance[change.before] = change.apart or 0.0
        found: dict[str, list[str]] = {}
        for kind, events in kinds.items():
            for group in grouped(events, most):
                worst = max(distance[event.region] for event in group.events) if kind == "weights" else 0.0
                found.setdefault(kind, []).append(f"{group}{f', by {worst:.1e}' if worst else ''}")
        return found

    def _events(self) -> list[Event]:
        """The changes as events, for what groups those by place."""
        boxes = [{box.id: box for box in drawing.boxes} for drawing in self.drawings]
        events = []
        for change in self.changes:
            words: tuple[str, ...] = ()
            if change.kind == "replaced":
                sides = zip(boxes, (change.before, change.after), strict=True)
                words = tuple(counted(each[name].operator for name in names) for each, names in sides)
                words = words if words[0] != words[1] else ()
            elif change.kind == "geometry" and " -> " in change.what:
                words = tuple(change.what.split(" -> ", 1))
            events.append(Event(change.kind, change.where, Outcome.APPLIED, change=words, region=change.before))
        return events

    def _content(self, *, drawn: bool = True) -> Content:
        words = Words(
            before="A",
            after="B",
            done="What differs",
            nothing="There is no difference.",
            graph="Both graphs",
            hint=_HINT,
            same="It is the same on both sides.",
            became="of A stand against",
            made="differs",
            gone="only in A",
            kept="the same",
            others="What differs",
            columns=("difference", "where", "weights differ by", "what"),
            refused="All differences",
            table=("Difference", "Where", "Operators", "Weights differ by", "MACs in A", "What"),
            cost="Multiply-accumulates of the operators of A",
        )
        figures = tuple(
            Figure(r.name, r.before, r.after, r.spelled(r.before), r.spelled(r.after), typeset(r.change))
            for r in self.measures()
        )
        done = [(kind, "", tuple(map(typeset, lines))) for kind, lines in self._lines(8).items()]
        return Content(
            title=f"{self.names[0]} and {self.names[1]}",
            summary=self._headline(),
            figures=figures,
            done=tuple(done),
            refused=tuple(map(self._row, self.changes)),
            facts=(("A", self.names[0]), ("B", self.names[1])),
            notes=(self._headline(),),
            picture=self._picture(words) if drawn else None,
            words=words,
        )

    def _picture(self, words: Words) -> Picture:
        before, after = self.drawings
        regions: tuple[dict[str, int], dict[str, int]] = ({}, {})
        for number, change in enumerate(self.changes):
            for region, names in zip(regions, (change.before, change.after), strict=True):
                region.update(dict.fromkeys(names, number))
        places = {box.id: place for place, box in enumerate(before.boxes)}
        back = {b: places[a] for a, b in self.partners}
        boxes = boxes_of(after, regions[1], {})
        events = tuple(
            PicturedEvent(
                change.kind,
                change.where,
                "",
                "" if change.apart is None else f"{change.apart:.1e}",
                "",
                typeset(change.what),
                tuple(places[name] for name in change.before),
            )
            for change in self.changes
            if change.before
        )
        origins = ((back[box.id],) if box.id in back else () for box in after.boxes)
        return Picture(
            boxes_of(before, regions[0], {}),
            tuple(replace(box, origins=found) for box, found in zip(boxes, origins, strict=True)),
            events,
            {},
            (before.hidden, after.hidden),
            words,
        )

    def _row(self, change: Change) -> tuple[str, str, str, str, float, str]:
        boxes = [{box.id: box for box in drawing.boxes} for drawing in self.drawings]
        sides = [
            [each[name] for name in names] for each, names in zip(boxes, (change.before, change.after), strict=True)
        ]
        operators = " → ".join(counted(box.operator for box in side) or "nothing" for side in sides)
        weights = "" if change.apart is None else f"{change.apart:.1e}"
        return change.kind, change.where, operators, weights, float(_macs(sides[0])), typeset(change.what)


def counted(operators: Iterable[str]) -> str:
    """2 conv2d, 1 add"""
    return ", ".join(f"{count} {name.strip('_')}" for name, count in Counter(operators).items())


def _macs(boxes: Iterable[Box]) -> int:
    return sum(box.macs or 0 for box in boxes)
