"""The errors of a whole data set: their distribution, the agreement of top classes, the samples that are furthest off.

A sample's own error is that of a few numbers, and may be small by chance. So its tolerance is derived from its own
error or from that of 99 % of all samples, whichever is larger:

    tolerance(i) = max(16 · max(own(i), own_99), 32 · eps, eps √K)
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fusekit.page import Check, Content, Words, write_page
from fusekit.report.plain import plain
from fusekit.validation.tolerance import FACTOR, FLOOR_FLIPPED, derived_tolerance

_WORDS = Words(done="The samples that are furthest off", nothing="There is no error at all.")


@dataclass(frozen=True)
class SampleError:
    """The error of one output on one sample.

    Args:
        number, name: of the sample.
        output: the name of the output; "" if the candidate failed.
        error, reference_error: as in `fusekit.Validation`, of this sample alone.
        reason: what is wrong with it; "" if nothing is.
        dtype: of the output.
        classes: the places of the largest scores, of the candidate, the reference, the float64 run; None: no scores.
        tolerance: the largest error allowed.
    """

    number: int
    name: str
    output: str
    error: float
    reference_error: float
    reason: str = ""
    dtype: str = "float32"
    classes: tuple[int, int, int] | None = None
    tolerance: float = 0.0

    @property
    def badness(self) -> float:
        """The error in tolerances; infinite if it is no number."""
        if math.isnan(self.error) or math.isinf(self.error):
            return math.inf
        return self.error / self.tolerance if self.tolerance else self.error


@dataclass(frozen=True)
class OnData:
    """What became of a comparison on a data set.

    Args:
        errors: one for each sample and output, in order.
        skipped: (sample, why) where the reference itself fails.
        samples: how many there are.
        names: of the reference, the candidate and the data set.
        worst: the samples furthest off, the worst first, one entry for each.
        seconds: how long it took.
        notes: messages for the user.
    """

    errors: tuple[SampleError, ...]
    skipped: tuple[tuple[str, str], ...]
    samples: int
    names: tuple[str, str, str]
    worst: tuple[SampleError, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if something was compared and no sample is off by more than its tolerance."""
        return bool(self.errors) and not self.failures

    @cached_property
    def failures(self) -> tuple[str, ...]:
        """Everything that is wrong, one line for each sample and output."""
        told = ((f"sample {e.name}{f', {e.output}' * bool(e.output)}", e.reason) for e in self.errors if e.reason)
        return tuple(f"{where}: {reason}" for where, reason in told)

    @cached_property
    def distribution(self) -> dict[str, dict[str, float]]:
        """For each output, the median, the 99th percentile and the maximum of errors (`error`) and of the reference's
        own (`reference_error`), as `error_median`, and so on; and the largest `tolerance`."""
        found = {}
        for output in dict.fromkeys(each.output for each in self.errors if each.output):
            its = [each for each in self.errors if each.output == output]
            found[output] = {
                **_spread("error", [each.error for each in its]),
                **_spread("reference_error", [each.reference_error for each in its]),
                "tolerance": max(each.tolerance for each in its),
            }
        return found

    @cached_property
    def classes(self) -> dict[str, dict[str, int]]:
        """For each output of scores: how many `samples` there are, for how many the top class `agree`s with the
        reference's, and for how many the reference's own agrees with its float64 run (`reference`)."""
        found: dict[str, dict[str, int]] = {}
        for each in self.errors:
            if each.classes is not None:
                ours, own, exact = each.classes
                counts = found.setdefault(each.output, {"samples": 0, "agree": 0, "reference": 0})
                counts["samples"] += 1
                counts["agree"] += ours == own
                counts["reference"] += own == exact
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything but the single errors, as plain values for JSON."""
        return {
            "ok": self.ok,
            "names": list(self.names),
            "samples": self.samples,
            "compared": len({each.number for each in self.errors}),
            "skipped": [list(each) for each in self.skipped],
            "distribution": {name: _finite(numbers) for name, numbers in self.distribution.items()},
            "classes": self.classes,
            "worst": [_finite({**vars(each), "classes": each.classes and list(each.classes)}) for each in self.worst],
            "failures": list(self.failures[:_MOST]),
            "failed": len(self.failures),
            "seconds": self.seconds,
            "notes": list(self.notes),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The same as text. Infinity and NaN become strings. `indent`: as for `json.dumps`."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def to_html(self, path: str | Path) -> None:
        """Write the page to `path`. Raises ExportError if no file can be written there."""
        write_page(self._content(), path)

    def _content(self) -> Content:
        checks = tuple(
            Check(what, output, its[f"reference_error_{key}"], its[f"error_{key}"], its["tolerance"], self.ok)
            for output, its in self.distribution.items()
            for key, what in _POINTS.items()
        )
        lines = tuple(_line(each) for each in self.worst)
        return Content(
            title=f"{self.names[1]} on {self.names[2]}",
            ok=self.ok,
            verdict=self._headline().partition(": ")[2],
            done=(("samples", "", lines),) if lines else (),
            checks=checks,
            facts=(("reference", self.names[0]), ("file", self.names[1]), ("data", self.names[2]),
                   ("took", f"{self.seconds:.1f} s")),
            notes=(*self._class_lines(), *self._skipped_line(), *self.notes),
            words=_WORDS,
        )  # fmt: skip

    def __rich__(self) -> Group:
        style = "bold green" if self.ok else "bold red"
        table = Table(box=None, pad_edge=False)
        for heading in ("output", "error: median", "99 %", "max", "reference: median", "99 %", "max", "tolerance"):
            table.add_column(heading, justify="left" if heading == "output" else "right", no_wrap=True)
        for output, its in self.distribution.items():
            table.add_row(output, *(f"{value:.1e}" for value in its.values()))
        parts: list[Text | Table] = [Text(self._headline(), style=style), table]
        parts += [Text(line) for line in (*self._class_lines(), *self._skipped_line(), *self.notes)]
        if self.worst:
            parts.append(Text("furthest off:", style="bold"))
            parts += [Text(f"  {_line(each)}", style="red" if each.reason else "") for each in self.worst]
        return Group(*parts)

    def __str__(self) -> str:
        return plain(self)

    def _headline(self) -> str:
        compared = len({each.number for each in self.errors})
        off = len({each.number for each in self.errors if each.reason})
        told = f"{off} of {compared} samples are off by more than the tolerance" if off else f"{compared} samples agree"
        return f"{'valid' if self.ok else 'NOT VALID'}: {told if compared else 'nothing was compared'}"

    def _class_lines(self) -> tuple[str, ...]:
        return tuple(
            f"top class of {output}: {its['agree']:,} of {its['samples']:,} agree"
            f" (the reference with its float64 run: {its['reference']:,})"
            for output, its in self.classes.items()
        )

    def _skipped_line(self) -> tuple[str, ...]:
        if not self.skipped:
            return ()
        (name, why), more = self.skipped[0], len(self.skipped)
        return (f"{more} samples were skipped, because the reference fails on them; {name}: {why}",)


_MOST = 100  # failures that JSON lists; a model that is wrong is so on all samples
_POINTS = {"median": "median", "99": "99 % of the samples", "max": "the worst sample"}


def judged(errors: Iterable[SampleError], longest: int, tolerance: float | None) -> tuple[SampleError, ...]:
    """The errors with their tolerances, and a reason where they exceed them. `longest`: the products in the longest
    sum; `tolerance`: for all, in place of the derived one."""
    errors = tuple(errors)
    usual: dict[str, float] = {}
    for output in {each.output for each in errors}:
        usual[output] = _quantile([each.reference_error for each in errors if each.output == output], 0.99)
    return tuple(_judged(each, usual[each.output], longest, tolerance) for each in errors)


def _judged(each: SampleError, usual: float, longest: int, tolerance: float | None) -> SampleError:
    own = max(each.reference_error, usual)
    dtype = getattr(torch, each.dtype)
    if tolerance is not None:
        bound = tolerance
    elif dtype.is_floating_point or dtype.is_complex:
        bound = derived_tolerance(own, dtype, longest)
    else:
        bound = max(FACTOR * own, FLOOR_FLIPPED)
    reason = each.reason or ("" if each.error <= bound else f"error {each.error:.2e} exceeds the tolerance {bound:.2e}")
    return replace(each, tolerance=bound, reason=reason)


def furthest(errors: Iterable[SampleError], count: int) -> tuple[SampleError, ...]:
    """The worst error of each sample that has any error, for the `count` worst samples."""
    of_sample: dict[int, SampleError] = {}
    for each in errors:
        known = of_sample.get(each.number)
        if (each.error != 0 or each.reason) and (known is None or each.badness > known.badness):
            of_sample[each.number] = each
    return tuple(sorted(of_sample.values(), key=lambda each: (-each.badness, each.number))[:count])


def _quantile(values: Sequence[float], part: float) -> float:
    return float(numpy.quantile(values, part, method="higher")) if len(values) else 0.0


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    known = [math.inf if math.isnan(value) else value for value in values]
    points = {"median": 0.5, "99": 0.99, "max": 1.0}
    return {f"{name}_{key}": _quantile(known, part) for key, part in points.items()}


def _line(each: SampleError) -> str:
    told = f"{each.name}: " + (each.reason or f"error {each.error:.1e}, the reference's own {each.reference_error:.1e}")
    if each.classes is not None and each.classes[0] != each.classes[1]:
        told += f"; top class {each.classes[0]}, the reference's {each.classes[1]}"
    return told


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
