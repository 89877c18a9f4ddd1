"""Fold average pools into the convolutions beside them.

    pool ∘ c = (1/|w| ⋆) ∘ c            c ∘ pool = c ∘ (1/|w| ⋆)

A pool is a depthwise convolution with a constant kernel, where it counts its padding and does not round its size up.
The border and the price decide as for any two convolutions; alone it seldom pays, inside a merged block it does.
"""

from dataclasses import dataclass

from fusekit.algebra import AvgPool, Conv
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


@dataclass(frozen=True)
class FoldPool(Rewrite):
    """pool ∘ c = Conv(1/|w| * K, b)."""

    name = "fold-pool"
    pattern = Compose(AvgPool, Conv)
    gain = 0.9

    def propose(self, pool: AvgPool, c: Conv) -> Conv:
        return pool @ c


@dataclass(frozen=True)
class FoldPoolIn(Rewrite):
    """c ∘ pool = Conv(K * 1/|w|, b)."""

    name = "fold-pool-in"
    pattern = Compose(Conv, AvgPool)
    gain = 0.9

    def propose(self, c: Conv, pool: AvgPool) -> Conv:
        return c @ pool
