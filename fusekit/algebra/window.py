"""One window for two parallel convolutions, axis by axis.

A branch puts its taps at -low + d u relative to the output's origin. Two branches of equal stride add if their taps
are put on one grid: the origin moves to the larger low padding, the step becomes the common divisor of the dilations
in use and of the difference of the origins. A 1x1 of padding 0 beside a 3x3 of padding 1 is its centre tap; a dilated
branch is a kernel with zeros between its taps.
"""

import math
from dataclasses import dataclass

from fusekit.errors import Inapplicable


@dataclass(frozen=True)
class Axis:
    """The window of a convolution on one axis: taps, dilation, (low, high) padding."""

    taps: int
    dilation: int
    low: int
    high: int

    @property
    def reach(self) -> int:
        return self.dilation * (self.taps - 1)

    def joined(self, other: "Axis") -> "Axis":
        """The window that holds the taps of both; Inapplicable if their output sizes differ."""
        if self.low + self.high - self.reach != other.low + other.high - other.reach:
            raise Inapplicable("the branches differ in output size")
        steps = [axis.dilation for axis in (self, other) if axis.taps > 1]
        grid = math.gcd(*steps, abs(self.low - other.low)) or 1
        low, high = max(self.low, other.low), max(self.high, other.high)
        reach = self.reach + (low - self.low) + (high - self.high)
        return Axis(reach // grid + 1, grid, low, high)

    def placed_in(self, joined: "Axis") -> tuple[int, int]:
        """(first tap, step) of this window's taps within the joined window."""
        step = self.dilation // joined.dilation if self.taps > 1 else 1
        return (joined.low - self.low) // joined.dilation, step
