"""Several convolutions of one tensor, each with an output of its own: x ↦ (c1(x), ..., ck(x)).

    (c1, ..., ck) = split ∘ concat(c1, ..., ck)          kernels stacked along the outputs, the result cut again

The input is read once instead of k times. What it costs is the cut.
"""

import math
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.span import Span
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class Fork(Map):
    """`convs`: the convolutions, at least two; evaluated, their outputs side by side along the channels."""

    convs: tuple[Conv, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([conv(x) for conv in self.convs], self.convs[0].channel_axis)

    def merged(self) -> "Split":
        """The same as one convolution, whose kernels have one geometry already; Inapplicable if they do not."""
        first = self.convs[0]
        for other in self.convs[1:]:
            if other.window != first.window or other.padding != first.padding or other.dilation != first.dilation:
                raise Inapplicable("the windows differ")
        return Split(reduce(Conv.stack, self.convs), tuple(conv.out_channels for conv in self.convs))

    def output_shape(self, shape: Shape) -> Shape:
        return self.merged().output_shape(shape)

    def macs(self, shape: Shape) -> int:
        return sum(conv.macs(shape) for conv in self.convs)

    def constants(self) -> tuple[Tensor, ...]:
        return tuple(constant for conv in self.convs for constant in conv.constants())

    def span(self) -> Span:
        """They have one geometry."""
        return self.convs[0].span()

    def linear_part(self) -> "Fork":
        return Fork(tuple(conv.linear_part() for conv in self.convs))

    def on_meta(self) -> "Fork":
        return Fork(tuple(conv.on_meta() for conv in self.convs))


@dataclass(frozen=True, eq=False)
class Split(Map):
    """One convolution, `conv`, whose output channels are handed out in parts of these `sizes`."""

    conv: Conv
    sizes: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return self.conv(x)

    def output_shape(self, shape: Shape) -> Shape:
        return self.conv.output_shape(shape)

    def macs(self, shape: Shape) -> int:
        return self.conv.macs(shape)

    def constants(self) -> tuple[Tensor, ...]:
        return self.conv.constants()

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """The parts are views where the channels of one image lie together, and copies elsewhere."""
        views = not rates.copies_slices and (len(shape) == self.conv.n + 1 or shape[0] == 1)
        copied = 0 if views else 2 * math.prod(self.output_shape(shape)) * itemsize
        return self.conv.work(shape, itemsize, rates) + Work(0, copied, 1)

    def plain(self) -> Conv:
        return self.conv

    def linear_part(self) -> "Split":
        return replace(self, conv=self.conv.linear_part())

    def on_meta(self) -> "Split":
        return Split(self.conv.on_meta(), self.sizes)
