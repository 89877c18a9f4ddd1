"""Blocks of channels mixed by a small matrix, and blocks that each have a linear layer of their own.

    mix(x) = (M ⊗ I_c) x + b           y_p = Σ_j M[p, j] x_j        for blocks x_j of c channels
    M₁ ∘ M₂ = M₁ M₂,  b₁ + (M₁ ⊗ I) b₂

What stands before and behind the products of a bilinear algorithm. The blocks lie one behind the other ("planar",
[block, channel]), or, on the side of a network that stores the parts of each number side by side, [channel, block].
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.conv import Conv
from fusekit.algebra.kernel import coarsen
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.span import POINT, Span
from fusekit.algebra.values import to_meta, wide
from fusekit.algebra.words import sizes
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class Mixing(Map):
    """y = (matrix ⊗ I) x + bias on the channels, which stand before `n` spatial axes.

    `matrix` [out, in]; `bias`: one entry for each output channel, in the order of the output. `reads_inner`,
    `writes_inner`: the blocks of the input, of the output, are the inner index of the channels.
    """

    matrix: Tensor
    n: int
    bias: Tensor | None = None
    reads_inner: bool = False
    writes_inner: bool = False

    @property
    def channel_axis(self) -> int:
        """Counted from the right, the same for input and output."""
        return -(self.n + 1)

    def __call__(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return mix(x, self.matrix.to(x.dtype), bias, self.n, self.reads_inner, self.writes_inner)

    def __matmul__(self, inner: "Mixing") -> "Mixing":
        """M₁ ∘ M₂, where M₁ reads the blocks that M₂ writes."""
        if not isinstance(inner, Mixing):
            return NotImplemented
        blocks = self.matrix.shape[1] == inner.matrix.shape[0] and self.reads_inner == inner.writes_inner
        if self.n != inner.n or not blocks:
            raise Inapplicable("the blocks of the one are not those of the other")
        matrix, bias = wide(self.matrix) @ wide(inner.matrix), None if self.bias is None else wide(self.bias)
        if inner.bias is not None:
            seen = replace(self, matrix=wide(self.matrix), n=0, bias=None)(wide(inner.bias))
            bias = seen if bias is None else bias + seen
        return replace(self, matrix=matrix, bias=bias, reads_inner=inner.reads_inner)

    def output_shape(self, shape: Shape) -> Shape:
        out, inputs = self.matrix.shape
        axis = len(shape) + self.channel_axis
        return (*shape[:axis], shape[axis] // inputs * out, *shape[axis + 1 :])

    def macs(self, shape: Shape) -> int:
        return math.prod(shape) * int(self.matrix.shape[0])

    def constants(self) -> tuple[Tensor, ...]:
        return (self.matrix,) if self.bias is None else (self.matrix, self.bias)

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """Twice the copies where its blocks are brought to an axis of their own, and back."""
        copies = (self.reads_inner * math.prod(shape) + self.writes_inner * math.prod(self.output_shape(shape))) * 2
        return super().work(shape, itemsize, rates) + Work(0, copies * itemsize, 2)

    def describe(self) -> str:
        sides = [word for word, is_so in (("from", self.reads_inner), ("to", self.writes_inner)) if is_so]
        inner = f" {' '.join(sides)} inner" if sides else ""
        return f"mixing {sizes(self.matrix)}{inner}{'' if self.bias is None else ' + bias'}"

    def span(self) -> Span:
        return POINT

    def linear_part(self) -> "Mixing":
        return replace(self, bias=None)

    def on_meta(self) -> "Mixing":
        return replace(self, matrix=self.matrix.to("meta"), bias=to_meta(self.bias))


def mix(x: Tensor, matrix: Tensor, bias: Tensor | None, n: int, reads_inner: bool, writes_inner: bool) -> Tensor:
    """`Mixing` as a function: x [*, channels, *spatial], `n` spatial axes. ValueError if the blocks do not divide the
    channels."""
    axis = x.dim() - n - 1
    out, inputs = matrix.shape
    if axis < 0 or x.shape[axis] % inputs:
        raise ValueError(f"{inputs} blocks do not divide the channels of {list(x.shape)} with {n} spatial axes")
    channels, spatial = x.shape[axis] // inputs, x.shape[axis + 1 :]
    leading, positions = x.shape[:axis], math.prod(spatial)
    if reads_inner:
        x = x.reshape(*leading, channels, inputs, positions).transpose(axis, axis + 1)
    if len(leading) == 1 and x.dtype == torch.float32 and not torch.compiler.is_exporting():
        # torch's convolutions take half the time of its products, which copy the matrix for each image
        y = F.conv2d(x.reshape(*leading, inputs, channels, positions), matrix[:, :, None, None])
    else:
        y = torch.matmul(matrix, x.reshape(*leading, inputs, channels * positions))
    if writes_inner:
        y = y.reshape(*leading, out, channels, positions).transpose(axis, axis + 1)
    y = y.reshape(*leading, out * channels, *spatial)
    return y if bias is None else y + bias.reshape(-1, *(1,) * n)


@dataclass(frozen=True, eq=False)
class GroupedLinear(Map):
    """y_g = kernel_g x_g + bias_g on the last axis, group by group: `kernel` [group, out, in], `bias` [group · out] or
    None."""

    kernel: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return grouped_linear(x, self.kernel.to(x.dtype), bias)

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-1], int(self.kernel.shape[0] * self.kernel.shape[1]))

    def macs(self, shape: Shape) -> int:
        return math.prod(shape[:-1]) * self.kernel.numel()

    def constants(self) -> tuple[Tensor, ...]:
        return (self.kernel,) if self.bias is None else (self.kernel, self.bias)

    def describe(self) -> str:
        return f"grouped linear {sizes(self.kernel)}{'' if self.bias is None else ' + bias'}"

    def plain(self) -> Conv:
        """The linear layer whose matrix has these blocks."""
        return Conv(coarsen(self.kernel, 1), self.bias, (), (), ())

    def span(self) -> Span:
        return POINT

    def linear_part(self) -> "GroupedLinear":
        return replace(self, bias=None)

    def on_meta(self) -> "GroupedLinear":
        return replace(self, kernel=self.kernel.to("meta"), bias=to_meta(self.bias))


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`GroupedLinear` as a function: weight [group, out, in], bias [group · out], x [*, group · in]."""
    groups, out, inputs = weight.shape
    leading = x.shape[:-1]
    columns = x.reshape(math.prod(leading), groups, inputs).permute(1, 2, 0)
    y = torch.bmm(weight, columns).permute(2, 0, 1).reshape(*leading, groups * out)
    return y if bias is None else y + bias
