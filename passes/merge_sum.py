"""Merge parallel branches that are added.

    c1(x) + c2(x) + a(x) + x + y = c(x) + y          K = Σ K_t on one window, b = Σ b_t

Different windows, dilations and groups, identities, per-channel maps, and whole chains of linear layers as branches
(RepVGG, Ding et al. 2021; ACNet 2019; Diverse Branch Block 2021; MobileOne, Vasu et al. 2023). The sum is flattened
first, so that neither nesting nor order matters, and the price is asked of all branches together.
"""

from dataclasses import dataclass

from fusekit.algebra import Combination
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Sum


@dataclass(frozen=True)
class MergeSum(Rewrite):
    """c1(x) + c2(x) + x + y = (c1 + c2 + id)(x) + y."""

    name = "merge-sum"
    pattern = Sum()

    def propose(self, total: Combination) -> Combination:
        return total.merged_sum()
