"""The report as the content of a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fusekit.page import Check, Content, Figure, Timing
from fusekit.report.event import Event, Outcome
from fusekit.report.measures import Measure, saved
from fusekit.report.pictured import pictured
from fusekit.report.places import grouped


@dataclass(frozen=True)
class Beside:
    """What a page shows beside the report: the verdict on the result, the errors and the times."""

    ok: bool | None = None
    verdict: str = ""
    errors: tuple[float, float] | None = None
    checks: tuple[Check, ...] = ()
    timings: tuple[Timing, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


NOTHING = Beside()


def content(report: Any, beside: Beside) -> Content:
    """The content of the page of a `Report`."""
    rows = report.measures(beside.errors)
    laws = dict(report.laws)
    applied = report.applied
    done = []
    for law in dict.fromkeys(event.rewrite for event in applied):
        groups = grouped([event for event in applied if event.rewrite == law], 12)
        done.append((law, laws.get(law, ""), tuple(str(group).replace("->", "→") for group in groups)))
    told = saved(rows)
    reading = (("model read by", report.capture), ("optimized for", report.target))
    took = (("optimization took", f"{report.seconds:.1f} s"),) if report.seconds else ()
    return Content(
        title="What fusekit did",
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
        picture=None if report.drawings is None else pictured(report.drawings, report.events, laws),
    )


def _figure(row: Measure) -> Figure:
    better = row.change.startswith("-") or row.change.endswith("faster")
    texts = (row.spelled(row.before), row.spelled(row.after), row.change.replace("-", "−").replace("x ", "× "))
    return Figure(row.name, row.before, row.after, *texts, better)


def _open(events: Sequence[Event]) -> list[Event]:
    """The events that were not applied, the most costly places first."""
    left = [event for event in events if event.outcome is not Outcome.APPLIED]
    return sorted(left, key=lambda event: (event.outcome is Outcome.REFUSED, -(event.cost_before or 0.0)))


def _row(event: Event) -> tuple[str, str, str, str, float, str]:
    price = event.price.replace("->", "→")
    return event.rewrite, event.where, str(event.outcome), price, event.cost_before or 0.0, event.reason
