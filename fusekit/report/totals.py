"""The size of a program, in four numbers."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Totals:
    """The size of a program: the number of `operators` that run, the number of entries of all `parameters`, the number
    of multiply-accumulates, `macs` (None if the shapes are not known), and the size of its file in `bytes` (None if
    there is no file)."""

    operators: int
    parameters: int
    macs: int | None = None
    bytes: int | None = None


def sum_of(parts: Sequence[Totals]) -> Totals | None:
    """The size of all parts together; None if there are none. The MACs are None if those of any part are unknown."""
    if not parts:
        return None
    macs = [part.macs for part in parts if part.macs is not None]
    operators, parameters = sum(part.operators for part in parts), sum(part.parameters for part in parts)
    return Totals(operators, parameters, sum(macs) if len(macs) == len(parts) else None)
