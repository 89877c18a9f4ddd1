"""Average pooling as a map of its own, until a convolution absorbs it.

    pool(x)[m] = 1/|window| Σ_v x[s m + v - p]        a depthwise convolution with a constant kernel

Only pools that count the padding and do not round their size up are linear and shift-invariant up to the border.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.operators import AVG_POOL
from fusekit.algebra.span import Span
from fusekit.algebra.values import is_zero
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class AvgPool(Map):
    """The mean over a `window` at every `stride`, zeros of the `padding` counted; one entry for each spatial axis, the
    padding the same on both sides."""

    window: Shape
    stride: Shape
    padding: Shape

    def __call__(self, x: Tensor) -> Tensor:
        return AVG_POOL[len(self.window)](x, self.window, self.stride, self.padding)

    def as_conv(self, channels: int, device: torch.device | None = None) -> Conv:
        """The same map as a depthwise convolution of so many `channels`, its kernel in float64 on a `device`."""
        value = 1 / math.prod(self.window)
        kernel = torch.full((channels, 1, 1, *self.window), value, dtype=torch.float64, device=device)
        padding = tuple((amount, amount) for amount in self.padding)
        return Conv(kernel, None, self.stride, padding, (1,) * len(self.window))

    def __matmul__(self, inner: Conv) -> Conv:
        """pool ∘ c."""
        return (
            self.as_conv(inner.out_channels, inner.kernel.device) @ inner if isinstance(inner, Conv) else NotImplemented
        )

    def __rmatmul__(self, outer: Conv) -> Conv:
        """c ∘ pool."""
        return (
            outer @ self.as_conv(outer.in_channels, outer.kernel.device) if isinstance(outer, Conv) else NotImplemented
        )

    def lifted(self, inner: Affine) -> Affine:
        """The map a with pool ∘ inner = a ∘ pool; Inapplicable if it differs between the positions, or if it shifts and
        the pool counts zeros that it pads."""
        if inner.axis is not None and inner.axis >= -len(self.window):
            raise Inapplicable(f"the affine map acts on axis {inner.axis}, over which the pool takes means")
        if any(self.padding) and not is_zero(inner.shift):
            raise Inapplicable("the pool pads with zeros where the graph has the shift: the border would differ")
        return inner

    def output_shape(self, shape: Shape) -> Shape:
        n = len(self.window)
        geometry = zip(shape[-n:], self.window, self.stride, self.padding, strict=True)
        return (*shape[:-n], *((size + 2 * p - k) // s + 1 for size, k, s, p in geometry))

    def macs(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * math.prod(self.window)

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def span(self) -> Span:
        return Span(tuple(k - 1 for k in self.window), self.stride, tuple(2 * p for p in self.padding))

    def linear_part(self) -> "AvgPool":
        return self

    def on_meta(self) -> "AvgPool":
        return self
