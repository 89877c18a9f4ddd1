"""Some of the channels, and channels put among zeros: what cuts and concatenations do, as linear maps.

    select: y = S x, the channels [start, start + width) of x
    place:  y = Sᵀ x, x at those channels, zeros elsewhere
    concat(x1, ..., xk) = Σ S_jᵀ x_j

Both are pointwise convolutions with a kernel of ones and zeros, and compose as such; evaluated, they are views and
copies.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.span import POINT, Span
from fusekit.algebra.work import FREE, Rates, Work


@dataclass(frozen=True, eq=False)
class Selection(Map):
    """The channels from `start`, `width` of `total`, which stand before `n` spatial axes; `places`: put there, among
    zeros, instead of taken from there. `device`: of the kernels that it composes with."""

    start: int
    width: int
    total: int
    n: int
    places: bool = False
    device: torch.device | str = "cpu"

    @property
    def channel_axis(self) -> int:
        """Counted from the right, the same for input and output."""
        return -(self.n + 1)

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.width if self.places else self.total

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.total if self.places else self.width

    def __call__(self, x: Tensor) -> Tensor:
        if not self.places:
            return x.narrow(self.channel_axis, self.start, self.width)
        return F.pad(x, (*(0, 0) * self.n, self.start, self.total - self.start - self.width))

    def as_conv(self) -> Conv:
        """The same as a pointwise convolution."""
        matrix = torch.eye(self.total, dtype=torch.float64, device=self.device).narrow(0, self.start, self.width)
        kernel = (matrix.T if self.places else matrix).reshape(1, self.out_channels, self.in_channels, *(1,) * self.n)
        return Conv(kernel, None, (1,) * self.n, ((0, 0),) * self.n, (1,) * self.n)

    def __matmul__(self, inner: "Affine | Conv | Selection") -> Conv:
        if isinstance(inner, Selection):
            return self.as_conv() @ inner.as_conv()
        return self.as_conv() @ inner if isinstance(inner, Affine | Conv) else NotImplemented

    def __rmatmul__(self, outer: Affine | Conv) -> Conv:
        return outer @ self.as_conv() if isinstance(outer, Affine | Conv) else NotImplemented

    def output_shape(self, shape: Shape) -> Shape:
        axis = len(shape) + self.channel_axis
        return (*shape[:axis], self.out_channels, *shape[axis + 1 :])

    def macs(self, shape: Shape) -> int:
        return 0

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """Copies, unless what is selected is a view."""
        if not self.places and not rates.copies_slices:
            return FREE
        entries = math.prod(shape if self.places else self.output_shape(shape))
        return Work(0, 2 * entries * itemsize, 1)

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def span(self) -> Span:
        return POINT

    def linear_part(self) -> "Selection":
        return self

    def on_meta(self) -> "Selection":
        return replace(self, device="meta")
