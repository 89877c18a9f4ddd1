"""The report for a terminal: one screen (`screen`), or every line (`table`)."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fusekit.report.event import Event, Outcome
from fusekit.report.measures import Measure, saved
from fusekit.report.places import MOST, by_law
from fusekit.report.refusals import refusals

_SHOWN = 3  # refusals
_LINES = 12  # of groups of rewrites; beyond it, each law takes one line


def screen(events: Sequence[Event], rows: Sequence[Measure]) -> Group:
    """What was done, what it saved, what was not done, and the numbers before and after."""
    parts: list[RenderableType] = []
    applied = [event for event in events if event.outcome is Outcome.APPLIED]
    if applied:
        parts += [Text("What was done", style="bold"), Padding(_done(applied), (0, 0, 0, 2))]
    else:
        parts.append(Text("Nothing was rewritten."))
    if told := saved(rows):
        parts.append(Padding(Text(f"It saves {told}."), (0, 0, 0, 2)))
    groups = refusals(events)
    if groups:
        parts += ["", Text("What was not done, and why", style="bold")]
        for group in groups[:_SHOWN]:
            count = len(group.events)
            head = Text(f"{group.rewrite} at {group.where}" + (f" ({count} places)" if count > 1 else ""))
            style = "red" if group.rejected else ""
            failed = "FAILED: " if group.rejected else ""
            parts += [Padding(head, (0, 0, 0, 2)), Padding(Text(failed + group.reason, style=style), (0, 0, 0, 4))]
        if len(groups) > _SHOWN:
            more = len(groups) - _SHOWN
            told = f"and {more} other reason{'s' * (more > 1)}; -v shows all"
            parts.append(Padding(Text(told), (0, 0, 0, 2)))
    if rows:
        parts += ["", comparison(rows)]
    return Group(*parts)


def comparison(rows: Sequence[Measure]) -> Table:
    """The numbers before and after."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "before", "after", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in rows:
        style = "green" if row.change.startswith("-") or row.change.endswith("faster") else ""
        table.add_row(row.name, row.spelled(row.before), row.spelled(row.after), Text(row.change, style=style))
    return table


def headline(events: Sequence[Event], capture: str, target: str) -> str:
    """How many events there are of each kind, and how the model was read."""
    counts = Counter(event.outcome for event in events)
    words = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)
    return f"{words} (captured by {capture or 'nothing'}, target {target})"


def table(events: Sequence[Event]) -> Table:
    """Every event on a line of its own."""
    lines = Table(box=None, pad_edge=False)
    lines.add_column("outcome")
    lines.add_column("rewrite", no_wrap=True)
    lines.add_column("where", overflow="fold")
    lines.add_column("cost", justify="right", no_wrap=True)
    lines.add_column("error", justify="right", no_wrap=True)
    lines.add_column("reason", overflow="fold")
    for event in events:
        error = "" if event.error is None else f"{event.error:.1e}"
        lines.add_row(str(event.outcome), event.rewrite, Text(event.where), event.price, error, Text(event.reason))
    return lines


def _done(applied: Sequence[Event]) -> Table:
    lines = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    told = by_law(applied)
    if sum(map(len, told.values())) > _LINES:
        told = by_law(applied, most=1)
    for law, groups in told.items():
        for index, group in enumerate(groups[:MOST]):
            lines.add_row("" if index else law, Text(group))
        if len(groups) > MOST:
            lines.add_row("", f"and {len(groups) - MOST} more; -v shows all")
    return lines
