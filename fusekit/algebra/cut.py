"""Some of the rows and columns of a tensor, every so many: what slices of the spatial axes are, as maps.

    cut(x)[m] = x[c + s m],   c + s m < N - c'          low crop c, high crop c', step s

A convolution of window 1 with stride s and padding (-c, -c'). Crops in branches add to convolutions as such, and the
four strided slices of a space-to-depth stem.
"""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fusekit.algebra.map import Map, Pairs, Shape
from fusekit.algebra.span import Span
from fusekit.algebra.work import FREE, Rates, Work
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class Cut(Map):
    """Of each of the last n axes what a (low, high) `crop`, neither below zero, leaves, and of that one in so many
    (`every`)."""

    crop: Pairs
    every: Shape

    def __call__(self, x: Tensor) -> Tensor:
        sizes = x.shape[x.ndim - len(self.crop) :]
        bounds = zip(self.crop, sizes, self.every, strict=True)
        index: Any = (..., *(slice(low, max(size - high, 0), step) for (low, high), size, step in bounds))
        return x[index]

    def padding(self, n: int) -> Pairs:
        """The crops as padding of a convolution on `n` axes; Inapplicable if an axis before them is cut too."""
        self.on_spatial(n)
        return (*((0, 0),) * (n - len(self.crop)), *((-low, -high) for low, high in self.crop))[-n or len(self.crop) :]

    def on_spatial(self, n: int) -> Shape:
        """The steps on the last `n` axes; Inapplicable if an axis before them is cut too."""
        before = max(0, len(self.crop) - n)
        if any(low or high for low, high in self.crop[:before]) or any(step > 1 for step in self.every[:before]):
            raise Inapplicable(f"the slice reaches beyond the {n} spatial axes")
        return (*(1,) * (n - len(self.every)), *self.every)[-n or len(self.every) :]

    def output_shape(self, shape: Shape) -> Shape:
        n = len(self.crop)
        left = zip(shape[len(shape) - n :], self.crop, self.every, strict=True)
        return (*shape[: len(shape) - n], *((size - low - high - 1) // step + 1 for size, (low, high), step in left))

    def macs(self, shape: Shape) -> int:
        return 0

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """A view where slices are, but whoever reads it with gaps copies it."""
        copied = 2 * math.prod(self.output_shape(shape)) * itemsize
        if rates.copies_slices:
            return Work(0, copied, 1)
        return Work(0, copied, 0) if any(step > 1 for step in self.every) else FREE

    def span(self) -> Span:
        return Span((0,) * len(self.every), self.every, tuple(map(sum, self.crop)))

    def linear_part(self) -> "Cut":
        return self

    def on_meta(self) -> "Cut":
        return self
