"""Merge what is computed with the parts of a tensor.

    concat_i(Σ_j m_ij(x_j)) = m(x)                  x = concat(x_1, ..., x_k), m the convolution of the blocks m_ij
    concat_i(Σ_j a_ij c_j(x)) = c(x)                c_j convolutions and their parts, a_ij affine for each channel
    concat(f(x_1), ..., f(x_k)) = f(concat(x_1, ..., x_k))

Complex layers written with two real ones, (A xr - B xi, A xi + B xr) = [[A, -B], [B, A]] (xr, xi) (Trabelsi et al.,
Deep Complex Networks, 2018), become one convolution, whoever wrote them; a whitening batch norm in evaluation mode is a
2x2 matrix for each channel and goes into the convolution before it; an activation of both parts is one of the whole.
"""

from dataclasses import dataclass

from fusekit.algebra import Combination, Composition, Term
from fusekit.rewriting import Exactness, Rewrite
from fusekit.rewriting.channel_paths import AlikeParts, PartsOf


@dataclass(frozen=True)
class FoldParts(Rewrite):
    """concat_i(Σ_j a_ij c_j(x)) = c(x): worth it however little stood behind the layers, for nothing is left of it."""

    name = "fold-parts"
    pattern = PartsOf(behind_layers=True)

    def propose(self, whole: Combination) -> Combination:
        return whole.gathered()


@dataclass(frozen=True)
class MergeParts(Rewrite):
    """concat_i(Σ_j m_ij(x_j)) = m(x)."""

    name = "merge-parts"
    pattern = PartsOf()
    gain = 0.9

    def propose(self, whole: Combination) -> Combination:
        return whole.gathered()


@dataclass(frozen=True)
class JoinParts(Rewrite):
    """concat(f(x_1), ..., f(x_k)) = f(concat(x_1, ..., x_k))."""

    name = "join-parts"
    pattern = AlikeParts()
    exactness = Exactness.BITWISE

    def propose(self, whole: Combination) -> Combination:
        nothing = Composition(())
        return Combination(tuple(Term(t.source, nothing) for t in whole.terms), whole.axis, whole.terms[0].map)
