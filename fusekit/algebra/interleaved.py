"""Channels last as a plane of one channel: what a convolution of a packed image reads as it lies in memory.

    I x = (N, *sizes, W, C) ↦ (N, 1, *sizes, W C)
    c ∘ P = c' ∘ I          P moves the channels first; c' has one input channel and a window of k C, stride s C

A pixel of C numbers is C neighbours in a row, so a window over k pixels is one over k C numbers, and steps and pads are
C times as long. Nothing is copied, and the products are the same ones.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.rearrange import Permute
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable

FEW = 16  # channels from which on convolutions are faster with these apart: measured, and the lanes of a vector


@dataclass(frozen=True, eq=False)
class Interleaved(Map):
    """A batch with the channels on the last axis, behind `n` spatial axes, as planes of one channel. A view."""

    n: int

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(-2).unsqueeze(1)

    def absorbed(self, outer: Conv, order: Permute) -> Conv:
        """The convolution c' with outer ∘ order = c' ∘ self, for an order that moves the channels first. Raises
        Inapplicable for another order, for a convolution with groups or dilated columns, and for more channels than
        pay."""
        rank = self.n + 2
        if order.axes != (0, rank - 1, *range(1, rank - 1)) or outer.n != self.n:
            raise Inapplicable("the axes are not put in the order of channels first")
        if outer.transposed or outer.groups > 1 or outer.dilation[-1] > 1:
            raise Inapplicable("only a dense convolution without gaps between its columns reads pixels in a row")
        channels = outer.in_channels
        if channels >= FEW:
            raise Inapplicable(f"{channels} channels are faster to read one after the other")
        low, high = outer.padding[-1]
        return replace(
            outer,
            kernel=outer.kernel.movedim(2, -1).flatten(-2).unsqueeze(2),
            stride=(*outer.stride[:-1], outer.stride[-1] * channels),
            padding=(*outer.padding[:-1], (low * channels, high * channels)),
        )

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], 1, *shape[1:-2], shape[-2] * shape[-1])

    def macs(self, shape: Shape) -> int:
        return 0

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        return Work(0, 0, 1)  # a view

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def linear_part(self) -> "Interleaved":
        return self

    def on_meta(self) -> "Interleaved":
        return self


def interleaved(x: Tensor) -> Tensor:
    """A batch with its channels last, as planes of one channel."""
    return Interleaved(x.ndim - 2)(x)
