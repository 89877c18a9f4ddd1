"""Maps as nodes of a file, one family a file, each valid for the file's version of the operators."""

from fusekit.algebra import Identity, Map, Split
from fusekit.grafting.emitters import moved, padded, weighted
from fusekit.grafting.sheet import Emitters, Place, Sheet

_EMITTERS: Emitters = {**moved.EMITTERS, **padded.EMITTERS, **weighted.EMITTERS}


def write(sheet: Sheet, value: Map, place: Place) -> None:
    """Nodes that compute a map that `has_form`."""
    _EMITTERS[type(value)].write(sheet, value, place)


def has_form(value: Map, opset: int) -> bool:
    """Whether a map can be written in this version of the operators. Parts of what is split are written by
    `graft.py`."""
    if isinstance(value, Split):
        value = value.conv
    emitter = _EMITTERS.get(type(value))
    return isinstance(value, Identity) or (emitter is not None and emitter.when(value, opset))
