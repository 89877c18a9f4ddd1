"""Linear maps pass through what only moves or averages values, to where they are cheaper or fold.

    W ∘ shuffle ∘ c   = shuffle ∘ (W ⊗ I_r²) ∘ c       an upsampler's tail folds into its convolution
    a ∘ shuffle ∘ c   = shuffle ∘ a' ∘ c               and so does a batch norm behind it
    mean ∘ W          = W ∘ mean                       a 1x1 convolution after the global mean: at one position
    mean ∘ a          = a ∘ mean                       a batch norm behind the mean, or behind a pool that pads nothing
    a ∘ merge ∘ c     = merge ∘ (a ∘ c)                a batch norm over all tokens of a batch
    L ∘ flatten ∘ W   = L' ∘ flatten                   a 1x1 convolution before a flattened linear layer
    L ∘ flatten ∘ a   = L' ∘ flatten                   and so does a batch norm
    L ∘ flatten ∘ c   = flatten ∘ (L ∘ c)              any, if the size is fixed: L is a window as large as the map

W is a 1x1 convolution of stride 1 without padding, c any convolution. On a map of another size than the fixed one the
last does not run, as the linear layer would not.
"""

from dataclasses import dataclass

from fusekit.algebra import Affine, AvgPool, Composition, Conv, Flatten, GlobalMean, MergeLeading, PixelShuffle
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
        return Composition((mean.passed(c), mean))


@dataclass(frozen=True)
class MeanFirstAffine(Rewrite):
    """mean ∘ a = a ∘ mean."""

    name = "mean-first-affine"
    pattern = Compose(GlobalMean, Affine)

    def propose(self, mean: GlobalMean, a: Affine) -> Composition:
        return Composition((mean.lifted(a), mean))


@dataclass(frozen=True)
class PoolFirst(Rewrite):
    """pool ∘ a = a ∘ pool, if t = 0 or the pool does not pad."""

    name = "pool-first"
    pattern = Compose(AvgPool, Affine)

    def propose(self, pool: AvgPool, a: Affine) -> Composition:
        return Composition((pool.lifted(a), pool))


@dataclass(frozen=True)
class FoldAffineFlattened(Rewrite):
    """L ∘ flatten ∘ a = L' ∘ flatten."""

    name = "fold-affine-flattened"
    pattern = Compose(Conv, Flatten, Affine)

    def propose(self, linear: Conv, flatten: Flatten, a: Affine) -> Composition:
        return Composition((flatten.with_affine(linear, a), flatten))


@dataclass(frozen=True)
class FoldAffineMerged(Rewrite):
    """a ∘ merge ∘ c = merge ∘ (a ∘ c)."""

    name = "fold-affine-merged"
    pattern = Compose(Affine, MergeLeading, Conv)

    def propose(self, a: Affine, merge: MergeLeading, c: Conv) -> Composition:
        return Composition((merge, merge.lifted(a) @ c))


@dataclass(frozen=True)
class FoldFlattened(Rewrite):
    """L ∘ flatten ∘ W = L' ∘ flatten, or flatten ∘ (L ∘ c) for any convolution of a fixed size."""

    name = "fold-flattened"
    pattern = Compose(Conv, Flatten, Conv)
    gain = 0.9

    def propose(self, linear: Conv, flatten: Flatten, inner: Conv) -> Composition:
        if inner.is_pointwise():
            return Composition((flatten.absorbed(linear, inner), flatten))
        return Composition((Flatten(), flatten.unflattened(linear) @ inner))
