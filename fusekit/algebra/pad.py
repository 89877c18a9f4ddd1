"""Padding of the spatial axes as a map of its own, before a convolution absorbs it.

Negative amounts crop. Pads of zeros compose by addition, except that a crop followed by a pad has lost what it cropped.

    pad_v ∘ a = a ∘ pad_w,   a(w) = v          a pad of a value before or behind a map of each entry
    pad_v = (+ v) ∘ pad_0 ∘ (- v)              the value, one number or one for each channel, as shifts
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.map import Map, Pairs, Shape
from fusekit.algebra.span import Span
from fusekit.algebra.values import wide
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class Pad(Map):
    """`padding`: a (low, high) pair for each of the last n axes, first of them first (torch's F.pad lists them last
    axis first). The padded value is zero."""

    padding: Pairs

    def __call__(self, x: Tensor) -> Tensor:
        return F.pad(x, flat_padding(self.padding))

    def __matmul__(self, inner: object) -> "Pad":
        if not isinstance(inner, Pad):
            return NotImplemented
        n = max(len(self.padding), len(inner.padding))
        return Pad(add_padding(self._on_axes(n), inner._on_axes(n)))

    def is_identity(self) -> bool:
        """Whether nothing is padded and nothing cropped."""
        return not any(low or high for low, high in self.padding)

    def _on_axes(self, n: int) -> Pairs:
        return ((0, 0),) * (n - len(self.padding)) + self.padding

    def on_spatial(self, n: int) -> Pairs:
        """The pairs of the last n axes; Inapplicable if an axis before them (channels) is padded too."""
        if any(low or high for low, high in self.padding[: max(0, len(self.padding) - n)]):
            raise Inapplicable(f"the pad reaches beyond the {n} spatial axes")
        return self._on_axes(n)[-n:] if n else ()

    def output_shape(self, shape: Shape) -> Shape:
        n = len(self.padding)
        return (*shape[: len(shape) - n], *(s + a + b for s, (a, b) in zip(shape[-n:], self.padding, strict=True)))

    def macs(self, shape: Shape) -> int:
        return 0

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def span(self) -> Span:
        return Span.of_ring(tuple(abs(low) + abs(high) for low, high in self.padding))

    def linear_part(self) -> "Pad":
        return self

    def on_meta(self) -> "Pad":
        return self


@dataclass(frozen=True, eq=False)
class ValuePad(Map):
    """Padding of the last n axes by `padding`, (low, high) pairs none of which crops, with `value`: one number, or one
    for each channel, a [C] vector along the axis before them."""

    padding: Pairs
    value: float | Tensor

    def __call__(self, x: Tensor) -> Tensor:
        if isinstance(self.value, Tensor):
            return pad_channels(x, self.padding, self.value)
        return F.pad(x, flat_padding(self.padding), value=self.value)

    @property
    def shift(self) -> Affine:
        """x + v."""
        value = self.value if isinstance(self.value, Tensor) else torch.tensor(self.value, dtype=torch.float64)
        return Affine.of(None, wide(value), -len(self.padding) - 1)

    def before(self, outer: Affine) -> "Pad | ValuePad":
        """The pad p with self ∘ outer = outer ∘ p: of zeros where `outer` maps these to the value; Inapplicable if no
        value does it, or if one number were to become one for each channel."""
        value = self.shift
        if outer.shift.is_meta or value.shift.is_meta:
            return Pad(self.padding)
        rest = (value @ Affine.of(None, -wide(outer.shift), outer.axis)).shift
        if _is_nothing_beside(rest, outer.shift):
            return Pad(self.padding)
        if outer.axis is not None and value.axis is None:
            raise Inapplicable("the value that is padded is another number in each channel before the affine map")
        scale = wide(outer.scale).expand_as(rest)
        if bool(torch.any((scale == 0) & (rest != 0))):
            raise Inapplicable("no value is mapped to the one that is padded")
        before = torch.where(rest == 0, rest, rest / scale)
        return ValuePad(self.padding, before if before.ndim else float(before))

    def less(self, inner: Affine) -> Affine:
        """`inner` - v, without what is rounding of a shift that is the value."""
        left = Affine.of(None, -self.shift.shift, self.shift.axis) @ inner
        if not left.shift.is_meta and _is_nothing_beside(left.shift, inner.shift):
            return Affine.of(left.scale, None, left.axis)
        return left

    def output_shape(self, shape: Shape) -> Shape:
        return Pad(self.padding).output_shape(shape)

    def macs(self, shape: Shape) -> int:
        return 0

    def constants(self) -> tuple[Tensor, ...]:
        return (self.value,) if isinstance(self.value, Tensor) else ()

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """Of a value for each channel, an operator that joins the tensor and its border for each axis."""
        once = super().work(shape, itemsize, rates)
        axes = sum(map(any, self.padding)) if isinstance(self.value, Tensor) else 1
        return sum([once] * (axes - 1), once)

    def span(self) -> Span:
        return Pad(self.padding).span()

    def linear_part(self) -> Pad:
        return Pad(self.padding)

    def on_meta(self) -> "ValuePad":
        return replace(self, value=self.value.to("meta")) if isinstance(self.value, Tensor) else self


def _is_nothing_beside(rest: Tensor, shift: Tensor) -> bool:
    """Whether a difference of shifts, in float64, is rounding: a model may compute a shift by another formula."""
    largest = float(shift.abs().max()) if shift.numel() else 0.0
    return bool(torch.all(rest.abs() <= 1e-13 * largest))


def pad_channels(x: Tensor, padding: Pairs, value: Tensor) -> Tensor:
    """Pad the last n axes of `x` by (low, high) pairs, `value` [C] having the number for each channel on the axis
    before them; in the dtype of `x`."""
    n = len(padding)
    filled = value.to(x.dtype).reshape(-1, *(1,) * n)
    for axis, amounts in zip(range(-n, 0), padding, strict=True):
        ends = []
        for amount in amounts:
            shape = list(x.shape)
            shape[axis] = amount
            ends.append([filled.expand(shape)] if amount else [])
        x = torch.cat([*ends[0], x, *ends[1]], axis) if any(amounts) else x
    return x


def flat_padding(padding: Pairs) -> list[int]:
    """The order of F.pad: last axis first."""
    return [amount for pair in reversed(padding) for amount in pair]


def add_padding(outer: Pairs, inner: Pairs) -> Pairs:
    """outer ∘ inner = outer + inner, side by side. A crop (inner < 0) then a pad (outer > 0) leaves zeros where the
    sum would show the cropped values again, so that is refused."""
    for two_outer, two_inner in zip(outer, inner, strict=True):
        if any(o > 0 > i for o, i in zip(two_outer, two_inner, strict=True)):
            raise Inapplicable("a crop followed by zero padding is not one pad: the cropped border must stay zero")
    return tuple((o[0] + i[0], o[1] + i[1]) for o, i in zip(outer, inner, strict=True))
