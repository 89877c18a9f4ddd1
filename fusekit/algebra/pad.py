"""Padding of the spatial axes as a map of its own, before a convolution absorbs it.

Negative amounts crop. Pads of zeros compose by addition, except that a crop followed by a pad has lost what it cropped.

    pad_v ∘ a = a ∘ pad_w,   a(w) = v          a pad of a value before or behind a map of each entry
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.map import Map, Pairs, Shape
from fusekit.algebra.span import Span
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
    """Padding of the last n axes by `padding`, (low, high) pairs none of which crops, with the number `value`."""

    padding: Pairs
    value: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.pad(x, flat_padding(self.padding), value=self.value)

    def before(self, outer: Affine) -> "Pad | ValuePad":
        """The pad p with self ∘ outer = outer ∘ p: of zeros where `outer` maps these to the value; Inapplicable if no
        one number does it for all channels."""
        if outer.shift.is_meta or bool(torch.all(outer.shift == self.value)):
            return Pad(self.padding)
        if outer.axis is not None:
            raise Inapplicable("the value that is padded is another number in each channel before the affine map")
        if float(outer.scale) == 0:
            raise Inapplicable("no value is mapped to the one that is padded")
        return ValuePad(self.padding, (self.value - float(outer.shift)) / float(outer.scale))

    def output_shape(self, shape: Shape) -> Shape:
        return Pad(self.padding).output_shape(shape)

    def macs(self, shape: Shape) -> int:
        return 0

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def span(self) -> Span:
        return Pad(self.padding).span()

    def linear_part(self) -> Pad:
        return Pad(self.padding)

    def on_meta(self) -> "ValuePad":
        return self


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
