"""Values with laws: `outer @ inner` composes, `a + b` adds pointwise, `concat` stacks outputs. They know torch tensors
and nothing of graphs; a law that does not hold here raises `Inapplicable`."""

from fusekit.algebra.affine import Affine
from fusekit.algebra.bordered import BorderedConv
from fusekit.algebra.combination import Combination, Composition, Term
from fusekit.algebra.conv import Conv, concat
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.pad import Pad
from fusekit.algebra.pool import AvgPool
from fusekit.algebra.rearrange import Flatten, GlobalMean, PixelShuffle
from fusekit.algebra.spectral_conv import SpectralConv
from fusekit.algebra.trivial import Constant, Identity

__all__ = [
    "Affine",
    "AvgPool",
    "BorderedConv",
    "Combination",
    "Composition",
    "Constant",
    "Conv",
    "Flatten",
    "GlobalMean",
    "Identity",
    "Map",
    "Pad",
    "PixelShuffle",
    "Shape",
    "SpectralConv",
    "Term",
    "concat",
]
