"""Find exact structure in stored weights.

    K with zero edges        = a smaller window
    K block-diagonal         = a grouped convolution
    K of low rank            = two convolutions, by channels or by axes of the window
    channels without effect  = fewer channels

Masked and pruned kernels, directional filters, blurs and interpolations, kernels merged from sparse or narrow branches:
nothing tells from outside that they are larger than they need to be. Where there is no such structure nothing is
reported.
"""

from dataclasses import dataclass

from fusekit.algebra import Choice, Composition, Conv, Elementwise
from fusekit.algebra.dead import without_dead_channels
from fusekit.algebra.factor import factored
from fusekit.algebra.structure import grouped, trimmed
from fusekit.errors import Inapplicable
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose, Having


@dataclass(frozen=True)
class TrimWindow(Rewrite):
    """K with zeros along an edge of its window = the kernel without them, and less padding."""

    name = "trim-window"
    pattern = Having(Conv, trimmed)
    by_value = True

    def propose(self, c: Conv) -> Conv:
        return trimmed(c)


@dataclass(frozen=True)
class FindGroups(Rewrite):
    """K block-diagonal in its channels = as many groups."""

    name = "find-groups"
    pattern = Having(Conv, grouped)
    by_value = True

    def propose(self, c: Conv) -> Conv:
        return grouped(c)


@dataclass(frozen=True)
class FactorKernel(Rewrite):
    """K = B·A of exactly low rank = two convolutions with fewer weights."""

    name = "factor-kernel"
    pattern = Having(Conv, factored)
    by_value = True
    gain = 0.8  # two passes over the data where there was one

    def propose(self, c: Conv) -> Choice:
        return factored(c)


def _has_dead_channels(outer: Conv, *inner: Conv | Elementwise) -> bool:
    try:
        _without_dead(outer, *inner)
    except Inapplicable:
        return False
    return True


def _without_dead(outer: Conv, *inner: Conv | Elementwise) -> Composition:
    between = inner[0] if isinstance(inner[0], Elementwise) else None
    last = inner[-1]
    assert isinstance(last, Conv)
    return without_dead_channels(outer, between, last)


@dataclass(frozen=True)
class DropChannels(Rewrite):
    """c2 ∘ f ∘ c1 = c2' ∘ f ∘ c1' without the channels that nothing depends on."""

    name = "drop-channels"
    pattern = Compose(Conv, Elementwise, Conv, when=_has_dead_channels)
    by_value = True

    def propose(self, outer: Conv, f: Elementwise, inner: Conv) -> Composition:
        return without_dead_channels(outer, f, inner)


@dataclass(frozen=True)
class DropLinearChannels(Rewrite):
    """c2 ∘ c1 = c2' ∘ c1' without the channels that nothing depends on."""

    name = "drop-linear-channels"
    pattern = Compose(Conv, Conv, when=_has_dead_channels)
    by_value = True

    def propose(self, outer: Conv, inner: Conv) -> Composition:
        return without_dead_channels(outer, None, inner)
