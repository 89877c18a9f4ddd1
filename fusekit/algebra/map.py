"""What every algebraic value offers: it is a function of one tensor, and knows its sizes and its work."""

import math
from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from fusekit.algebra.work import Rates, Work

Shape: TypeAlias = tuple[int, ...]
Pairs: TypeAlias = tuple[tuple[int, int], ...]


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

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """What it costs on an input of this shape, of entries of `itemsize` bytes, where it runs at these rates: one
        operator that reads its input and its constants and writes its output, unless the map says otherwise.
        Inapplicable where it cannot run so."""
        entries = math.prod(shape) + math.prod(self.output_shape(shape)) + sum(c.numel() for c in self.constants())
        return Work(self.macs(shape), entries * itemsize, 1)

    def on_meta(self) -> "Map":
        """The same map on the meta device: shapes without values."""
        ...
