"""One window for two parallel convolutions, axis by axis.

A branch puts its taps at -low + d u relative to the output's origin, or, if it is transposed, to s times the input's.
Two branches of equal stride add if their taps are put on one grid: the origin moves to the larger low padding, the step
becomes the common divisor of the dilations in use and of the difference of the origins. A 1x1 of padding 0 beside a 3x3
of padding 1 is its centre tap, and of padding -1 beside one of padding 0: a crop; a dilated branch is a kernel with
zeros between its taps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fusekit.errors import Inapplicable


@dataclass(frozen=True)
class Axis:
    """The window of a convolution on one axis: taps, dilation, (low, high) padding; of a transposed one, also what is
    added to its output on the high side (`extra`)."""

    taps: int
    dilation: int
    low: int
    high: int
    extra: int = 0

    @property
    def reach(self) -> int:
        return self.dilation * (self.taps - 1)

    def joined(self, other: "Axis", stride: int = 1) -> "Axis":
        """The window that holds the taps of both; Inapplicable if their output sizes differ: at every input size, or,
        where it is asked for them with their `stride`, only at those at which they do not agree."""
        made = sorted(axis.low + axis.high - axis.reach for axis in (self, other))
        if made[1] - made[0] >= stride:
            raise Inapplicable("the branches differ in output size")
        grid = self._grid(other)
        low, last = max(self.low, other.low), max(self.reach - self.low, other.reach - other.low)
        high = last + min(max(low - last, made[0]), made[1])  # like the low side, as far as the size leaves that open
        return Axis((low + last) // grid + 1, grid, low, high)

    def joined_transposed(self, other: "Axis", stride: int) -> "Axis":
        """The same for two transposed convolutions of this stride, each of which crops both sides alike.

        The taps of both lie between -low and reach - low, low the larger of the two and reach - low too; more zeros in
        front let both sides crop alike, more zeros behind take the place of `extra` output.
        """
        grown = self.grown
        if grown != other.grown:
            raise Inapplicable("the branches differ in output size")
        grid = self._grid(other)
        low = max(self.low, other.low)
        reach = low + max(self.reach - self.low, other.reach - other.low)
        return Axis(reach // grid + 1, grid, low, low).cropping_alike(grown, stride)

    def cropping_alike(self, grown: int, stride: int) -> "Axis":
        """These taps at this low padding, in a transposed convolution that crops both sides alike and makes `grown`
        more outputs than its stride times its inputs less one; with zeros in front of the taps, or behind them."""
        step = self.dilation
        extra = grown - self.reach + 2 * self.low
        in_front = max(0, -(extra // step))  # each tap more in front adds its step to `extra`
        behind = max(0, -((max(stride, step) - 1 - extra) // step))  # torch takes less than that
        low = self.low + step * in_front
        extra += step * (in_front - behind)
        return Axis(self.taps + in_front + behind, step, low, low, extra)

    @property
    def grown(self) -> int:
        """By how many outputs a transposed convolution makes more than its stride times its inputs less one."""
        return self.reach - self.low - self.high + self.extra

    def _grid(self, other: "Axis") -> int:
        """The step on which the taps of both lie."""
        steps = [axis.dilation for axis in (self, other) if axis.taps > 1]
        return math.gcd(*steps, abs(self.low - other.low)) or 1

    def placed_in(self, joined: "Axis") -> tuple[int, int]:
        """(first tap, step) of this window's taps within the joined window."""
        step = self.dilation // joined.dilation if self.taps > 1 else 1
        return (joined.low - self.low) // joined.dilation, step


def one_window(
    first: Sequence[Axis], second: Sequence[Axis], strides: Sequence[int], *, transposed: bool
) -> list[Axis]:
    """The window for both, axis by axis. Inapplicable if their output sizes differ, at these `strides`."""
    pairs = zip(first, second, strides, strict=True)
    if not transposed:
        return [a.joined(b, stride) for a, b, stride in pairs]
    return [a if a == b else a.joined_transposed(b, stride) for a, b, stride in pairs]
