"""The report of an optimization: immutable events and their totals, printed as text or written as JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Group
from rich.text import Text

from fusekit.page import snippet, write_page
from fusekit.report.drawing import Drawing
from fusekit.report.event import Event, Outcome
from fusekit.report.html import NOTHING, Beside, content
from fusekit.report.measures import Measure, measures
from fusekit.report.plain import plain
from fusekit.report.text import comparison, headline, screen, table
from fusekit.report.totals import Totals


@dataclass(frozen=True)
class Report:
    """What the optimization of a model did: every event in order, and the totals.

    Args:
        events: one for each rewrite at each place.
        before, after: the size of the model and of the result; None if unknown.
        capture: how the model was turned into a graph (the name of the tracing method).
        notes: messages for the user, one sentence each.
        target: the runtime that the model was optimized for.
        seconds: how long the optimization took.
        times: milliseconds of the whole model and of the result on the target; None if they were not timed.
        drawings: the model and the result as plain records, for a picture; None if there are none.
        laws: the law of each rewrite in one line, by its name.
        machine: what the times depend on, by name: versions, processor, threads.
    """

    events: tuple[Event, ...] = ()
    before: Totals | None = None
    after: Totals | None = None
    capture: str = ""
    notes: tuple[str, ...] = ()
    target: str = "torch"
    seconds: float = field(default=0.0, compare=False)
    times: tuple[float, float] | None = field(default=None, compare=False)
    drawings: tuple[Drawing, Drawing] | None = field(default=None, compare=False, repr=False)
    laws: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    machine: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)

    def of(self, outcome: Outcome | str) -> tuple[Event, ...]:
        """The events with this outcome."""
        return tuple(event for event in self.events if event.outcome == Outcome(outcome))

    @property
    def applied(self) -> tuple[Event, ...]:
        """The rewrites that are in the result."""
        return self.of(Outcome.APPLIED)

    @property
    def refused(self) -> tuple[Event, ...]:
        """The rewrites that do not pay, or whose law does not hold at this place; the reason says which."""
        return self.of(Outcome.REFUSED)

    @property
    def rejected(self) -> tuple[Event, ...]:
        """The rewrites that failed their numerical check and were undone. Each one is a bug in fusekit."""
        return self.of(Outcome.REJECTED)

    def measures(self, errors: tuple[float, float] | None = None) -> list[Measure]:
        """The numbers before and after. `errors`: the relative errors of the model and of the result in float64."""
        return measures(self.before, self.after, self.times, errors)

    def brief(self, errors: tuple[float, float] | None = None) -> Group:
        """The report on one screen: rewrites by law and block, the most important refusals, and the numbers. `errors`:
        as for `measures`."""
        return Group(*self._notes(), screen(self.events, self.measures(errors)))

    def to_json(self, indent: int | None = 2) -> str:
        """The whole report as a JSON object; outcomes are words such as "applied". `indent`: as for `json.dumps`."""
        return json.dumps(asdict(self), indent=indent)

    def to_html(self, path: str | Path, beside: Beside = NOTHING) -> None:
        """Write a page with the report and the graph before and after: one file that loads nothing from elsewhere.

        Args:
            path: the file to write. It appears whole or not at all.
            beside: what else the page shows: the verdict, errors and times (`Validation.to_html` gives them).

        Raises ExportError if no file can be written there.
        """
        write_page(content(self, beside), path)

    def _repr_html_(self) -> str:
        return snippet(content(self, NOTHING, drawn=False))

    def __rich__(self) -> Group:
        parts: list[Text | Group] = [*self._notes(), Text(headline(self.events, self.capture, self.target), "bold")]
        rows = self.measures()
        return Group(*parts, *([comparison(rows)] if rows else []), *([table(self.events)] if self.events else []))

    def __str__(self) -> str:
        return plain(self)

    def _notes(self) -> list[Text]:
        return [Text(f"fusekit: {note}", style="bold yellow") for note in self.notes]
