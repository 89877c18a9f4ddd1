"""Fold per-channel affine maps into the convolutions beside them.

    a ∘ c = Conv(s·K, s·b + t)           c(x) = K ⋆ x + b
    c ∘ a = Conv(K·s, b + Σ K·t)         a(x) = s·x + t
    a2 ∘ a1 = (s2·s1, s2·t1 + t2)

Batch norm in evaluation mode, scales, shifts and divisions by constants, on either side of convolutions, transposed
convolutions and linear layers. The first law always holds: s scales the output channels, which stride, padding,
dilation, groups and transposition do not touch. The second fails where c pads with zeros and t ≠ 0: the border
would see 0 where the graph had t. What no convolution takes in becomes one pass over the data, along one axis.
"""

from dataclasses import dataclass

from fusekit.algebra import Affine, Conv
from fusekit.algebra.values import is_one, is_zero
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


@dataclass(frozen=True)
class FoldAffine(Rewrite):
    """a ∘ c = Conv(s·K, s·b + t)."""

    name = "fold-affine"
    pattern = Compose(Affine, Conv)

    def propose(self, a: Affine, c: Conv) -> Conv:
        return a @ c


@dataclass(frozen=True)
class FoldAffineIn(Rewrite):
    """c ∘ a = Conv(K·s, b + Σ K·t), if t = 0 or c does not pad."""

    name = "fold-affine-in"
    pattern = Compose(Conv, Affine)

    def propose(self, c: Conv, a: Affine) -> Conv:
        return c @ a


def is_shorter(outer: Affine, inner: Affine) -> bool:
    """Whether one map takes fewer operators than two. A shift behind a scale of all entries alike does not: it would be
    written as the same two operators, and without sizes no price says that nothing is gained."""
    alike = outer.axis is None and inner.axis is None
    return not (alike and is_zero(inner.shift) and is_one(outer.scale))


@dataclass(frozen=True)
class FoldAffines(Rewrite):
    """a2 ∘ a1 = (s2·s1, s2·t1 + t2)."""

    name = "fold-affines"
    pattern = Compose(Affine, Affine, when=is_shorter)

    def propose(self, outer: Affine, inner: Affine) -> Affine:
        return outer @ inner
