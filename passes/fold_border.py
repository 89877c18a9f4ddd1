"""Fold two convolutions where the border differs, and put the border right.

    c2 ∘ c1 = (K2 * K1) ⋆ x - ring          c2 pads, and c1 gives more than zeros outside its own output
    c2 ∘ c1 = (K2 * [K1 b1]) ⋆ (x, 1)       c1 pointwise: its bias is a weight on a channel of ones
    c ∘ a = (c0 ∘ a) ∘ pad_w, a(w) = 0      one scale and shift for all channels, c0 being c that pads nothing

The composed kernel extends c1 beyond its output, where c2 should see zeros. What that adds to the outer ceil(p2 / s2)
rows and columns is computed on the few rows of x it depends on and subtracted (`fusekit/algebra/ring.py`): exact for
every stride, dilation, padding, bias and size, at O(perimeter) cost. It pays where the middle is wide: 3 -> 64 -> 3
channels, 16 -> 128 -> 16. If all that c1 gives there is its bias, a channel of ones that is padded with zeros like
the others does the same (`fusekit/algebra/ones.py`) for one copy of x; the price decides between the two. Stands in a
stage of its own, after every fold that needs no correction.
"""

from contextlib import suppress
from dataclasses import dataclass

from fusekit.algebra import Affine, AppendOnes, BorderedConv, Choice, Composition, Conv, ValuePad
from fusekit.algebra.bordered import needs_ring
from fusekit.algebra.ones import bias_as_channel
from fusekit.errors import Inapplicable
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


def _corrected(outer: Conv, inner: Conv) -> Choice:
    options: tuple[Composition | BorderedConv | Conv, ...] = (BorderedConv.fold(outer, inner),)
    with suppress(Inapplicable):
        options = (Composition((outer @ bias_as_channel(inner), AppendOnes(inner.n))), *options)
    return Choice(options)


@dataclass(frozen=True)
class FoldConvBorder(Rewrite):
    """c2 ∘ c1 = (K2 * K1) ⋆ x - ring, or with a channel of ones, where the work is less."""

    name = "fold-conv-border"
    pattern = Compose(Conv, Conv, when=needs_ring)
    gain = 0.9

    def propose(self, outer: Conv, inner: Conv) -> Choice:
        return _corrected(outer, inner)


@dataclass(frozen=True)
class FoldAffineBorder(Rewrite):
    """c ∘ a = (K·s) ⋆ x + b + Σ K·t - ring, or with a channel of ones, or with a pad of the value that a maps to 0: a
    shift before a convolution that pads."""

    name = "fold-affine-border"
    pattern = Compose(Conv, Affine, when=needs_ring)

    def propose(self, c: Conv, a: Affine) -> Choice:
        options = _corrected(c, Conv.from_affine(a, c.n, c.in_channels, c.kernel.device)).options
        with suppress(Inapplicable):
            bare, pad = c.padding_apart()
            by_value = ValuePad(pad.padding, 0.0).before(a)
            options = (Composition((bare @ a, by_value)), *options)
        return Choice(options)
