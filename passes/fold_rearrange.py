"""Linear maps pass through what only moves or averages values, to where they are cheaper or fold.

    W ∘ shuffle ∘ c   = shuffle ∘ (W ⊗ I_r²) ∘ c       an upsampler's tail folds into its convolution
    a ∘ shuffle ∘ c   = shuffle ∘ a' ∘ c               and so does a batch norm behind it
    mean ∘ W          = W ∘ mean                       a 1x1 convolution after the global mean: at one position
    L ∘ flatten ∘ W   = L' ∘ flatten                   a 1x1 convolution before a flattened linear layer
    L ∘ flatten ∘ c   = flatten ∘ (L ∘ c)              any, if the size is fixed: L is a window as large as the map

W is a 1x1 convolution of stride 1 without padding, c any convolution. On a map of another size than the fixed one the
last does not run, as the linear layer would not.
"""

from dataclasses import dataclass

from fusekit.algebra import Affine, Composition, Conv, Flatten, GlobalMean, PixelShuffle
from fusekit.errors import Inapplicable
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


@dataclass(frozen=True)
class FoldShuffled(Rewrite):
    """W ∘ shuffle ∘ c = shuffle ∘ ((W ⊗ I) ∘ c)."""

    name = "fold-shuffled"
    pattern = Compose(Conv, PixelShuffle, Conv)
    gain = 0.9

    def propose(self, outer: Conv, shuffle: PixelShuffle, inner: Conv) -> Composition:
        return Composition((shuffle, shuffle.lifted(outer) @ inner))


@dataclass(frozen=True)
class FoldAffineShuffled(Rewrite):
    """a ∘ shuffle ∘ c = shuffle ∘ (a' ∘ c)."""

    name = "fold-affine-shuffled"
    pattern = Compose(Affine, PixelShuffle, Conv)

    def propose(self, a: Affine, shuffle: PixelShuffle, c: Conv) -> Composition:
        return Composition((shuffle, shuffle.lifted(a) @ c))


@dataclass(frozen=True)
class MeanFirst(Rewrite):
    """mean ∘ W = W ∘ mean."""

    name = "mean-first"
    pattern = Compose(GlobalMean, Conv)

    def propose(self, mean: GlobalMean, c: Conv) -> Composition:
        if not c.is_pointwise() or c.n != mean.n:
            raise Inapplicable("only a pointwise convolution commutes with the mean over all positions")
        return Composition((c, mean))


@dataclass(frozen=True)
class FoldFlattened(Rewrite):
    """L ∘ flatten ∘ W = L' ∘ flatten, or flatten ∘ (L ∘ c) for any convolution of a fixed size."""

    name = "fold-flattened"
    pattern = Compose(Conv, Flatten, Conv)
    gain = 0.9

    def propose(self, linear: Conv, flatten: Flatten, inner: Conv) -> Composition:
        if linear.n != 0:
            raise Inapplicable("what follows the flattening is no linear layer")
        if inner.n == 0:
            raise Inapplicable("a linear layer has its channels last, and is flattened in another order")
        if inner.is_pointwise():
            return Composition((flatten.absorbed(linear, inner), flatten))
        return Composition((Flatten(), flatten.unflattened(linear) @ inner))
