"""conv ∘ conv as one convolution, and the ring it gets wrong put right.

The folded convolution z' uses y = c1(x) also outside c1's output range [0, N1), where the graph has zeros. What that
adds is linear in y, and reaches the outer ceil(p2 / s2) outputs of each side:

    z = z' - K2 ⋆ (y outside [0, N1))

The outside is cut into disjoint strips, two an axis: beyond the range on this axis, within it on the axes before,
anywhere on the axes after. For each, c1 runs on the few rows of x that the strip touches, then K2 on the strip, and the
result is subtracted from its side of the ring. Corrections add up, so this is exact at every size, however small, and
costs O(perimeter): slices, pads, small convolutions and concatenations, with every size left free.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.map import Pairs

Padded = Callable[[Tensor, Pairs], Tensor]


@dataclass(frozen=True)
class Axis:
    """One axis of a pair of convolutions: strides, reaches d (k - 1), and (low, high) paddings of c1 and c2."""

    stride1: int
    reach1: int
    padding1: tuple[int, int]
    stride2: int
    reach2: int
    padding2: tuple[int, int]

    @property
    def extended1(self) -> tuple[int, int]:
        """c1's padding that yields its range and the p2 positions around it."""
        return tuple(p1 + self.stride1 * max(p2, 0) for p1, p2 in zip(self.padding1, self.padding2, strict=True))  # type: ignore[return-value]

    @property
    def cropped2(self) -> tuple[int, int]:
        """What is left of c2's padding on such an extended axis: only cropping."""
        return min(self.padding2[0], 0), min(self.padding2[1], 0)

    def rows(self, high: bool) -> int:
        """How many rows of x, from that end, c1 can see from outside its output range."""
        return max(0, self.reach1 - self.padding1[high] - (0 if high else self.stride1 - 1))

    def seen1(self, high: bool) -> int:
        """How many positions c1 must see to give those outside its range on that side."""
        return self.stride1 * (self.padding2[high] - 1) + self.reach1 + 1

    def seen2(self, high: bool) -> int:
        """How many of c1's positions c2 must see to give its ring on that side."""
        return self.stride2 * (self.ring(high) - 1) + self.reach2 + 1

    def ring(self, high: bool) -> int:
        """How many outputs of c2, from that end, may see positions outside c1's range."""
        return -(-max(0, self.padding2[high]) // self.stride2)


@dataclass(frozen=True)
class Ring:
    """The sides (axis, high) on which the fold of two convolutions needs correction."""

    axes: tuple[Axis, ...]
    sides: tuple[tuple[int, bool], ...]

    @classmethod
    def of(cls, axes: tuple[Axis, ...], has_bias: bool) -> "Ring":
        """A side needs it if c2 pads there, and c1 gives anything but zero: a bias, or rows of x it can see."""
        sides = [(i, high) for i in range(len(axes)) for high in (False, True)]
        wrong = (s for s in sides if axes[s[0]].ring(s[1]) and (has_bias or axes[s[0]].rows(s[1])))
        return cls(axes, tuple(wrong))

    def correct(self, folded: Tensor, x: Tensor, c1: Padded, k2: Padded) -> Tensor:
        """z from z' = `folded`; `c1(x, padding)` with bias and `k2(y, padding)` without are the pair."""
        for i, high in self.sides:
            axis, dim = self.axes[i], i - len(self.axes)
            y = c1(self._rows_of_x(x, axis, dim, high), self.paddings(i, of_outer=False))
            error = k2(self._rows_of_y(y, x.shape[dim], axis, dim, high), self.paddings(i, of_outer=True))
            folded = _subtract_at_end(folded, error, dim, axis.ring(high), high)
        return folded

    def paddings(self, i: int, *, of_outer: bool) -> Pairs:
        """Within the range on the axes before i, beyond it on the axes after; axis i is cut to size already."""
        before = [axis.padding2 if of_outer else axis.padding1 for axis in self.axes[:i]]
        after = [axis.cropped2 if of_outer else axis.extended1 for axis in self.axes[i + 1 :]]
        return (*before, (0, 0), *after)

    @staticmethod
    def _rows_of_x(x: Tensor, axis: Axis, dim: int, high: bool) -> Tensor:
        """What c1 must see, zeros around x included, to give the positions just outside its range."""
        s, total, count = axis.stride1, axis.seen1(high), axis.rows(high)
        if not high or not count:
            # the last window outside, n = -1, ends `count` rows into x
            return _pad(_cut(x, dim, 0, count), dim, total - count, count).narrow(dim, 0, total)
        # the first window outside, n = N1, starts `seen` rows before the end of x: count, less what N mod s1 skips
        skipped = (x.shape[dim] + sum(axis.padding1) - axis.reach1 - 1) % s if s > 1 else 0
        seen = axis.reach1 - axis.padding1[1] + 1 - s + skipped
        rows = _last_rows(x, dim, count)
        extended = _pad(rows, dim, total + s, total + s)
        end = extended.shape[dim] - (total + s)
        return extended.narrow(dim, end - seen, total)

    @staticmethod
    def _rows_of_y(y: Tensor, size: int, axis: Axis, dim: int, high: bool) -> Tensor:
        """The strip, with the zeros beside it that K2's windows on the ring also cover, cut to these windows."""
        q, s, total = axis.padding2[high], axis.stride2, axis.seen2(high)
        if not high:
            return _pad(y, dim, 0, max(0, total - q)).narrow(dim, 0, total)
        # relative to N1, the window of the last output but ring - 1 starts at `start`
        inner = (size + sum(axis.padding1) - axis.reach1 - 1) // axis.stride1 + 1
        unused = (inner + sum(axis.padding2) - axis.reach2 - 1) % s if s > 1 else 0
        start = q - total - unused
        return _pad(y, dim, total + s, s).narrow(dim, total + s + start, total)


def _last_rows(x: Tensor, dim: int, count: int) -> Tensor:
    return _cut(x, dim, -count, None) if count else _cut(x, dim, 0, 0)


def _cut(x: Tensor, dim: int, start: int | None, stop: int | None) -> Tensor:
    """x[start:stop] along an axis counted from the right, with fewer rows where x has fewer."""
    index: Any = (..., slice(start, stop), *(slice(None),) * (-dim - 1))
    return x[index]


def _pad(x: Tensor, dim: int, low: int, high: int) -> Tensor:
    return F.pad(x, [*(0, 0) * (-dim - 1), low, high])


def _subtract_at_end(z: Tensor, error: Tensor, dim: int, ring: int, high: bool) -> Tensor:
    """z less `error` on its first or last `ring` rows; where z has fewer, the error's outermost rows count."""
    if high:
        touched, kept = _cut(z, dim, -ring, None), _cut(z, dim, None, -ring)
        return torch.cat([kept, touched - error.narrow(dim, ring - touched.shape[dim], touched.shape[dim])], dim)
    touched, kept = _cut(z, dim, None, ring), _cut(z, dim, ring, None)
    return torch.cat([touched - error.narrow(dim, 0, touched.shape[dim]), kept], dim)
