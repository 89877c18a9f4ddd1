"""Compute wide convolutions of three taps by Winograd's filters (`fusekit/algebra/products/winograd_conv.py`).

    c = join ∘ mix(C) ∘ Conv(A·K) ∘ mix(B) ∘ cut        F(4, 3): 6 products for 12, along the last axis

Half the multiplications, but the data are read and written a few times more. So it pays from some hundred channels on;
where exactly, only a measurement says. Kernels in half precision are refused: the rounding error would be much larger
than the convolution's own.
"""

from dataclasses import dataclass

import torch

from fusekit.algebra import Conv, WinogradConv
from fusekit.errors import Inapplicable
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose

_NARROWEST = 64  # channels; below, no size was found at which it pays


def _is_wide(c: Conv) -> bool:
    """Three taps on the last axis, one after the other, of many channels."""
    if c.n == 0 or c.transposed or c.groups != 1 or c.kernel.is_complex():
        return False
    last = (c.window[-1], c.stride[-1], c.dilation[-1])
    return last == (3, 1, 1) and min(c.in_channels, c.out_channels) >= _NARROWEST


@dataclass(frozen=True)
class UseWinograd(Rewrite):
    """c = join ∘ mix(C) ∘ Conv(A·K) ∘ mix(B) ∘ cut, F(4, 3) on the last axis, where that is faster."""

    name = "use-winograd"
    pattern = Compose(Conv, when=_is_wide)
    gain = 0.0  # never without a clock
    sized = True
    realizes = True
    hope = 0.8

    def propose(self, c: Conv) -> WinogradConv:
        if c.kernel.dtype in (torch.float16, torch.bfloat16):
            raise Inapplicable("filters in half precision round more than the convolution")
        return WinogradConv(c)
