"""What happened at one place: a rewrite, its outcome, and what it cost.

`where` is the module path as the user knows it. Costs are in multiply-accumulates (MACs); the formula is in
`algebra/work.py`.
"""

from dataclasses import dataclass, field
from enum import Enum


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
        change: what became what, in words: ("5 branches", "1 convolution"); empty if nothing was changed.
        region: the ids of the boxes in the drawing of the model (`Report.drawings`) that it would change.
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
    change: tuple[str, ...] = field(default=(), compare=False)
    region: tuple[str, ...] = field(default=(), compare=False)

    @property
    def price(self) -> str:
        """The cost after the rewrite relative to that before, or both times; "" if neither is known."""
        if self.times is not None:
            return "{:.3g} -> {:.3g} ms".format(*self.times)
        if self.cost_before is None or self.cost_after is None:
            return ""
        return f"x{self.cost_after / self.cost_before:.3g}" if self.cost_before else f"{self.cost_after:.3g}"
