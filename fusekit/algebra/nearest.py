"""Upsampling that repeats each entry, and how linear maps pass through it.

    U x[q] = x[⌊q / r⌋]                    on each of the last axes
    W ∘ U = U ∘ W,  a ∘ U = U ∘ a          maps of one position
    c ∘ U = T                              a transposed convolution of stride r: K_T = ones(r) * flip(K)

In the last, of the r k × r k products of an r × r block of outputs those that read one input are added up in the
kernel: with r = 2 and k = 3, 36 taps become 16 (a sub-pixel convolution; Shi et al., Is the deconvolution layer the
same as a convolutional layer?, 2016).
"""

from dataclasses import dataclass

from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.operators import CONV_TRANSPOSE
from fusekit.algebra.span import Span
from fusekit.algebra.values import wide
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class Nearest(Map):
    """Each entry as often as the `factors` say, one factor for each of the last axes."""

    factors: Shape

    def __call__(self, x: Tensor) -> Tensor:
        for axis, factor in enumerate(self.factors, -len(self.factors)):
            x = x.repeat_interleave(factor, axis)
        return x

    def passed(self, outer: Conv) -> Conv:
        """The map c with outer ∘ U = U ∘ c; Inapplicable unless it sees one position at a time."""
        if not outer.is_pointwise() or outer.n != len(self.factors):
            raise Inapplicable("only a pointwise convolution commutes with upsampling")
        return outer

    def lifted(self, outer: Affine) -> Affine:
        """The map a with outer ∘ U = U ∘ a; Inapplicable if it differs between the positions."""
        if outer.axis is not None and outer.axis >= -len(self.factors):
            raise Inapplicable(f"the affine map acts on axis {outer.axis}, which is upsampled")
        return outer

    def absorbed(self, outer: Conv) -> Conv:
        """The transposed convolution T = outer ∘ U, for an outer convolution of stride 1 that pads no more than its
        window reaches. Raises Inapplicable for any other."""
        if outer.transposed or outer.n != len(self.factors) or any(step != 1 for step in outer.stride):
            raise Inapplicable("only a convolution of stride 1 of what is upsampled is a transposed convolution")
        sides = zip(outer.reach, outer.padding, strict=True)
        crops = tuple((reach - low, reach - high) for reach, (low, high) in sides)
        if any(min(pair) < 0 for pair in crops):
            raise Inapplicable("the convolution pads more than its window reaches: a transposed one only crops")
        n, kernel = outer.n, wide(outer.kernel)
        ones = kernel.new_ones((1, 1, *self.factors))
        turned = kernel.flip(tuple(range(3, kernel.ndim))).reshape(-1, 1, *outer.window)
        spread = CONV_TRANSPOSE[n](turned, ones, stride=outer.dilation)
        kernel = spread.reshape(*kernel.shape[:3], *spread.shape[2:])
        bias = None if outer.bias is None else wide(outer.bias)
        made = Conv(kernel, bias, self.factors, crops, (1,) * n, transposed=True)
        axes = zip(made.axes, self.factors, strict=True)
        return made.placed([axis.cropping_alike(axis.grown, factor) for axis, factor in axes])

    def output_shape(self, shape: Shape) -> Shape:
        n = len(self.factors)
        return (*shape[: len(shape) - n], *(size * r for size, r in zip(shape[-n:], self.factors, strict=True)))

    def macs(self, shape: Shape) -> int:
        return 0

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def span(self) -> Span:
        n = len(self.factors)
        return Span((0,) * n, (1,) * n, (0,) * n, transposed=True)

    def linear_part(self) -> "Nearest":
        return self

    def on_meta(self) -> "Nearest":
        return self
