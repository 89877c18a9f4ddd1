"""Let a convolution do its own zero padding.

    c ∘ pad(q) = c with padding p + q

A crop (q < 0) before a convolution that pads is no sum: the cropped border must stay zero. Padding that differs
between the sides is kept per side; ONNX convolutions take it as it is, torch's need an operator for the difference,
which the price knows.
"""

from dataclasses import dataclass

from fusekit.algebra import Conv, Pad
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


@dataclass(frozen=True)
class FoldPad(Rewrite):
    """c ∘ pad(q) = c with padding p + q."""

    name = "fold-pad"
    pattern = Compose(Conv, Pad)

    def propose(self, c: Conv, pad: Pad) -> Conv:
        return c @ pad
