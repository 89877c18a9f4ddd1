"""The report as the content of a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fusekit.page import Check, Content, Figure, Timing
from fusekit.report.event import Event, Outcome
from fusekit.report.measures import Measure, saved
from fusekit.report.pictured import pictured, typeset
from fusekit.report.places import by_law


@dataclass(frozen=True)
class Beside:
    """What a page shows beside the report: the verdict on the result, the errors, the times, the model's `name`."""

    ok: bool | None = None
    verdict: str = ""
    errors: tuple[float, float] | None = None
    checks: tuple[Check, ...] = ()
    timings: tuple[Timing, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    name: str = ""


NOTHING = Beside()


def content(report: Any, beside: Beside, *, drawn: bool = True) -> Content:
    """The content of the page of a `Report`. `drawn`: with the graphs."""
    rows = report.measures(beside.errors)
    laws = dict(report.laws)
    lines = by_law(report.applied, most=8)
    done = [(law, laws.get(law, ""), tuple(map(typeset, told))) for law, told in lines.items()]
    told = saved(rows)
    reading = (("model read by", report.capture), ("optimized for", report.target))
    took = (("optimization took", f"{report.seconds:.1f} s"),) if report.seconds else ()
    return Content(
        title=f"What fusekit did to {beside.name}" if beside.name else "What fusekit did",
        ok=beside.ok,
        verdict=beside.verdict,
        summary=f"It saves {told}." if told else "",
        figures=tuple(map(_figure, rows)),
        done=tuple(done),
        refused=tuple(map(_row, _open(report.events))),
        checks=beside.checks,
        timings=beside.timings,
        facts=tuple((name, value) for name, value in (*reading, *took, *report.machine, *beside.facts) if value),
        notes=report.notes,
        picture=None if report.drawings is None or not drawn else pictured(report.drawings, report.events, laws),
    )


def _figure(row: Measure) -> Figure:
    better = row.change.startswith("-") or row.change.endswith("faster")
    texts = (row.spelled(row.before), row.spelled(row.after), typeset(row.change.replace("-", "−")))
    return Figure(row.name, row.before, row.after, *texts, better)


def _open(events: Sequence[Event]) -> list[Event]:
    """The events that were not applied, the most costly places first."""
    left = [event for event in events if event.outcome is not Outcome.APPLIED]
    return sorted(left, key=lambda event: (event.outcome is Outcome.REFUSED, -(event.cost_before or 0.0)))


def _row(event: Event) -> tuple[str, str, str, str, float, str]:
    return event.rewrite, event.where, str(event.outcome), typeset(event.price), event.cost_before or 0.0, event.reason
