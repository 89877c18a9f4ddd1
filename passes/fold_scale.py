"""Move the scale and shift of a norm into the layer behind it.

    c ∘ norm(γ, β) = (c ∘ (γ, β)) ∘ std          norm(γ, β) = (γ, β) ∘ std

Layer, RMS and group norms before a linear layer or a convolution that reads nothing else; one that pads takes no shift
in. The norm stays one operator, with fewer numbers to read. Where all norms scale nothing is gained, and
the price refuses it.
"""

from dataclasses import dataclass

from fusekit.algebra import Composition, Conv, Normalization
from fusekit.errors import Inapplicable
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


def _scales(c: Conv, norm: Normalization) -> bool:
    return norm.parts() is not None


@dataclass(frozen=True)
class FoldScale(Rewrite):
    """c ∘ norm(γ, β) = (c ∘ (γ, β)) ∘ std."""

    name = "fold-scale"
    pattern = Compose(Conv, Normalization, when=_scales)

    def propose(self, c: Conv, norm: Normalization) -> Composition:
        parts = norm.parts()
        if parts is None:
            raise Inapplicable("the norm has neither scale nor shift")
        affine, standardized = parts
        return Composition((c @ affine, standardized))
