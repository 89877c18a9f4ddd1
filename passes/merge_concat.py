"""Merge branches that are concatenated, and what follows a concatenation into its branches.

    concat(c1(x), c2(x)) = c(x)                    kernels stacked along the outputs
    a ∘ concat(c1, c2) = concat(a1 ∘ c1, a2 ∘ c2)  a batch norm behind a concatenation, split by channels
    c ∘ concat(c1, c2) = c' ∘ c1 + c'' ∘ c2        a convolution of linear branches, split by channels and merged

The first pays where the windows are alike: kernels are stacked on one window, with zeros where one is smaller. The last
does not ask for that: what the branches of one input become is one convolution, whatever they were.
"""

from dataclasses import dataclass

from fusekit.algebra import Affine, Combination, Conv
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import AfterConcat, Concat


@dataclass(frozen=True)
class MergeConcat(Rewrite):
    """concat(c1(x), c2(x)) = c(x)."""

    name = "merge-concat"
    pattern = Concat()

    def propose(self, whole: Combination) -> Combination:
        return whole.merged_concat()


@dataclass(frozen=True)
class SplitAffine(Rewrite):
    """a ∘ concat(c1, c2) = concat(a1 ∘ c1, a2 ∘ c2)."""

    name = "split-affine"
    pattern = AfterConcat(Affine)

    def propose(self, a: Affine, whole: Combination) -> Combination:
        return whole.after_affine(a)


@dataclass(frozen=True)
class FoldConcat(Rewrite):
    """c ∘ concat(c1, c2) = c' ∘ c1 + c'' ∘ c2 = one convolution for the branches of one input."""

    name = "fold-concat"
    pattern = AfterConcat(Conv)
    gain = 0.9

    def propose(self, c: Conv, whole: Combination) -> Combination:
        return whole.after_conv(c)
