"""Convolutions in a row, any neighbours of which may become one.

    c_n ∘ ... ∘ c_1 = f_m ∘ ... ∘ f_1        each f the composition of neighbours

Composition is associative, so a stretch has one folded kernel; but one order of folding can be lawful at the border
where another is not, so all are tried. Where to cut is a question of price, and not of algebra:
`fusekit/rewriting/row_cut.py`.
"""

from dataclasses import dataclass, field

from torch import Tensor

from fusekit.algebra.composition import Composition
from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.span import Span
from fusekit.errors import Inapplicable

Cut = tuple[tuple[int, int], ...]  # [start, stop) of each stretch, counted from the innermost convolution


@dataclass(frozen=True, eq=False)
class Chain(Map):
    """`convs`, innermost first; a function as their composition is."""

    convs: tuple[Conv, ...]
    _folds: dict[tuple[int, int], Conv | Inapplicable] = field(default_factory=dict, repr=False)

    def folded(self, start: int, stop: int) -> Conv:
        """The convolutions from `start` on, before `stop`, as one: c_(stop-1) ∘ ... ∘ c_start. Inapplicable if no order
        of folding is lawful."""
        if stop - start == 1:
            return self.convs[start]
        if (start, stop) not in self._folds:
            self._folds[start, stop] = self._fold(start, stop)
        found = self._folds[start, stop]
        if isinstance(found, Inapplicable):
            raise found
        return found

    def _fold(self, start: int, stop: int) -> Conv | Inapplicable:
        refusal = Inapplicable("")
        for middle in range(stop - 1, start, -1):
            try:
                return self.folded(middle, stop) @ self.folded(start, middle)
            except Inapplicable as reason:
                refusal = reason
        return refusal

    def cut(self, stretches: Cut) -> Composition:
        """The composition of the folded stretches."""
        return Composition(tuple(self.folded(start, stop) for start, stop in reversed(stretches)))

    def __call__(self, x: Tensor) -> Tensor:
        return self._plain(x)

    @property
    def _plain(self) -> Composition:
        return Composition(self.convs[::-1])

    def output_shape(self, shape: Shape) -> Shape:
        return self._plain.output_shape(shape)

    def macs(self, shape: Shape) -> int:
        return self._plain.macs(shape)

    def constants(self) -> tuple[Tensor, ...]:
        return self._plain.constants()

    def span(self) -> Span | None:
        return self._plain.span()

    def linear_part(self) -> "Chain":
        return Chain(tuple(conv.linear_part() for conv in self.convs))

    def on_meta(self) -> "Chain":
        return Chain(tuple(conv.on_meta() for conv in self.convs))
