"""Maps pass through nearest upsampling, or take it in.

    W ∘ U = U ∘ W          a 1x1 convolution on fewer positions
    a ∘ U = U ∘ a          and so a batch norm, to what stands before
    c ∘ U = T              a transposed convolution: with factor 2 and a 3x3 window, 16 taps for 36

The last is exact at the border too, whatever c pads. Its price knows that a transposed convolution in ONNX Runtime
writes all its products before it adds them up: with few channels it does not pay. It stands in a stage of its own, for
what is transposed folds and merges with less than what is not.
"""

from dataclasses import dataclass

from fusekit.algebra import Affine, Composition, Conv, Nearest
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


def _sees_one_position(c: Conv, upsampling: Nearest) -> bool:
    return c.is_pointwise()


def _sees_more(c: Conv, upsampling: Nearest) -> bool:
    return not c.is_pointwise()


@dataclass(frozen=True)
class UpsampleLast(Rewrite):
    """W ∘ U = U ∘ W."""

    name = "upsample-last"
    pattern = Compose(Conv, Nearest, when=_sees_one_position)
    gain = 0.9

    def propose(self, c: Conv, upsampling: Nearest) -> Composition:
        return Composition((upsampling, upsampling.passed(c)))


@dataclass(frozen=True)
class UpsampleLastAffine(Rewrite):
    """a ∘ U = U ∘ a."""

    name = "upsample-last-affine"
    pattern = Compose(Affine, Nearest)

    def propose(self, a: Affine, upsampling: Nearest) -> Composition:
        return Composition((upsampling, upsampling.lifted(a)))


@dataclass(frozen=True)
class FoldNearest(Rewrite):
    """c ∘ U = T."""

    name = "fold-nearest"
    pattern = Compose(Conv, Nearest, when=_sees_more)
    gain = 0.75

    def propose(self, c: Conv, upsampling: Nearest) -> Conv:
        return upsampling.absorbed(c)
