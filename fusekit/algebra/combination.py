"""Maps made of maps: compositions, and sums and concatenations of branches.

    Composition(m1, ..., mk)(x) = m1(...(mk(x)))
    Combination(terms)(x1, ..., xn) = Σ m_t(x_s(t))   or   concat of m_t(x_s(t)) along an axis

A proposal may be any of these; its price is the sum of its parts' and the bytes of putting them together.
"""

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from fusekit.algebra.map import Map, Shape


@dataclass(frozen=True, eq=False)
class Composition:
    """Maps in a row, outermost first."""

    maps: tuple[Map, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return reduce(lambda value, each: each(value), reversed(self.maps), x)

    def output_shape(self, shape: Shape) -> Shape:
        return reduce(lambda size, each: each.output_shape(size), reversed(self.maps), shape)

    def macs(self, shape: Shape) -> int:
        total = 0
        for each in reversed(self.maps):
            total += each.macs(shape)
            shape = each.output_shape(shape)
        return total

    def constants(self) -> tuple[Tensor, ...]:
        return tuple(constant for each in self.maps for constant in each.constants())

    def on_meta(self) -> "Composition":
        return Composition(tuple(each.on_meta() for each in self.maps))


@dataclass(frozen=True, eq=False)
class Term:
    """One branch: a map of one of the sources."""

    source: int
    map: Map


@dataclass(frozen=True, eq=False)
class Combination:
    """The sum of branches (`axis` None), or their concatenation along an axis counted from the right."""

    terms: tuple[Term, ...]
    axis: int | None = None

    def __call__(self, *sources: Tensor) -> Tensor:
        values = [term.map(sources[term.source]) for term in self.terms]
        return sum(values[1:], values[0]) if self.axis is None else torch.cat(values, self.axis)

    def output_shapes(self, shapes: tuple[Shape, ...]) -> list[Shape]:
        """The shape of each branch's value."""
        return [term.map.output_shape(shapes[term.source]) for term in self.terms]

    def constants(self) -> tuple[Tensor, ...]:
        return tuple(constant for term in self.terms for constant in term.map.constants())

    def on_meta(self) -> "Combination":
        return Combination(tuple(Term(term.source, term.map.on_meta()) for term in self.terms), self.axis)
