"""The laws, in the order of their stages. One file is one family; a new one is listed here."""

from fusekit.passes.drop_identity import DropIdentity
from fusekit.passes.fold_affine import FoldAffine, FoldAffineIn
from fusekit.passes.fold_border import FoldAffineRing, FoldConvRing
from fusekit.passes.fold_constants import FoldConstants
from fusekit.passes.fold_conv import FoldConv
from fusekit.passes.fold_pad import FoldPad
from fusekit.passes.merge_concat import MergeConcat, SplitAffine
from fusekit.passes.merge_sum import MergeSum
from fusekit.rewrite import Rewrite, Stage

STAGES: tuple[Stage, ...] = (
    Stage("canonicalize", (DropIdentity(), FoldConstants())),
    Stage("fold", (FoldAffine(), FoldAffineIn(), FoldPad(), FoldConv())),
    Stage("merge", (MergeSum(), MergeConcat(), SplitAffine(), FoldAffine(), FoldAffineIn(), FoldPad(), FoldConv())),
    Stage("fold-border", (FoldConvRing(), FoldAffineRing())),
)

PASSES: dict[str, Rewrite] = {rewrite.name: rewrite for stage in STAGES for rewrite in stage.passes}

__all__ = [
    "PASSES",
    "STAGES",
    "DropIdentity",
    "FoldAffine",
    "FoldAffineIn",
    "FoldAffineRing",
    "FoldConstants",
    "FoldConv",
    "FoldConvRing",
    "FoldPad",
    "MergeConcat",
    "MergeSum",
    "SplitAffine",
]
