"""The laws, in the order of their stages. One file is one family; a new one is listed here."""

from fusekit.passes.drop_identity import DropIdentity
from fusekit.passes.find_structure import FindGroups, TrimWindow
from fusekit.passes.fold_affine import FoldAffine, FoldAffineIn
from fusekit.passes.fold_border import FoldAffineRing, FoldConvRing
from fusekit.passes.fold_constants import FoldConstants
from fusekit.passes.fold_conv import FoldConv
from fusekit.passes.fold_pad import FoldPad
from fusekit.passes.fold_pool import FoldPool, FoldPoolIn
from fusekit.passes.fold_rearrange import FoldAffineShuffled, FoldFlattened, FoldShuffled, MeanFirst
from fusekit.passes.merge_concat import MergeConcat, SplitAffine
from fusekit.passes.merge_sum import MergeSum
from fusekit.passes.use_spectral_conv import UseSpectralConv
from fusekit.rewrite import Rewrite, Stage

CHOOSE = "choose"  # the stage of realizations: equal maps, computed in another way

_FOLD = (
    *(FoldAffine(), FoldAffineIn(), FoldPad(), FoldConv(), FoldPool(), FoldPoolIn()),
    *(FoldShuffled(), FoldAffineShuffled(), MeanFirst(), FoldFlattened()),
)

STAGES: tuple[Stage, ...] = (
    Stage("canonicalize", (DropIdentity(), FoldConstants())),
    Stage("fold", _FOLD),
    # a merged sum or concatenation is a convolution again, with neighbours to fold
    Stage("merge", (MergeSum(), MergeConcat(), SplitAffine(), *_FOLD)),
    Stage("structure", (TrimWindow(), FindGroups())),
    # last, because what has a ring folds no further
    Stage("fold-border", (FoldConvRing(), FoldAffineRing())),
    Stage(CHOOSE, (UseSpectralConv(),)),
)

PASSES: dict[str, Rewrite] = {rewrite.name: rewrite for stage in STAGES for rewrite in stage.passes}

__all__ = [
    "CHOOSE",
    "PASSES",
    "STAGES",
    "DropIdentity",
    "FindGroups",
    "FoldAffine",
    "FoldAffineIn",
    "FoldAffineRing",
    "FoldAffineShuffled",
    "FoldConstants",
    "FoldConv",
    "FoldConvRing",
    "FoldFlattened",
    "FoldPad",
    "FoldPool",
    "FoldPoolIn",
    "FoldShuffled",
    "MeanFirst",
    "MergeConcat",
    "MergeSum",
    "SplitAffine",
    "TrimWindow",
    "UseSpectralConv",
]
