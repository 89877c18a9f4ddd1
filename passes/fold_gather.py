"""Fold channels that are put in another order into the convolutions beside them.

    c ∘ P = Conv(K P)          P ∘ c = Conv(P K, P b)

P takes channels in an order, some not at all, some more than once: BGR for RGB before the first layer, a shuffle of
channels. Between groups it makes a grouped convolution dense, which the price refuses.
"""

from dataclasses import dataclass

from fusekit.algebra import Conv, Gather
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


@dataclass(frozen=True)
class FoldGather(Rewrite):
    """P ∘ c = Conv(P K, P b)."""

    name = "fold-gather"
    pattern = Compose(Gather, Conv)

    def propose(self, p: Gather, c: Conv) -> Conv:
        return p @ c


@dataclass(frozen=True)
class FoldGatherIn(Rewrite):
    """c ∘ P = Conv(K P)."""

    name = "fold-gather-in"
    pattern = Compose(Conv, Gather)

    def propose(self, c: Conv, p: Gather) -> Conv:
        return c @ p
