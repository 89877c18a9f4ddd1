"""What every algebraic value offers: it is a function of one tensor, and knows its sizes and its work."""

from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor

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

    def on_meta(self) -> "Map":
        """The same map on the meta device: shapes without values."""
        ...
