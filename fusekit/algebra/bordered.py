"""A folded pair of convolutions together with the correction of its ring: a map like any other, with its price."""

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Pairs, Shape
from fusekit.algebra.ring import Axis, Ring
from fusekit.algebra.span import Span
from fusekit.algebra.values import is_zero
from fusekit.algebra.work import Rates, Work


@dataclass(frozen=True, eq=False)
class BorderedConv(Map):
    """outer ∘ inner, exact at the border: `folded` everywhere, less what it adds on the ring (`ring.py`).

    `folded` is the composition that ignores the border; outer's bias is in it, and is not used again.
    """

    folded: Conv
    outer: Conv
    inner: Conv

    @classmethod
    def fold(cls, outer: Conv, inner: Conv) -> "BorderedConv | Conv":
        """outer ∘ inner as one value: with a ring only where it needs one, else the composed convolution alone.
        Inapplicable if the channels of `inner` do not feed `outer`."""
        inner = replace(inner, bias=None) if is_zero(inner.bias) else inner
        folded = outer.composed(inner)
        bordered = cls(folded, replace(outer, bias=None), inner)
        return bordered if bordered.ring.sides else folded

    @property
    def ring(self) -> Ring:
        """Where the folded convolution is wrong, and on which rows of x that depends."""
        return _ring(self.outer, self.inner, self.inner.bias is not None)

    def __call__(self, x: Tensor) -> Tensor:
        def c1(rows: Tensor, padding: Pairs) -> Tensor:
            return replace(self.inner, padding=padding)(rows)

        def k2(rows: Tensor, padding: Pairs) -> Tensor:
            return replace(self.outer, padding=padding)(rows)

        return self.ring.correct(self.folded(x), x, c1, k2)

    def output_shape(self, shape: Shape) -> Shape:
        return self.folded.output_shape(shape)

    def macs(self, shape: Shape) -> int:
        """Those of the folded convolution, and of c1 and K2 on every strip."""
        ring, n = self.ring, self.folded.n
        total = self.folded.macs(shape)
        for i, high in ring.sides:
            inner = replace(self.inner, padding=ring.paddings(i, of_outer=False))
            outer = replace(self.outer, padding=ring.paddings(i, of_outer=True))
            rows = _with_size(shape, i - n, ring.axes[i].seen1(high))
            strip = _with_size(inner.output_shape(rows), i - n, ring.axes[i].seen2(high))
            total += inner.macs(rows) + outer.macs(strip)
        return total

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """Each side of the ring is slices, pads, two small convolutions, a subtraction and a concatenation, for which
        the output is read and written once."""
        sides = len(self.ring.sides)
        copied = 2 * sides * math.prod(self.output_shape(shape)) * itemsize
        return super().work(shape, itemsize, rates) + Work(0, copied, rates.ring_side * sides)

    def constants(self) -> tuple[Tensor, ...]:
        return (*self.folded.constants(), *self.outer.constants(), *self.inner.constants())

    def span(self) -> Span:
        return self.folded.span()

    def linear_part(self) -> "BorderedConv":
        return replace(self, folded=self.folded.linear_part(), inner=self.inner.linear_part())

    def on_meta(self) -> "BorderedConv":
        return BorderedConv(self.folded.on_meta(), self.outer.on_meta(), self.inner.on_meta())


def needs_ring(outer: Conv, inner: Conv | Affine) -> bool:
    """True if folding the two would be wrong at the border without a correction."""
    if outer.transposed or (isinstance(inner, Conv) and inner.transposed):
        return False
    if isinstance(inner, Affine):
        return not is_zero(inner.shift) and any(low > 0 or high > 0 for low, high in outer.padding)
    return outer.n == inner.n and bool(_ring(outer, inner, not is_zero(inner.bias)).sides)


def _ring(outer: Conv, inner: Conv, has_bias: bool) -> Ring:
    geometry = zip(*(inner.stride, inner.reach, inner.padding, outer.stride, outer.reach, outer.padding), strict=True)
    return Ring.of(tuple(Axis(*axis) for axis in geometry), has_bias)


Geometry = tuple[Shape, Pairs, Shape, int]  # stride, padding, dilation, groups


def geometry_of(conv: Conv) -> Geometry:
    """What `bordered_conv` must be told of a convolution besides its weight."""
    return conv.stride, conv.padding, conv.dilation, conv.groups


def bordered_conv(x: Tensor, *arguments: Any) -> Tensor:
    """outer(inner(x)) by one convolution and a correction of its border; the arguments are `bordered_of`'s."""
    return bordered_of(*arguments)(x)


def bordered_of(
    weight: Tensor,
    bias: Tensor | None,
    inner_weight: Tensor,
    inner_bias: Tensor | None,
    outer_weight: Tensor,
    geometry: tuple[Geometry, Geometry, Geometry],
) -> BorderedConv:
    """The value from weights in torch's layout.

    `weight`, `bias`: of the folded convolution; `geometry`: (stride, (low, high) padding per axis, dilation, groups) of
    the folded, the inner and the outer convolution.
    """
    folded, inner, outer = geometry
    return BorderedConv(
        _conv(weight, bias, folded), _conv(outer_weight, None, outer), _conv(inner_weight, inner_bias, inner)
    )


def _conv(weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Conv:
    stride, padding, dilation, groups = geometry
    padding = tuple((low, high) for low, high in padding)
    return Conv.from_torch(weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _with_size(shape: Shape, axis: int, size: int) -> Shape:
    sizes = list(shape)
    sizes[axis] = size
    return tuple(sizes)
