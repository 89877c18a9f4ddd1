"""Let a convolution read, or write, its channels in another order.

    c ∘ p = Conv(Σ_(p(j) = i) K[:, j])          p ∘ c = Conv(K[p], b[p])

RGB for BGR before the first layer, channels flipped, picked or shuffled. A grouped convolution becomes a dense one by
that, which the price knows.
"""

from dataclasses import dataclass

from fusekit.algebra import Conv, Picking
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


@dataclass(frozen=True)
class FoldPickingIn(Rewrite):
    """c ∘ p = Conv(Σ_(p(j) = i) K[:, j])."""

    name = "fold-picking-in"
    pattern = Compose(Conv, Picking)

    def propose(self, c: Conv, picking: Picking) -> Conv:
        return c @ picking


@dataclass(frozen=True)
class FoldPicking(Rewrite):
    """p ∘ c = Conv(K[p], b[p])."""

    name = "fold-picking"
    pattern = Compose(Picking, Conv)

    def propose(self, picking: Picking, c: Conv) -> Conv:
        return picking @ c
