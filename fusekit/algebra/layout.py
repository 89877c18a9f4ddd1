"""The same convolution with its numbers laid out otherwise: channels last, or one axis as a plane one row high.

    c(x)[b, o, i] = c'(x[:, :, None])[b, o, 0, i],     c' of window 1 x k

Runtimes have fast kernels for some layouts only. torch computes large depthwise windows ten times faster with the
channels last in memory; ONNX Runtime has blocked kernels for convolutions of two axes and none for one.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class Relaid(Map):
    """`conv` on a plane one row high (`planar`, of one axis), or with `channels_last` in memory, or both."""

    conv: Conv
    planar: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.planar != (self.conv.n == 1):
            raise Inapplicable("only a convolution of one axis becomes one of a plane")

    def __call__(self, x: Tensor) -> Tensor:
        if not self.planar:
            return self.conv(x)
        return self.inner(x.unsqueeze(-2)).squeeze(-2)

    @property
    def inner(self) -> Conv:
        """The convolution that is computed."""
        c = self.conv
        if not self.planar:
            return c
        return replace(
            c,
            kernel=c.kernel.unsqueeze(-2),
            stride=(1, *c.stride),
            padding=((0, 0), *c.padding),
            dilation=(1, *c.dilation),
            output_padding=(0, *c.output_padding) if c.output_padding else c.output_padding,
        )

    def output_shape(self, shape: Shape) -> Shape:
        return self.conv.output_shape(shape)

    def macs(self, shape: Shape) -> int:
        return self.conv.macs(shape)

    def constants(self) -> tuple[Tensor, ...]:
        return self.conv.constants()

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """The copies that channels last needs, and the better kernel that a depthwise convolution of one axis may find
        as one of a plane; what layouts are worth otherwise, no formula knows. Raises Inapplicable if the runtime lays
        out its tensors itself, or there is no batch."""
        if self.channels_last and rates.owns_layout:
            raise Inapplicable("the runtime lays out its tensors itself")
        if self.channels_last and len(shape) != self.conv.n + 2:
            raise Inapplicable("channels can be last only behind a batch")
        plain = self.conv.work(shape, itemsize, rates)
        if self.channels_last:
            copied = 2 * (math.prod(shape) + math.prod(self.output_shape(shape))) * itemsize
            return plain + Work(0, copied, 2)
        return replace(plain, macs=self.conv.macs(shape))

    def describe(self) -> str:
        words = (("planar", self.planar), ("channels last", self.channels_last))
        return " ".join([*(word for word, is_so in words if is_so), self.conv.describe()])

    def plain(self) -> Conv:
        return self.conv

    def linear_part(self) -> "Relaid":
        return replace(self, conv=self.conv.linear_part())

    def on_meta(self) -> "Relaid":
        return replace(self, conv=self.conv.on_meta())


def channels_last(x: Tensor) -> Tensor:
    """x [B, C, *spatial] with its channels last in memory; as it is, if it has no batch or fewer than two axes."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=formats[x.dim()]) if x.dim() in formats else x


def channels_first(x: Tensor) -> Tensor:
    """x with its last axis contiguous in memory, as torch has it by default."""
    return x.contiguous()
