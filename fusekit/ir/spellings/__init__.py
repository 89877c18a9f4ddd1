"""How maps stand in a graph, one file a kind: written as nodes, read from them, emitted as layers.

The only files that know the arguments of operators. A kind of map that is added is a file here and a name in this
list; one that lives elsewhere is added by `SPELLINGS.add`.
"""

from fusekit.ir.spellings import (
    arithmetic,
    batch_norm,
    bordered,
    conv,
    elementwise,
    mixing,
    normalization,
    pads,
    picks,
    rearranged,
    relaid,
    slices,
    spectral,
    winograd,
)
from fusekit.ir.spellings.table import Layer, Spelling, Table

__all__ = ["SPELLINGS", "Layer", "Spelling", "Table"]

SPELLINGS = Table(
    arithmetic.SPELLING,
    batch_norm.SPELLING,
    bordered.SPELLING,
    conv.SPELLING,
    elementwise.SPELLING,
    mixing.SPELLING,
    normalization.SPELLING,
    pads.SPELLING,
    picks.SPELLING,
    rearranged.SPELLING,
    relaid.SPELLING,
    slices.SPELLING,
    spectral.SPELLING,
    winograd.SPELLING,
)
