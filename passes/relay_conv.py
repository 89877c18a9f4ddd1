"""Compute convolutions with their numbers laid out otherwise (`fusekit/algebra/layout.py`).

    c(x) = c'(x[:, :, None])[:, :, 0]         a convolution of one axis as one of a plane one row high
    c(x) = c(x with channels last)            the same numbers in another order in memory

The law always holds, but to change the layout costs a copy in most cases. Which layout a runtime has fast kernels for,
only a measurement says. Without one, only this is certain enough to be used: ONNX Runtime has fast kernels for
depthwise convolutions of a plane, and none for those of one axis.
A region of a network that is faster with its channels last as a whole is another matter
(`fusekit/optimizing/channels_last.py`).
"""

import math
from dataclasses import dataclass

from fusekit.algebra import Conv, Relaid
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose

_WIDE_TAPS = 49  # of a plane; below, the conversions eat the gain


def _of_one_axis(c: Conv) -> bool:
    return c.n == 1 and c.window[0] > 1 and not _is_complex(c)


def _wide(c: Conv) -> bool:
    return c.n == 2 and math.prod(c.window) >= _WIDE_TAPS and not _is_complex(c)


def _is_complex(c: Conv) -> bool:
    return c.kernel.is_complex()


@dataclass(frozen=True)
class UsePlanarConv(Rewrite):
    """c = squeeze ∘ c' ∘ unsqueeze: a convolution of one axis by the runtime's kernels for two."""

    name = "use-planar-conv"
    pattern = Compose(Conv, when=_of_one_axis)
    gain = 0.8
    sized = True
    realizes = True
    hope = 10.0

    def propose(self, c: Conv) -> Relaid:
        return Relaid(c, planar=True)


@dataclass(frozen=True)
class UsePlanarChannelsLast(Rewrite):
    """c = squeeze ∘ c' ∘ unsqueeze, with the channels of the plane last."""

    name = "use-planar-channels-last"
    pattern = Compose(Conv, when=_of_one_axis)
    gain = 0.0  # never without a clock
    sized = True
    realizes = True
    hope = 10.0

    def propose(self, c: Conv) -> Relaid:
        return Relaid(c, planar=True, channels_last=True)


@dataclass(frozen=True)
class UseChannelsLast(Rewrite):
    """c = c with its channels last: one wide convolution of a plane, the conversions around it included."""

    name = "use-channels-last"
    pattern = Compose(Conv, when=_wide)
    gain = 0.0
    sized = True
    realizes = True
    hope = 10.0

    def propose(self, c: Conv) -> Relaid:
        return Relaid(c, channels_last=True)
