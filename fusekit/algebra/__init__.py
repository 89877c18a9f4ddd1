"""Values with laws: `outer @ inner` composes, `a + b` adds pointwise, `concat` stacks outputs. They know torch tensors
and nothing of graphs; a law that does not hold here raises `Inapplicable`.

Knows tensors and shapes. Must not know graphs, layers, or runtimes.
"""

from fusekit.algebra.affine import Affine
from fusekit.algebra.bordered import BorderedConv
from fusekit.algebra.chain import Chain
from fusekit.algebra.choice import Choice
from fusekit.algebra.combination import Combination, Term
from fusekit.algebra.composition import Composition
from fusekit.algebra.conv import Conv, concat
from fusekit.algebra.cut import Cut
from fusekit.algebra.edge import EdgePad
from fusekit.algebra.elementwise import Elementwise
from fusekit.algebra.fork import Fork, Split
from fusekit.algebra.interleaved import Interleaved
from fusekit.algebra.layout import Relaid
from fusekit.algebra.map import Map, Shape, Sizes
from fusekit.algebra.nearest import Nearest
from fusekit.algebra.normalization import Normalization
from fusekit.algebra.ones import AppendOnes
from fusekit.algebra.pad import Pad, ValuePad
from fusekit.algebra.picking import Picking
from fusekit.algebra.pool import AvgPool
from fusekit.algebra.products.hypercomplex import (
    COMPLEX,
    DUAL,
    DUAL_QUATERNION,
    OCTONION,
    QUATERNION,
    REAL,
    SPLIT_COMPLEX,
    SPLIT_QUATERNION,
    HypercomplexAlgebra,
)
from fusekit.algebra.products.mixing import GroupedLinear, Mixing
from fusekit.algebra.products.winograd_conv import WinogradConv
from fusekit.algebra.rearrange import Flatten, GlobalMean, MergeLeading, Permute, PixelShuffle, SpaceToDepth
from fusekit.algebra.selection import Selection
from fusekit.algebra.span import Span
from fusekit.algebra.transforms.spectral_conv import SpectralConv
from fusekit.algebra.trivial import Constant, Identity
from fusekit.algebra.windowed import Windowed
from fusekit.algebra.work import EAGER, FREE, Rates, Work

__all__ = [
    "COMPLEX",
    "DUAL",
    "DUAL_QUATERNION",
    "EAGER",
    "FREE",
    "OCTONION",
    "QUATERNION",
    "REAL",
    "SPLIT_COMPLEX",
    "SPLIT_QUATERNION",
    "Affine",
    "AppendOnes",
    "AvgPool",
    "BorderedConv",
    "Chain",
    "Choice",
    "Combination",
    "Composition",
    "Constant",
    "Conv",
    "Cut",
    "EdgePad",
    "Elementwise",
    "Flatten",
    "Fork",
    "GlobalMean",
    "GroupedLinear",
    "HypercomplexAlgebra",
    "Identity",
    "Interleaved",
    "Map",
    "MergeLeading",
    "Mixing",
    "Nearest",
    "Normalization",
    "Pad",
    "Permute",
    "Picking",
    "PixelShuffle",
    "Rates",
    "Relaid",
    "Selection",
    "Shape",
    "Sizes",
    "SpaceToDepth",
    "Span",
    "SpectralConv",
    "Split",
    "Term",
    "ValuePad",
    "Windowed",
    "WinogradConv",
    "Work",
    "concat",
]
