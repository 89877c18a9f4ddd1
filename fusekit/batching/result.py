"""What became of one item, as one row of a table."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from fusekit.batching.item import Item
from fusekit.validation import Validation

VALID, DIFFERS, FAILED, DIED, WAITING = "valid", "differs", "failed", "died", "waiting"


@dataclass(frozen=True)
class Result:
    """What became of one item.

    Args:
        name, source, output: of the item.
        status: "valid"; "differs": the numbers differ, and no file was written; "failed": an error; "died": its worker
            died each time; "waiting": it was not begun, or not finished, when the batch was stopped.
        reason: what is wrong; "" if it is valid.
        error, reference_error, tolerance: as in `fusekit.Validation`.
        operators_before, operators_after, parameters_before, parameters_after, macs_before, macs_after: counts.
        ms_before, ms_after: milliseconds of the whole, if it was timed.
        bytes: the size of the file, with the weights beside it.
        choice: how realizations were chosen, and why so: by times measured now, by times in the cache, by price.
        seconds: how long the item took.
        tries: how often it was begun.
        threads: that it computed with.
        worker: the machine and the process.
        report: the page of the item, relative to the folder of the batch.
        key: the hash of all that the file depends on.
        digest: SHA-256 of the file.
    """

    name: str
    source: str = ""
    output: str = ""
    status: str = WAITING
    reason: str = ""
    error: float | None = None
    reference_error: float | None = None
    tolerance: float | None = None
    operators_before: int | None = None
    operators_after: int | None = None
    parameters_before: int | None = None
    parameters_after: int | None = None
    macs_before: int | None = None
    macs_after: int | None = None
    ms_before: float | None = None
    ms_after: float | None = None
    bytes: int | None = None
    choice: str = ""
    seconds: float = 0.0
    tries: int = 0
    threads: int | None = None
    worker: str = ""
    report: str = ""
    key: str = ""
    digest: str = ""

    @property
    def ok(self) -> bool:
        """Whether the file was written and computes the same."""
        return self.status == VALID

    @property
    def speedup(self) -> float | None:
        """How many times faster the file is; None if it was not timed."""
        return self.ms_before / self.ms_after if self.ms_before and self.ms_after else None

    def tried(self, number: int) -> "Result":
        """The same, with the `number` of times that the item was begun."""
        return replace(self, tries=number)

    def to_dict(self) -> dict[str, Any]:
        """The fields in their order, for JSON and for tables."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Result":
        """The result of these `values`; those of other versions that are not known here are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    @classmethod
    def waiting(cls, item: Item) -> "Result":
        """The result of an `item` that was not begun."""
        return cls(item.name, item.source, item.output)


def measured(verdict: Validation) -> dict[str, Any]:
    """The fields of a result that a verdict and its report tell."""
    told: dict[str, Any] = {name: _finite(getattr(verdict, name)) for name in ("error", "reference_error", "tolerance")}
    report = verdict.report
    if report is not None:
        for when, size in (("before", report.before), ("after", report.after)):
            if size is not None:
                told |= {f"{name}_{when}": getattr(size, name) for name in ("operators", "parameters", "macs")}
        if report.after is not None:
            told["bytes"] = report.after.bytes
        if report.times is not None:
            told["ms_before"], told["ms_after"] = report.times
    return told


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
