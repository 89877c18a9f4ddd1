"""Fold through padding that repeats what is there: circular, reflect, replicate.

    c ∘ E ∘ a           = (c ∘ a) ∘ E              a batch norm, a shift, a pointwise convolution: any mode
    c2 ∘ E_q ∘ c1 ∘ E_p = (c2 ∘ c1) ∘ E_(p, q)     circular, c1 of stride 1 and the size of its input kept

E is the pad. Where zeros are padded a shift cannot pass; here it can, for the pad repeats what was shifted. A window
before reflected or replicated rows is refused: they repeat its output, and the fold would repeat its input.
"""

from dataclasses import dataclass

from fusekit.algebra import Affine, Composition, Conv, EdgePad
from fusekit.errors import Inapplicable
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


@dataclass(frozen=True)
class FoldAffineEdge(Rewrite):
    """c ∘ E ∘ a = (c ∘ a) ∘ E, shift and all."""

    name = "fold-affine-edge"
    pattern = Compose(Conv, EdgePad, Affine)

    def propose(self, c: Conv, pad: EdgePad, a: Affine) -> Composition:
        if c.n == 0:
            raise Inapplicable("the padding repeats features of a linear layer")
        return Composition((c @ a, pad))


def _all_circular(outer: Conv, pad: EdgePad, inner: Conv, first: EdgePad) -> bool:
    return pad.mode == first.mode == "circular"


@dataclass(frozen=True)
class FoldCircular(Rewrite):
    """c2 ∘ E_q ∘ c1 ∘ E_p = (c2 ∘ c1) ∘ E_(p, q) on a circle."""

    name = "fold-circular"
    pattern = Compose(Conv, EdgePad, Conv, EdgePad, when=_all_circular)
    gain = 0.9

    def propose(self, outer: Conv, pad: EdgePad, inner: Conv, first: EdgePad) -> Composition:
        return Composition((outer @ inner, pad.before_conv(inner, first)))


def _not_circular(outer: Conv, pad: EdgePad, inner: Conv) -> bool:
    return pad.mode != "circular" or inner.is_pointwise()


@dataclass(frozen=True)
class FoldConvEdge(Rewrite):
    """c2 ∘ E ∘ c1 = (c2 ∘ c1) ∘ E for a pointwise c1."""

    name = "fold-conv-edge"
    pattern = Compose(Conv, EdgePad, Conv, when=_not_circular)
    gain = 0.9

    def propose(self, outer: Conv, pad: EdgePad, inner: Conv) -> Composition:
        if outer.n == 0:
            raise Inapplicable("the padding repeats features of a linear layer")
        return Composition((outer @ inner, pad.before_pointwise(inner)))
