"""Find exact structure in stored weights.

    K with zero edges        = a smaller window
    K block-diagonal         = a grouped convolution

Masked and pruned kernels, directional filters, kernels merged from sparse branches: nothing tells from outside that
they are larger than they need to be. Where there is no such structure nothing is reported.
"""

from dataclasses import dataclass

from fusekit.algebra import Conv
from fusekit.algebra.structure import grouped, trimmed
from fusekit.pattern import Having
from fusekit.rewrite import Rewrite


@dataclass(frozen=True)
class TrimWindow(Rewrite):
    """K with zeros along an edge of its window = the kernel without them, and less padding."""

    name = "trim-window"
    pattern = Having(Conv, trimmed)

    def propose(self, c: Conv) -> Conv:
        return trimmed(c)


@dataclass(frozen=True)
class FindGroups(Rewrite):
    """K block-diagonal in its channels = as many groups."""

    name = "find-groups"
    pattern = Having(Conv, grouped)

    def propose(self, c: Conv) -> Conv:
        return grouped(c)
