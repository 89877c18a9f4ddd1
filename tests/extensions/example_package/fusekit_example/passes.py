"""Pad once instead of twice.

    pad(q) ∘ pad(p) = pad(p + q)          where no side is cropped by p and then padded by q

What a crop has removed does not come back as zeros: then the two sides differ.
"""

from dataclasses import dataclass

from fusekit.algebra import Pad
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


@dataclass(frozen=True)
class FoldPads(Rewrite):
    """pad(q) ∘ pad(p) = pad(p + q), if p does not crop where q pads."""

    name = "fold-pads"
    pattern = Compose(Pad, Pad)
    stage = "fold"

    def propose(self, outer: Pad, inner: Pad) -> Pad:
        return outer @ inner  # raises Inapplicable where the law does not hold
