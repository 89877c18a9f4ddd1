"""Channels in another order: some left out, some more than once.

    y = P x,  y_i = x_order[i]          c ∘ P = Conv(K P)          P ∘ c = Conv(P K, P b)

P is a pointwise convolution with a kernel of ones and zeros, and composes as such; evaluated, it is a copy. BGR for RGB
is one.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.span import POINT, Span


@dataclass(frozen=True, eq=False)
class Gather(Map):
    """The channels `order` of `total`, which stand before `n` spatial axes. `device`: of the kernels that it composes
    with."""

    order: tuple[int, ...]
    total: int
    n: int
    device: torch.device | str = "cpu"

    def __call__(self, x: Tensor) -> Tensor:
        return x.index_select(-(self.n + 1), torch.tensor(self.order, device=x.device))

    def as_conv(self) -> Conv:
        """The same as a pointwise convolution."""
        matrix = torch.eye(self.total, dtype=torch.float64, device=self.device)[list(self.order)]
        ones = (1,) * self.n
        return Conv(matrix.reshape(1, len(self.order), self.total, *ones), None, ones, ((0, 0),) * self.n, ones)

    def __matmul__(self, inner: Affine | Conv) -> Conv:
        return self.as_conv() @ inner if isinstance(inner, Affine | Conv) else NotImplemented

    def __rmatmul__(self, outer: Affine | Conv) -> Conv:
        return outer @ self.as_conv() if isinstance(outer, Affine | Conv) else NotImplemented

    def output_shape(self, shape: Shape) -> Shape:
        axis = len(shape) - self.n - 1
        return (*shape[:axis], len(self.order), *shape[axis + 1 :])

    def macs(self, shape: Shape) -> int:
        return 0

    def describe(self) -> str:
        return f"gather {self.order} of {self.total} channels on {self.n} axes"

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def span(self) -> Span:
        return POINT

    def linear_part(self) -> "Gather":
        return self

    def on_meta(self) -> "Gather":
        return replace(self, device="meta")
