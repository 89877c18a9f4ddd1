"""Fold two convolutions where the border differs, and put the border right.

    c2 ∘ c1 = (K2 * K1) ⋆ x - ring          c2 pads, and c1 gives more than zeros outside its own output

The composed kernel extends c1 beyond its output, where c2 should see zeros. What that adds to the outer ceil(p2 / s2)
rows and columns is computed on the few rows of x it depends on and subtracted (`fusekit/algebra/ring.py`): exact for
every stride, dilation, padding, bias and size, at O(perimeter) cost. It pays where the middle is wide: 3 -> 64 -> 3
channels, 16 -> 128 -> 16. Stands in a stage of its own, after every fold that needs no correction.
"""

from dataclasses import dataclass

from fusekit.algebra import Affine, BorderedConv, Conv
from fusekit.algebra.bordered import needs_ring
from fusekit.pattern import Compose
from fusekit.rewrite import Rewrite


@dataclass(frozen=True)
class FoldConvRing(Rewrite):
    """c2 ∘ c1 = (K2 * K1) ⋆ x - ring, where the work is less."""

    name = "fold-conv-ring"
    pattern = Compose(Conv, Conv, when=needs_ring)
    gain = 0.9

    def propose(self, outer: Conv, inner: Conv) -> BorderedConv | Conv:
        return BorderedConv.fold(outer, inner)


@dataclass(frozen=True)
class FoldAffineRing(Rewrite):
    """c ∘ a = (K·s) ⋆ x + b + Σ K·t - ring: a shift before a convolution that pads."""

    name = "fold-affine-ring"
    pattern = Compose(Conv, Affine, when=needs_ring)

    def propose(self, c: Conv, a: Affine) -> BorderedConv | Conv:
        return BorderedConv.fold(c, Conv.from_affine(a, c.n, c.in_channels, c.kernel.device))
