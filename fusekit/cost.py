"""One price for maps, used on both sides of every rewrite.

    price = MACs + 4 · bytes + 100,000 · operators

in multiply-accumulates. A core that does some 30 GMAC/s in float32 moves some 8 GB/s and needs a few microseconds to
start an operator; only the ratios matter. Bytes are those read (input, constants) and written (output). The same
function prices what is and what is proposed, at the shape of the example inputs, or at a nominal one if there is none.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from fusekit.algebra import Affine, Conv, Map, Pad, Shape

BYTE = 4.0
OPERATOR = 100_000.0

_NOMINAL = {0: (), 1: (4096,), 2: (56, 56), 3: (16, 28, 28)}


@dataclass(frozen=True)
class Work:
    """What a map costs at one shape."""

    macs: int
    bytes: int
    operators: int

    def __add__(self, other: "Work") -> "Work":
        return Work(self.macs + other.macs, self.bytes + other.bytes, self.operators + other.operators)

    @property
    def price(self) -> float:
        return self.macs + BYTE * self.bytes + OPERATOR * self.operators


FREE = Work(0, 0, 0)


def work(value: Map, shape: Shape, itemsize: int, *, target: str = "torch") -> Work:
    """The work of one map on an input of this shape. A pad that the convolution cannot do itself is an operator of
    its own in torch; ONNX convolutions pad each side on its own."""
    moved = (math.prod(shape) + math.prod(value.output_shape(shape)) + _entries(value.constants())) * itemsize
    total = Work(value.macs(shape), moved, 1)
    if target == "torch" and isinstance(value, Conv) and not value.transposed:
        first, _ = value.symmetric_padding()
        if any(pair != (0, 0) for pair in first):
            total = total + work(Pad(first), shape, itemsize)
    return total


def work_of_chain(maps: tuple[Map, ...], shape: Shape, itemsize: int, *, target: str = "torch") -> list[Work]:
    """The work of each map of outer ∘ ... ∘ inner, in the order given (outer first)."""
    works = []
    for value in reversed(maps):
        works.append(work(value, shape, itemsize, target=target))
        shape = value.output_shape(shape)
    return works[::-1]


def nominal_shape(maps: tuple[Map, ...]) -> Shape | None:
    """An input shape for a chain (outer first) whose real one is unknown: batch 1 and a usual size; None if the
    chain says nothing about its channels."""
    for value in reversed(maps):
        if isinstance(value, Conv):
            return (1, value.in_channels, *_NOMINAL[value.n])
        if isinstance(value, Affine) and value.axis is not None and value.channels is not None:
            return (1, value.channels, *_NOMINAL[-value.axis - 1])
    return None


def _entries(constants: tuple[Tensor, ...]) -> int:
    return sum(constant.numel() for constant in constants)
