"""The laws, in the order of their stages. One file is one family; a new one is listed here.

Knows the algebra and what a rewrite is. Must not know nodes, modules or runtimes.
"""

from fusekit.passes.drop_identity import DropIdentity
from fusekit.passes.find_structure import DropChannels, DropLinearChannels, FactorKernel, FindGroups, TrimWindow
from fusekit.passes.fold_affine import FoldAffine, FoldAffineIn, FoldAffines
from fusekit.passes.fold_blocks import FoldBlocks, ReadInterleaved
from fusekit.passes.fold_border import FoldAffineBorder, FoldConvBorder
from fusekit.passes.fold_constants import FoldConstants
from fusekit.passes.fold_conv import FoldConv
from fusekit.passes.fold_edge import FoldAffineEdge, FoldCircular, FoldConvEdge
from fusekit.passes.fold_nearest import FoldNearest, UpsampleLast, UpsampleLastAffine
from fusekit.passes.fold_pad import (
    FoldAffineValuePad,
    FoldConvValuePad,
    FoldCut,
    FoldCutIn,
    FoldPad,
    FoldPickingValuePad,
)
from fusekit.passes.fold_permuted import (
    FoldAffinePermuted,
    FoldAffinePermutedIn,
    FoldPermuted,
    FoldPermutes,
    UnfoldPermuted,
)
from fusekit.passes.fold_picking import FoldPicking, FoldPickingIn
from fusekit.passes.fold_pool import FoldPool, FoldPoolIn
from fusekit.passes.fold_rearrange import (
    FoldAffineFlattened,
    FoldAffineMerged,
    FoldAffineShuffled,
    FoldFlattened,
    FoldShuffled,
    MeanFirst,
    MeanFirstAffine,
    PoolFirst,
)
from fusekit.passes.fold_scale import FoldScale
from fusekit.passes.merge_concat import FoldConcat, MergeConcat, SplitAffine
from fusekit.passes.merge_parts import FoldParts, JoinParts, MergeParts
from fusekit.passes.merge_siblings import MergeSiblings
from fusekit.passes.merge_sum import MergeSum
from fusekit.passes.relay_conv import UseChannelsLast, UsePlanarChannelsLast, UsePlanarConv
from fusekit.passes.use_product import DropBlocks, MergeMixings, UseProduct
from fusekit.passes.use_spectral_conv import UseSpectralConv
from fusekit.passes.use_winograd import UseWinograd
from fusekit.rewriting import Rewrite, Stage

CANONICALIZE = "canonicalize"  # the stage of what makes no difference
CHOOSE = "choose"  # the stage of realizations: equal maps, computed in another way

# maps of each channel, through whatever moves or averages what they act on
_AFFINE = (
    *(FoldAffine(), FoldAffineIn(), FoldAffines(), FoldScale(), MeanFirstAffine(), PoolFirst()),
    *(FoldAffineFlattened(), FoldAffineMerged(), FoldAffinePermuted(), FoldAffinePermutedIn(), FoldAffineShuffled()),
    *(FoldAffineEdge(), FoldAffineValuePad(), UpsampleLastAffine()),
)
# what moves entries and computes nothing
_MOVES = (
    *(FoldPad(), FoldPickingValuePad(), FoldConvValuePad(), FoldCutIn(), FoldCut(), FoldPickingIn(), FoldPicking()),
    *(UnfoldPermuted(), FoldPermutes()),
)
_NEAR = (*_AFFINE, *_MOVES, MeanFirst())
_FAR = (
    FoldConv(),
    FoldPermuted(),
    FoldCircular(),
    FoldConvEdge(),
    FoldPool(),
    FoldPoolIn(),
    FoldShuffled(),
    FoldFlattened(),
    FoldBlocks(),
    UpsampleLast(),
)
_PARTS = (FoldParts(), MergeParts(), JoinParts())

STAGES: tuple[Stage, ...] = (
    Stage(CANONICALIZE, (DropIdentity(), FoldConstants())),
    # while the affine map is still there, with its formula: folded into weights, it is rounded
    Stage("fold-pads", (FoldAffineValuePad(),)),
    Stage("fold", _NEAR),
    # with nothing left between them, rows of convolutions are seen whole
    Stage("fold-rows", (*_FAR, *_NEAR)),
    # a merged sum or concatenation is a convolution again, with neighbours to fold
    Stage("merge", (*_PARTS, MergeSum(), FoldConcat(), MergeConcat(), SplitAffine(), *_NEAR, *_FAR)),
    # before anything is split: filters of zeros are of low rank too
    Stage("drop", (DropChannels(), DropLinearChannels())),
    Stage("structure", (TrimWindow(), FindGroups(), FactorKernel())),
    # what is transposed, or reads packed pixels, merges with little
    Stage("resample", (FoldNearest(), ReadInterleaved())),
    # last, because what has a ring folds no further
    Stage("fold-border", (FoldConvBorder(), FoldAffineBorder())),
    # what is handed out in parts is no row any more
    Stage("merge-siblings", (MergeSiblings(),)),
    Stage(
        CHOOSE,
        (
            *(UseProduct(), DropBlocks(), UseWinograd(), UseSpectralConv()),
            *(UsePlanarConv(), UsePlanarChannelsLast(), UseChannelsLast()),
        ),
        contest=True,
    ),
    # where two such layers meet
    Stage("mix", (MergeMixings(),)),
)

PASSES: dict[str, Rewrite] = {rewrite.name: rewrite for stage in STAGES for rewrite in stage.passes}

__all__ = [
    "CANONICALIZE",
    "CHOOSE",
    "PASSES",
    "STAGES",
    "DropBlocks",
    "DropChannels",
    "DropIdentity",
    "DropLinearChannels",
    "FactorKernel",
    "FindGroups",
    "FoldAffine",
    "FoldAffineBorder",
    "FoldAffineEdge",
    "FoldAffineFlattened",
    "FoldAffineIn",
    "FoldAffineMerged",
    "FoldAffinePermuted",
    "FoldAffinePermutedIn",
    "FoldAffineShuffled",
    "FoldAffineValuePad",
    "FoldAffines",
    "FoldBlocks",
    "FoldCircular",
    "FoldConcat",
    "FoldConstants",
    "FoldConv",
    "FoldConvBorder",
    "FoldConvEdge",
    "FoldConvValuePad",
    "FoldCut",
    "FoldCutIn",
    "FoldFlattened",
    "FoldNearest",
    "FoldPad",
    "FoldParts",
    "FoldPermuted",
    "FoldPermutes",
    "FoldPicking",
    "FoldPickingIn",
    "FoldPickingValuePad",
    "FoldPool",
    "FoldPoolIn",
    "FoldScale",
    "FoldShuffled",
    "JoinParts",
    "MeanFirst",
    "MeanFirstAffine",
    "MergeConcat",
    "MergeMixings",
    "MergeParts",
    "MergeSiblings",
    "MergeSum",
    "PoolFirst",
    "ReadInterleaved",
    "SplitAffine",
    "TrimWindow",
    "UnfoldPermuted",
    "UpsampleLast",
    "UpsampleLastAffine",
    "UseChannelsLast",
    "UsePlanarChannelsLast",
    "UsePlanarConv",
    "UseProduct",
    "UseSpectralConv",
    "UseWinograd",
]
