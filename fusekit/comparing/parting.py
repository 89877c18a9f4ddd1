"""Where the results of two models part: plain records, as text for a terminal and as JSON."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fusekit.report import Event
from fusekit.report.plain import plain
from fusekit.validation.tolerance import OutputError

_SHOWN = 6  # operators of one side


@dataclass(frozen=True)
class Place:
    """An operator: its name, the path of its module or node, and FILE:LINE of its source, "" if that is not known."""

    operator: str
    where: str
    line: str = ""

    def __str__(self) -> str:
        return f"{self.operator} {self.where}{f' ({self.line})' if self.line else ''}"


@dataclass(frozen=True)
class Entry:
    """One entry of a value: its `index`, and the number in float64, by the first model, and by the second."""

    index: tuple[int, ...]
    exact: float
    reference: float
    candidate: float


@dataclass(frozen=True)
class Parting:
    """Where two models part, or that they do not.

    Args:
        names: of both models.
        outputs: the errors of the output that differs most from the float64 run of the first model.
        runs: how often both models were run.
        steps: the number of common values, or of rewrites, that were halved.
        value: the errors of the first value that differs by more than its tolerance; None if there is none.
        entry: the entry of this value that differs most.
        before, after: the operators of both models that compute this value from values that agree.
        agreed: the places of these values; the inputs if there are none.
        event: the rewrite after which the results differ, if rewrites were halved; None if it is what comes before the
            first one.
        way: "values" or "rewrites".
        notes: messages for the user.
    """

    names: tuple[str, str]
    outputs: OutputError
    runs: int
    steps: int
    value: OutputError | None = None
    entry: Entry | None = None
    before: tuple[Place, ...] = ()
    after: tuple[Place, ...] = ()
    agreed: tuple[Place, ...] = ()
    event: Event | None = None
    way: str = "values"
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the outputs agree, so that the models do not part."""
        return self.outputs.ok

    def to_json(self, indent: int | None = 2) -> str:
        """Everything as one JSON object; infinity and NaN become strings. `indent`: as for `json.dumps`."""
        return json.dumps({"ok": self.ok, **_plain(asdict(self))}, indent=indent, allow_nan=False)

    def __rich__(self) -> Group:
        parts: list[RenderableType] = [Text(f"fusekit: {note}", style="bold yellow") for note in self.notes]
        if self.ok:
            told = f"The results agree: {_errors(self.outputs)}."
            return Group(*parts, Text(told, style="bold green"))
        parts.append(Text(f"The results part {self._headline()}.", style="bold red"))
        if self.way == "rewrites":
            parts += self._of_rewrites()
        else:
            parts += self._of_values()
        parts += ["", self._table()]
        return Group(*parts, Text(f"{self.runs} runs of each, {self.steps} {self._steps()} halved", style="dim"))

    def __str__(self) -> str:
        return plain(self)

    def _steps(self) -> str:
        return "rewrites" if self.way == "rewrites" else "common values"

    def _headline(self) -> str:
        if self.way == "rewrites":
            return f"after {self.event.rewrite} at {self.event.where}" if self.event else "before the first rewrite"
        where = self.after or self.before
        return f"at {where[0]}" if len(where) == 1 else f"within {len(where)} operators, which end at {where[-1]}"

    def _of_rewrites(self) -> list[RenderableType]:
        if self.event is None:
            return [Padding(Text("while the model was read, or lowered to real numbers"), (0, 0, 0, 2))]
        change, price = " -> ".join(self.event.change), self.event.price
        told = [change, f"price {price}" if price else ""]
        told += [] if self.event.error is None else [f"float64 error of its check {self.event.error:.1e}"]
        lines = [Text(", ".join(filter(None, told))), *(Text(f"from {place}") for place in self.before[:_SHOWN])]
        return [Padding(line, (0, 0, 0, 2)) for line in lines]

    def _of_values(self) -> list[RenderableType]:
        parts: list[RenderableType] = []
        for name, places in (("A", self.before), ("B", self.after)):
            for place in places[:_SHOWN]:
                parts.append(Padding(Text(f"{name}  {place}"), (0, 0, 0, 2)))
            if len(places) > _SHOWN:
                parts.append(Padding(Text(f"{name}  and {len(places) - _SHOWN} more"), (0, 0, 0, 2)))
        known = ", ".join(f"{place.operator} {place.where}" for place in self.agreed[:3]) or "the inputs"
        more = f" and {len(self.agreed) - 3} more" if len(self.agreed) > 3 else ""
        return [*parts, Padding(Text(f"What they read agrees: {known}{more}."), (0, 0, 0, 2))]

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in ("", "error of A", "error of B", "tolerance"):
            table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
        for name, each in (("there", self.value), ("at the outputs", self.outputs)):
            if each is not None:
                numbers = (each.reference_error, each.error, each.tolerance)
                table.add_row(
                    name, *(f"{value:.1e}" for value in numbers), each.reason if math.isinf(each.error) else ""
                )
        if self.entry is not None:
            three = (self.entry.reference, self.entry.candidate, self.entry.exact)
            table.add_row(f"entry {list(self.entry.index)}: A, B, float64", *(f"{value:.6g}" for value in three))
        return table


def _errors(each: OutputError) -> str:
    return f"error of A {each.reference_error:.1e}, of B {each.error:.1e}, tolerance {each.tolerance:.1e}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
