"""What one output of a map sees of its input, axis by axis: the facts that receptive fields and probes are made of.

outer ∘ inner:  reach = r1 + s1 r2,  stride = s1 s2,  ring = e1 + s1 e2
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fusekit.algebra.sizes import Shape


@dataclass(frozen=True)
class Span:
    """Per spatial axis, the last one last; no axes at all: each position by itself, on however many axes.

    `reach`: from the first to the last input that an output sees; `stride`: between what neighbouring outputs see;
    `ring`: what is added to both sides of the input, or cropped from them, together. `transposed`: outputs may lie
    closer than inputs, and the stride is an upper bound, as the reach is.
    """

    reach: Shape = ()
    stride: Shape = ()
    ring: Shape = ()
    transposed: bool = False

    @classmethod
    def of_ring(cls, ring: Shape) -> "Span":
        """Each position by itself, of an input with a `ring` added or cropped."""
        return cls((0,) * len(ring), (1,) * len(ring), ring)

    @property
    def is_point(self) -> bool:
        """Whether an output sees one position, and the next output the next."""
        return not self.transposed and not any(self.reach) and all(step == 1 for step in self.stride)

    def on(self, axis: int) -> tuple[int, int, int]:
        """(reach, stride, ring) on an axis counted from the right; those of a point where it has no such axis."""
        return (self.reach[axis], self.stride[axis], self.ring[axis]) if -axis <= len(self.reach) else (0, 1, 0)

    def after(self, inner: "Span") -> "Span":
        """The span of the map of this one behind the map of `inner`."""
        n = max(len(self.reach), len(inner.reach))
        pairs = [(self.on(axis), inner.on(axis)) for axis in range(-n, 0)]
        reach = tuple(r1 + s1 * r2 for (r2, _, _), (r1, s1, _) in pairs)
        stride = tuple(s1 * s2 for (_, s2, _), (_, s1, _) in pairs)
        ring = tuple(e1 + s1 * e2 for (_, _, e2), (_, s1, e1) in pairs)
        return Span(reach, stride, ring, self.transposed or inner.transposed)


POINT = Span()


def along(spans: Sequence[Span | None]) -> Span | None:
    """The span of maps in a row, innermost first; None if that of one is not known."""
    total = POINT
    for span in spans:
        if span is None:
            return None
        total = span.after(total)
    return total
