"""Linear maps pass through an order of the axes.

    P2 ∘ P1     = P                or nothing
    P⁻¹ ∘ L ∘ P = W                a linear layer between two permutations is a 1x1 convolution
    L ∘ P ∘ c   = P ∘ (W ∘ c)      and behind one it folds into the convolution before that
    L ∘ P ∘ a   = (L ∘ a') ∘ P     a batch norm before tokens are made of it
    a ∘ P ∘ c   = P ∘ (a' ∘ c)     a scale of each channel behind

P moves the channels last, L is a linear layer, W the 1x1 convolution of its matrix.
"""

from dataclasses import dataclass

from fusekit.algebra import Affine, Composition, Conv, Identity, Permute
from fusekit.errors import Inapplicable
from fusekit.rewriting import Exactness, Rewrite
from fusekit.rewriting.pattern import Compose


@dataclass(frozen=True)
class FoldPermutes(Rewrite):
    """P2 ∘ P1 = P."""

    name = "fold-permutes"
    pattern = Compose(Permute, Permute)
    exactness = Exactness.BITWISE

    def propose(self, outer: Permute, inner: Permute) -> Permute | Identity:
        return outer @ inner


@dataclass(frozen=True)
class UnfoldPermuted(Rewrite):
    """P⁻¹ ∘ L ∘ P = W."""

    name = "unfold-permuted"
    pattern = Compose(Permute, Conv, Permute)

    def propose(self, last: Permute, linear: Conv, first: Permute) -> Conv:
        if not isinstance(last @ first, Identity):
            raise Inapplicable("the axes do not come back to their places")
        return first.pointwise(linear)


@dataclass(frozen=True)
class FoldPermuted(Rewrite):
    """L ∘ P ∘ c = P ∘ (W ∘ c)."""

    name = "fold-permuted"
    pattern = Compose(Conv, Permute, Conv)
    gain = 0.9

    def propose(self, linear: Conv, permute: Permute, c: Conv) -> Composition:
        return Composition((permute, permute.pointwise(linear) @ c))


@dataclass(frozen=True)
class FoldAffinePermutedIn(Rewrite):
    """L ∘ P ∘ a = (L ∘ a') ∘ P."""

    name = "fold-affine-permuted-in"
    pattern = Compose(Conv, Permute, Affine)

    def propose(self, c: Conv, permute: Permute, a: Affine) -> Composition:
        return Composition((c @ permute.lowered(a), permute))


@dataclass(frozen=True)
class FoldAffinePermuted(Rewrite):
    """a ∘ P ∘ c = P ∘ (a' ∘ c)."""

    name = "fold-affine-permuted"
    pattern = Compose(Affine, Permute, Conv)

    def propose(self, a: Affine, permute: Permute, c: Conv) -> Composition:
        return Composition((permute, permute.lifted(a) @ c))
