"""Channels in another order, some of them, some more than once: y[j] = x[p(j)].

    c ∘ p = Conv(Σ_(p(j) = i) K[:, j])          p ∘ c = Conv(K[p], b[p])

RGB for BGR, a channel shuffle, an index. Such a map moves numbers and computes nothing; a convolution beside it reads
or writes its channels in that order from the start.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.conv import Conv
from fusekit.algebra.kernel import coarsen
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.span import POINT, Span
from fusekit.algebra.values import wide
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class Picking(Map):
    """The channels `picked`, numbers from 0, of `total` that stand before `n` spatial axes; `device`: of the kernels
    that it is one of."""

    picked: Shape
    total: int
    n: int
    device: torch.device | str = field(default="cpu", repr=False)

    @property
    def channel_axis(self) -> int:
        """Counted from the right, the same for input and output."""
        return -(self.n + 1)

    def __call__(self, x: Tensor) -> Tensor:
        return x.index_select(self.channel_axis, self._index(x.device))

    def _index(self, device: torch.device) -> Tensor:
        return torch.tensor(self.picked, dtype=torch.long, device=device)

    def as_conv(self, channels: int, device: torch.device | None = None) -> Conv:
        """The same as a pointwise convolution of so many `channels`, its kernel in float64 on a `device`."""
        matrix = torch.eye(channels, dtype=torch.float64, device=device or self.device)
        kernel = matrix.index_select(0, self._index(matrix.device)).reshape(1, -1, channels, *(1,) * self.n)
        return Conv(kernel, None, (1,) * self.n, ((0, 0),) * self.n, (1,) * self.n)

    def __matmul__(self, inner: Affine | Conv) -> Conv:
        """p ∘ c."""
        if isinstance(inner, Affine):
            return self.as_conv(self.total) @ inner
        if not isinstance(inner, Conv):
            return NotImplemented
        if inner.n != self.n or inner.out_channels != self.total:
            raise Inapplicable(f"{inner.out_channels} channels on {inner.n} axes, picked of {self.total} on {self.n}")
        index = self._index(inner.kernel.device)
        kernel = coarsen(wide(inner.kernel), 1).index_select(1, index)
        return replace(inner, kernel=kernel, bias=None if inner.bias is None else wide(inner.bias)[index])

    def __rmatmul__(self, outer: Affine | Conv) -> Conv:
        """c ∘ p."""
        if isinstance(outer, Affine):
            return outer @ self.as_conv(self.total)
        if not isinstance(outer, Conv):
            return NotImplemented
        if outer.n != self.n or outer.in_channels != len(self.picked):
            raise Inapplicable(f"{len(self.picked)} picked channels do not feed {outer.in_channels}")
        dense = coarsen(wide(outer.kernel), 1)
        kernel = dense.new_zeros(1, dense.shape[1], self.total, *dense.shape[3:])
        return replace(outer, kernel=kernel.index_add(2, self._index(dense.device), dense))

    def channels_read(self, channels: int) -> int:
        return self.total

    def output_shape(self, shape: Shape) -> Shape:
        axis = len(shape) + self.channel_axis
        return (*shape[:axis], len(self.picked), *shape[axis + 1 :])

    def macs(self, shape: Shape) -> int:
        return 0

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        return Work(0, 2 * math.prod(self.output_shape(shape)) * itemsize, 1)

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def span(self) -> Span:
        return POINT

    def linear_part(self) -> "Picking":
        return self

    def on_meta(self) -> "Picking":
        return replace(self, device="meta")
