"""What every algebraic value offers: it is a function of one tensor, and answers for itself what others need to know of
it.

A kind of map must say what it computes, at which sizes, of which numbers and in how many multiplications; one that
computes a convolution in another way says which (`plain`). To all other questions there is an answer from that, which
a kind that knows better overrides.
"""

import math
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from fusekit.algebra.sizes import Shape, Sizes, through
from fusekit.algebra.span import Span
from fusekit.algebra.words import described
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable

Pairs: TypeAlias = tuple[tuple[int, int], ...]

__all__ = ["Map", "Pairs", "Shape", "Sizes"]


@runtime_checkable
class Map(Protocol):
    """A function of one tensor, in any floating dtype. `outer @ inner` composes where a law holds."""

    def __call__(self, x: Tensor) -> Tensor:
        """The value at x, computed in the dtype of x."""
        ...

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of the output for an input of this shape."""
        ...

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates for an input of this shape."""
        ...

    def constants(self) -> tuple[Tensor, ...]:
        """The tensors that define the map: what it must read besides its input."""
        ...

    def on_meta(self) -> "Map":
        """The same map on the meta device: shapes without values."""
        ...

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """What it costs on an input of this shape, of entries of `itemsize` bytes, where it runs at these rates: one
        operator that reads its input and its constants and writes its output, unless the map says otherwise.
        Inapplicable where it cannot run so."""
        entries = math.prod(shape) + math.prod(self.output_shape(shape)) + sum(c.numel() for c in self.constants())
        return Work(self.macs(shape), entries * itemsize, 1)

    def describe(self) -> str:
        """All that its time depends on beside its input, on one line: its kind and its fields, of tensors the sizes."""
        return described(self)

    def plain(self) -> Any:
        """The `Conv` that it is, or computes in another way; None if it is no such realization."""
        return None

    def output_sizes(self, sizes: Sizes) -> Sizes | None:
        """`output_shape` of sizes of which some are not known; None if then nothing is known."""
        return through(self.output_shape, sizes)

    def span(self) -> Span | None:
        """What one output sees of the input; None if that is not the same everywhere, or not known."""
        plain = self.plain()
        return None if plain is None else plain.span()

    def channels_read(self, channels: int) -> int:
        """How many channels it reads to give so many `channels`: as many, if it only moves or scales them."""
        return channels

    def block(self) -> int:
        """What the spatial sizes of its input are multiples of; 1 where they may be any."""
        return 1

    def linear_part(self) -> "Map":
        """x ↦ m(x) - m(0); Inapplicable if the map is not known to be affine."""
        plain = self.plain()
        if plain is None:
            raise Inapplicable(f"a {type(self).__name__} has no linear part")
        return plain.linear_part()  # type: ignore[no-any-return]

    def is_weighted(self) -> bool:
        """Whether it has a kernel or matrix: a layer that is counted, and not one number for each channel."""
        return any(constant.ndim > 1 for constant in self.constants())

    def steps(self) -> "tuple[Map, ...]":
        """What is computed one after the other, outermost first; nothing for the identity."""
        return (self,)
