"""A convolution reads blocks of positions, or packed pixels, as they are.

    c ∘ S = Conv(stride r s)          S: space to depth, blocks of r × r positions as channels
    c ∘ P = c' ∘ I                    P: channels last to channels first; I: a plane of one channel, C numbers a pixel

Both save a copy of the input and compute the same products. The second is for the few channels of an image before the
first layer: with a vector full of them the convolution itself is slower so.
"""

from dataclasses import dataclass

from fusekit.algebra import Composition, Conv, Interleaved, Permute, SpaceToDepth
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


@dataclass(frozen=True)
class FoldBlocks(Rewrite):
    """c ∘ S = Conv(stride r s)."""

    name = "fold-blocks"
    pattern = Compose(Conv, SpaceToDepth)

    def propose(self, c: Conv, blocks: SpaceToDepth) -> Conv:
        return c @ blocks


@dataclass(frozen=True)
class ReadInterleaved(Rewrite):
    """c ∘ P = c' ∘ I."""

    name = "read-interleaved"
    pattern = Compose(Conv, Permute)

    def propose(self, c: Conv, order: Permute) -> Composition:
        row = Interleaved(len(order.axes) - 2)
        return Composition((row.absorbed(c, order), row))
