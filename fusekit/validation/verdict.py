"""The result of `validate`: a verdict with all measured errors, printed as text or written as JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fusekit.page import Check, Timing, snippet
from fusekit.report import Beside, Report
from fusekit.report.html import content
from fusekit.report.plain import plain
from fusekit.validation.tolerance import OutputError

REFUSED = "the reference cannot run it"


@dataclass(frozen=True)
class ProbeResult:
    """The result of one probe: the errors of the outputs, or why it was skipped, or why the candidate failed on it."""

    name: str
    outputs: tuple[OutputError, ...] = ()
    skipped: str = ""
    failure: str = ""

    @property
    def ok(self) -> bool:
        return not self.failure and all(output.ok for output in self.outputs)

    @property
    def worst(self) -> OutputError | None:
        """The output with the largest error."""
        return max(self.outputs, key=lambda output: output.error, default=None)

    def checks(self) -> list[Check]:
        """The lines of this probe on a page."""
        if self.failure or (self.skipped and not self.outputs):
            note = f"failed: {self.failure}" if self.failure else f"skipped: {self.skipped}"
            return [Check(self.name, ok=not self.failure, note=note)]
        return [
            Check(self.name, each.name, each.reference_error, each.error, each.tolerance, each.ok, each.reason)
            for each in self.outputs
        ]

    @property
    def failures(self) -> tuple[str, ...]:
        """Everything wrong on this probe, one line each."""
        whole = (f"{self.name}: {self.failure}",) if self.failure else ()
        return whole + tuple(f"{self.name}, {output.name}: {output.reason}" for output in self.outputs if output.reason)


@dataclass(frozen=True)
class Validation:
    """The verdict. `error`, `reference_error` and `tolerance` belong to the output and probe with the largest error.

    Args:
        probes: the result of each probe.
        dynamic_axes: for each input by name, the axes whose sizes were changed and for which the candidate ran.
        report: the report of the optimization, if there was one.
    """

    probes: tuple[ProbeResult, ...]
    dynamic_axes: dict[str, tuple[int, ...]]
    report: Report | None = None

    @property
    def ok(self) -> bool:
        """True if something was compared and nothing failed."""
        return any(probe.outputs for probe in self.probes) and not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """Everything that is wrong on any probe, one line each."""
        return tuple(line for probe in self.probes for line in probe.failures)

    @property
    def outputs(self) -> tuple[OutputError, ...]:
        """Each output of the model, on the probe where its error was largest."""
        worst: dict[str, OutputError] = {}
        for output in (output for probe in self.probes for output in probe.outputs):
            known = worst.get(output.name)
            if known is None or (output.ok, -output.error) < (known.ok, -known.error):
                worst[output.name] = output
        return tuple(worst.values())

    @property
    def error(self) -> float:
        """‖candidate − r64‖ / ‖r64‖, where r64 is the reference run in float64. Infinite if the candidate failed to
        run."""
        worst = self._worst
        return math.inf if worst is None or any(probe.failure for probe in self.probes) else worst.error

    @property
    def reference_error(self) -> float:
        """‖reference − r64‖ / ‖r64‖ for the same output and probe: the rounding error of the reference itself."""
        return 0.0 if self._worst is None else self._worst.reference_error

    @property
    def tolerance(self) -> float:
        """The largest error allowed for the same output and probe."""
        return 0.0 if self._worst is None else self._worst.tolerance

    @property
    def ratio(self) -> float:
        """`error` / `reference_error`; 1 if both are zero."""
        if not self.reference_error:
            return math.inf if self.error else 1.0
        return self.error / self.reference_error

    @property
    def _worst(self) -> OutputError | None:
        return max((output for probe in self.probes for output in probe.outputs), key=_badness, default=None)

    def to_json(self, indent: int | None = 2) -> str:
        """Everything as one JSON object. Infinity and NaN, which JSON does not have, become strings. `indent`: as for
        `json.dumps`."""
        verdict = (
            "ok",
            "error",
            "reference_error",
            "ratio",
            "tolerance",
            "outputs",
            "dynamic_axes",
            "probes",
            "failures",
        )
        return json.dumps({name: _plain(getattr(self, name)) for name in verdict}, indent=indent, allow_nan=False)

    def to_html(self, path: str | Path, timings: Sequence[Timing] = (), name: str = "") -> None:
        """Write a page with the verdict, the errors and the report (`Report.to_html`).

        Args:
            path: the file to write. It appears whole or not at all.
            timings: the times of several versions, of a benchmark.
            name: of the model, for the title.

        Raises ExportError if no file can be written there.
        """
        checks = tuple(check for probe in self.probes for check in probe.checks())
        beside = replace(self._beside, checks=checks, timings=tuple(timings), name=name)
        (self.report or Report()).to_html(path, beside)

    def _repr_html_(self) -> str:
        return snippet(content(self.report or Report(), self._beside, drawn=False), self.failures)

    @property
    def _beside(self) -> Beside:
        return Beside(self.ok, self._headline().partition(": ")[2], self.errors)

    def __rich__(self) -> Group:
        table = Table(box=None, pad_edge=False)
        table.add_column("probe", no_wrap=True)
        table.add_column("output", overflow="fold")
        for heading in ("error", "reference", "tolerance"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("", overflow="fold")
        for probe in self.probes:
            if probe.failure:
                table.add_row(probe.name, "", "", "", "", Text(f"FAILED: {probe.failure}", style="red"))
            elif probe.skipped and not probe.skipped.startswith(REFUSED):
                table.add_row(probe.name, "", "", "", "", Text(f"skipped: {probe.skipped}"))
            for output in probe.outputs:
                numbers = (f"{value:.1e}" for value in (output.error, output.reference_error, output.tolerance))
                verdict = Text("ok") if output.ok else Text(f"FAILED: {output.reason}", style="red")
                table.add_row(probe.name, output.name, *numbers, verdict)
        parts: list[Text | Table] = [Text(self._headline(), style="bold green" if self.ok else "bold red"), table]
        if refused := [probe.name for probe in self.probes if probe.skipped.startswith(REFUSED)]:
            parts.append(Text(f"skipped, {REFUSED}: {', '.join(refused)}"))
        return Group(*parts)

    def brief(self) -> Group:
        """The verdict in a few lines; everything that failed."""
        parts = [Text(self._headline(), style="bold green" if self.ok else "bold red")]
        return Group(*parts, *(Text(f"FAILED: {line}", style="red") for line in self.failures))

    @property
    def errors(self) -> tuple[float, float] | None:
        """(reference_error, error); None if nothing was compared."""
        return None if self._worst is None else (self.reference_error, self.error)

    def __str__(self) -> str:
        return plain(self)

    def _headline(self) -> str:
        axes = ", ".join(f"{name}{list(axes)}" for name, axes in self.dynamic_axes.items() if axes)
        numbers = f"error {self.error:.1e}, the reference's own {self.reference_error:.1e} (ratio {self.ratio:.2g})"
        verdict = "valid" if self.ok else "NOT VALID"
        return f"{verdict}: {numbers}, tolerance {self.tolerance:.1e}; dynamic axes: {axes or 'none'}"


def _badness(output: OutputError) -> float:
    """The error, with NaN counted as infinite, so that a failed comparison never looks good."""
    return math.inf if math.isnan(output.error) else output.error


def _plain(value: Any) -> Any:
    """The value for JSON: dataclasses become dicts with their `ok`, tuples lists, infinity and NaN strings."""
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return {**named, "ok": getattr(value, "ok", None)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
