"""Pads as nodes: of zeros, of a value, of what stands at the edge, of a channel of ones. A pad that only crops is a
slice."""

from collections.abc import Sequence

import torch

from fusekit.algebra import AppendOnes, Cut, EdgePad, Pad, ValuePad
from fusekit.grafting.emitters.moved import write_cut
from fusekit.grafting.sheet import Emitter, Emitters, Place, Sheet

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
WRAPS = 19  # the first opset that pads in a circle


def _padded(sheet: Sheet, place: Place, pairs: Sequence[tuple[int, int]], mode: str, value: float = 0.0) -> None:
    """`pairs`: (low, high) of each of the last axes. Before opset 11 the amounts are an attribute."""
    assert place.rank is not None
    lows, highs = zip(*((0, 0),) * (place.rank - len(pairs)), *pairs, strict=True)
    if sheet.opset < 11:
        sheet.node("Pad", [place.source], [place.output], place.path, mode=mode, pads=[*lows, *highs], value=value)
        return
    inputs = [place.source, sheet.integers((*lows, *highs), f"{place.path}.pads")]
    if value:
        inputs.append(sheet.constant(torch.tensor(value, dtype=place.dtype), f"{place.path}.value"))
    sheet.node("Pad", inputs, [place.output], place.path, mode=mode)


def _pad(sheet: Sheet, pad: Pad, place: Place) -> None:
    if all(low <= 0 and high <= 0 for low, high in pad.padding):
        write_cut(sheet, Cut(tuple((-low, -high) for low, high in pad.padding), (1,) * len(pad.padding)), place)
        return
    _padded(sheet, place, pad.padding, "constant")


def _value_pad(sheet: Sheet, pad: ValuePad, place: Place) -> None:
    _padded(sheet, place, pad.padding, "constant", float(pad.value))


def _edge_pad(sheet: Sheet, pad: EdgePad, place: Place) -> None:
    _padded(sheet, place, pad.padding, MODES[pad.mode])


def _is_one_pad(pad: EdgePad, opset: int) -> bool:
    """Several stages repeat what earlier ones have put there, of which runtimes make different things."""
    return len(pad.stages) == 1 and (pad.mode != "circular" or opset >= WRAPS)


def _ones(sheet: Sheet, ones: AppendOnes, place: Place) -> None:
    _padded(sheet, place, ((0, 1), *((0, 0),) * ones.n), "constant", 1.0)


EMITTERS: Emitters = {
    AppendOnes: Emitter(_ones),
    EdgePad: Emitter(_edge_pad, _is_one_pad),
    Pad: Emitter(_pad),
    ValuePad: Emitter(_value_pad, lambda pad, opset: isinstance(pad.value, float | int)),
}
