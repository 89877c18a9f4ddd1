"""Compute convolutions with long kernels by FFT.

    c(x) = F⁻¹(Σ_i F(K)[o, i] · F(x)[i]) + b       on frames without aliases (`fusekit/algebra/transforms/spectral.py`)

The law always holds but seldom pays: for each output a direct convolution takes k multiplications, one by transforms
some 5 log2 N, whatever k is. The price compares the plan for this size, on this runtime, with a direct convolution in
its better memory layout. Without a size there is no plan, and the convolution stays. Small kernels are not looked at.
The pass stands in the last stage, because what is computed by transforms folds no further.
"""

import math
from dataclasses import dataclass

from fusekit.algebra import Conv, SpectralConv
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose

_TAPS = 25  # of the whole window; below, no size was found at which it pays


def has_long_kernel(c: Conv) -> bool:
    """Whether transforms could pay at some size: taps enough, and real numbers."""
    return c.n > 0 and math.prod(c.window) >= _TAPS and not c.kernel.is_complex()


@dataclass(frozen=True)
class UseSpectralConv(Rewrite):
    """c = F⁻¹ ∘ F(K) ∘ F, where that is faster."""

    name = "use-spectral-conv"
    pattern = Compose(Conv, when=has_long_kernel)
    gain = 0.7  # the price is right to some 30 %: what is not clearly faster stays as it is
    sized = True
    realizes = True
    hope = 4.5

    def propose(self, c: Conv) -> SpectralConv:
        return SpectralConv.of(c)
