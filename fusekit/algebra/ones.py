"""A constant bias as a channel of ones.

    W x + b = [W b] (x, 1)          the bias of a pointwise convolution, as a weight on one more input channel

A convolution that pads pads that channel with zeros too, so that beyond the border b vanishes as it does in the graph:
what stands behind the biased convolution composes with [W b] as if there were no bias. The composed kernel sees one
more channel; sizes stay free.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.conv import Conv
from fusekit.algebra.kernel import coarsen
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.pad import Pad
from fusekit.algebra.span import POINT, Span
from fusekit.algebra.values import wide
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class AppendOnes(Map):
    """(N, C, *spatial) ↦ (N, C + 1, *spatial): the last channel is one everywhere. `n`: spatial axes."""

    n: int

    def __call__(self, x: Tensor) -> Tensor:
        return F.pad(x, self.amounts, value=1.0)

    @property
    def amounts(self) -> list[int]:
        """F.pad's amounts: one entry on the high side of the channel axis."""
        return [*(0, 0) * self.n, 0, 1]

    def output_shape(self, shape: Shape) -> Shape:
        *batch, channels = shape[: len(shape) - self.n]
        return (*batch, channels + 1, *shape[len(shape) - self.n :])

    def macs(self, shape: Shape) -> int:
        return 0

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def span(self) -> Span:
        return POINT

    def linear_part(self) -> Pad:
        """A channel of zeros."""
        return Pad(((0, 1), *((0, 0),) * self.n))

    def on_meta(self) -> "AppendOnes":
        return self


def bias_as_channel(conv: Conv) -> Conv:
    """The convolution c' without a bias with c = c' ∘ AppendOnes; Inapplicable unless c has one tap and pads nothing:
    in a padded row c gives its bias, and c' would give zero."""
    if conv.transposed or math.prod(conv.window) != 1 or any(low or high for low, high in conv.padding):
        raise Inapplicable("only the bias of a pointwise convolution without padding is a weight on a constant channel")
    if conv.bias is None:
        raise Inapplicable("there is no bias")
    dense = coarsen(wide(conv.kernel), 1)
    ones = wide(conv.bias).reshape(1, -1, 1, *(1,) * conv.n)
    return replace(conv, kernel=torch.cat([dense, ones], 2), bias=None)
