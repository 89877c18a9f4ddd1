"""The rows of the comparison before and after: numbers, and how people read them."""

from collections.abc import Sequence
from dataclasses import dataclass

from fusekit.report.totals import Totals


@dataclass(frozen=True)
class Measure:
    """One quantity before and after; None where it is not known. `unit`: "" for a count, "B", "ms", or "error"."""

    name: str
    before: float | None
    after: float | None
    unit: str = ""

    @property
    def change(self) -> str:
        """How the second number compares with the first: "-61 %", "3.1x faster"; "" if one of them is missing."""
        if not self.before or self.after is None or self.unit == "error":
            return ""
        if self.unit == "ms":
            ratio = self.before / self.after if self.after else 0.0
            return f"{ratio:.2f}x faster" if ratio >= 1 else f"{1 / ratio:.2f}x slower" if ratio else ""
        part = -self.saved
        return "the same" if self.after == self.before else f"{part:+.0f} %" if abs(part) >= 1 else f"{part:+.1g} %"

    @property
    def saved(self) -> float:
        """How much less the second number is, in percent; 0 if one of them is missing."""
        return 0.0 if not self.before or self.after is None else 100 * (1 - self.after / self.before)

    def spelled(self, value: float | None) -> str:
        """The value with its unit."""
        if value is None:
            return "-"
        if self.unit == "ms":
            return f"{value:.3g} ms"
        if self.unit == "error":
            return f"{value:.1e}"
        return _short(value, 1000, self.unit) if value >= 100_000 or self.unit else f"{value:,.0f}"


def measures(
    before: Totals | None,
    after: Totals | None,
    times: tuple[float, float] | None = None,
    errors: tuple[float, float] | None = None,
) -> list[Measure]:
    """The rows that are known at least on one side."""
    old, new = before or Totals(0, 0), after or Totals(0, 0)
    rows = [
        Measure("operators", old.operators, new.operators),
        Measure("parameters", old.parameters, new.parameters),
        Measure("MACs", old.macs, new.macs),
        Measure("file", old.bytes, new.bytes, "B"),
    ]
    rows = rows if before is not None and after is not None else []
    rows += [Measure("latency", *times, "ms")] if times is not None else []
    rows += [Measure("error", *errors, "error")] if errors is not None else []
    return [row for row in rows if row.before is not None or row.after is not None]


def saved(rows: Sequence[Measure]) -> str:
    """What became less, in one line; "" if nothing did."""
    return ", ".join(f"{row.saved:.0f} % of the {row.name}" for row in rows if row.unit == "" and row.saved >= 0.5)


def _short(value: float, step: int, unit: str) -> str:
    """Three digits and a prefix: 5.38 M."""
    for prefix in ("", "k", "M", "G", "T"):
        if value < 999.5 or prefix == "T":
            digits = f"{value:.3g}" if value < 100 or prefix else f"{value:.0f}"
            return f"{digits} {prefix}{unit}".strip()
        value /= step
    raise AssertionError("the loop ends at its last prefix")
