"""The report of an optimization: immutable events and their totals, printed as text or written as JSON.

An event records one rewrite at one place and its outcome. `where` is the module path as the user knows it. Costs are
in multiply-accumulates (MACs); the formula is in `algebra/work.py`.
"""

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text


class Outcome(str, Enum):
    """The outcome of a proposed rewrite: applied; refused, because it does not pay or its law does not hold; or
    rejected, because it failed its numerical check."""

    APPLIED = "applied"
    REFUSED = "refused"
    REJECTED = "rejected"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Event:
    """One rewrite at one place.

    Args:
        rewrite: the name of the pass.
        where: the path of the module that it would change.
        outcome: applied, refused or rejected.
        cost_before, cost_after: the costs of the nodes and of their replacement, in multiply-accumulates; None if
            unknown.
        error: ‖before - after‖ / ‖before‖ in float64; None if it was not measured.
        reason: why the rewrite was not applied, or a remark on one that was; may be empty.
        times: milliseconds before and after; None if the costs were estimated, not measured.
        realizes: True if the rewrite only changes how the same map is computed (FFT or another layout, for example).
    """

    rewrite: str
    where: str
    outcome: Outcome
    cost_before: float | None = None
    cost_after: float | None = None
    error: float | None = None
    reason: str = ""
    times: tuple[float, float] | None = None
    realizes: bool = False


@dataclass(frozen=True)
class Totals:
    """The size of a program: the number of `operators`, the number of entries of all `parameters`, and the number of
    multiply-accumulates, `macs` (None if the shapes are not known)."""

    operators: int
    parameters: int
    macs: int | None = None


def sum_of(parts: Sequence[Totals]) -> Totals | None:
    """The size of all parts together; None if there are none. The MACs are None if those of any part are unknown."""
    if not parts:
        return None
    macs = [part.macs for part in parts if part.macs is not None]
    operators, parameters = sum(part.operators for part in parts), sum(part.parameters for part in parts)
    return Totals(operators, parameters, sum(macs) if len(macs) == len(parts) else None)


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
    """

    events: tuple[Event, ...] = ()
    before: Totals | None = None
    after: Totals | None = None
    capture: str = ""
    notes: tuple[str, ...] = ()
    target: str = "torch"
    seconds: float = field(default=0.0, compare=False)
    times: tuple[float, float] | None = field(default=None, compare=False)

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

    def brief(self) -> Group:
        """The report to print, without the refused rewrites: a large model has very many of them."""
        shown = tuple(event for event in self.events if event.outcome is not Outcome.REFUSED)
        return self._render(shown, "; -v shows why not" if self.refused else "")

    def to_json(self, indent: int | None = 2) -> str:
        """The whole report as a JSON object; outcomes are words such as "applied". `indent`: as for `json.dumps`."""
        return json.dumps(asdict(self), indent=indent)

    def __rich__(self) -> Group:
        return self._render(self.events)

    def _render(self, events: tuple[Event, ...], hint: str = "") -> Group:
        parts: list[Text | Table] = [Text(f"fusekit: {note}", style="bold yellow") for note in self.notes]
        parts.append(Text(self._headline(hint), style="bold"))
        if self.before is not None and self.after is not None:
            parts.append(_totals_table(self.before, self.after, self.times))
        if events:
            parts.append(_events_table(events))
        return Group(*parts)

    def __str__(self) -> str:
        buffer = io.StringIO()
        Console(file=buffer, width=120, no_color=True, highlight=False).print(self)
        return buffer.getvalue().rstrip()

    def _headline(self, hint: str) -> str:
        counts = Counter(event.outcome for event in self.events)
        words = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)
        return f"{words} (captured by {self.capture or 'nothing'}, target {self.target}{hint})"


def _totals_table(before: Totals, after: Totals, times: tuple[float, float] | None) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, old, new in (
        ("operators", before.operators, after.operators),
        ("parameters", before.parameters, after.parameters),
        ("MACs", before.macs, after.macs),
    ):
        table.add_row(name, _count(old), _count(new))
    if times is not None:
        table.add_row("ms", f"{times[0]:.3g}", f"{times[1]:.3g}")
    return table


def _events_table(events: tuple[Event, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("outcome")
    table.add_column("rewrite", no_wrap=True)
    table.add_column("where", overflow="fold")
    table.add_column("cost", justify="right", no_wrap=True)
    table.add_column("error", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for event in events:
        error = "" if event.error is None else f"{event.error:.1e}"
        table.add_row(str(event.outcome), event.rewrite, event.where, _price(event), error, event.reason)
    return table


def _price(event: Event) -> str:
    if event.times is not None:
        return "{:.3g} -> {:.3g} ms".format(*event.times)
    if event.cost_before is None or event.cost_after is None:
        return ""
    return f"x{event.cost_after / event.cost_before:.3g}" if event.cost_before else f"{event.cost_after:.3g}"


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"
