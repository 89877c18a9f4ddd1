"""The drawings of a report as the picture of its page."""

import re
from collections.abc import Mapping, Sequence

from fusekit.page import Picture, PicturedBox, PicturedEvent
from fusekit.report.drawing import Box, Drawing
from fusekit.report.event import Event
from fusekit.report.regions import regions


def pictured(drawings: tuple[Drawing, Drawing], events: Sequence[Event], laws: Mapping[str, str]) -> Picture:
    """Both graphs with their regions, and the events at their boxes."""
    before, after = drawings
    found = regions(before, after, events)
    places = {box.id: number for number, box in enumerate(before.boxes)}
    shown = []
    for event in events:
        boxes = tuple(places[name] for name in event.region if name in places)
        if boxes:
            error = "" if event.error is None else f"{event.error:.1e}"
            change = " → ".join(event.change)
            words = (event.rewrite, str(event.outcome), change, typeset(event.price), error, event.reason)
            shown.append(PicturedEvent(*words, boxes))
    return Picture(
        _boxes(before, found.before, {}),
        _boxes(after, found.after, places),
        tuple(shown),
        {event.rewrite: laws.get(event.rewrite, "") for event in shown},
        (before.hidden, after.hidden),
    )


def _boxes(drawing: Drawing, region: Mapping[str, int], origins: Mapping[str, int]) -> tuple[PicturedBox, ...]:
    places = {box.id: number for number, box in enumerate(drawing.boxes)}
    return tuple(
        PicturedBox(
            box.operator.strip("_"),
            box.where,
            tuple(places[name] for name in box.inputs if name in places),
            region.get(box.id, -1),
            tuple(origins[name] for name in box.origins if name in origins),
            facts_of(box),
        )
        for box in drawing.boxes
    )


def facts_of(box: Box) -> tuple[tuple[str, str], ...]:
    """What there is to tell of a box: its geometry, its size, its receptive field."""
    padding = [str(low) if low == high else f"{low}+{high}" for low, high in box.padding]
    told = {
        "kernel": sizes(box.window),
        "stride": sizes(box.stride),
        "padding": "×".join(padding) if len(set(padding)) > 1 else "".join(padding[:1]),
        "dilation": sizes(box.dilation),
        "groups": str(box.groups) if box.groups > 1 else "",
        "channels": " → ".join(map(str, box.channels)),
        "output": "" if box.shape is None else "×".join(map(str, box.shape)),
        "parameters": f"{box.parameters:,}" if box.parameters else "",
        "MACs": f"{box.macs:,}" if box.macs else "",
        "receptive field": "" if box.field is None else sizes(box.field),
    }
    return tuple((name, text) for name, text in told.items() if text)


def sizes(values: Sequence[int]) -> str:
    """3×3"""
    return "×".join(map(str, values))


def typeset(text: str) -> str:
    """Arrows and times signs as on paper."""
    return re.sub(r"\bx(?=\d)|(?<=\d)x(?= )", "×", text.replace("->", "→"))
