"""Fold convolutions in a row into fewer.

    c2 ∘ c1 = Conv(K, b2 + Σ K2·b1),   K[o] = Σ K2[v]·K1[u] over o = d1·u + s1·d2·v
    stride s1·s2, padding p1 + s1·p2, groups gcd(g1, g2)

Exact everywhere if c2 does not pad; if it does, only where c1 gives zero outside its own output: without a bias, and
with a window that sees only zeros there (`fusekit/algebra/border.py` has the criterion). It rarely lowers the work:
3x3 after 3x3 of equal widths, depthwise -> pointwise and bottlenecks cost more as one convolution, and are refused.
A row of more than two is cut where that is cheapest (`fusekit/rewriting/row_cut.py`).
"""

from dataclasses import dataclass

from fusekit.algebra import Chain, Conv
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Row


@dataclass(frozen=True)
class FoldConv(Rewrite):
    """c2 ∘ c1 = Conv(K2 * K1, b2 + Σ K2·b1), where the border allows it and the work is less."""

    name = "fold-conv"
    # a linear layer on the last axis and a convolution read other channels of one tensor
    pattern = Row(Conv, alike=lambda conv: conv.n)
    # a larger window is a little less efficient per multiply than two small ones
    gain = 0.9

    def propose(self, *outermost_first: Conv) -> Chain:
        return Chain(outermost_first[::-1])
