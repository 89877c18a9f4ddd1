"""The drawings of a report as the picture of its page."""

import re
from collections.abc import Mapping, Sequence

from fusekit.page import Picture, PicturedBox, PicturedEvent
from fusekit.report.drawing import Drawing
from fusekit.report.event import Event
from fusekit.report.facts import facts_of
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
        boxes_of(before, found.before, {}),
        boxes_of(after, found.after, places),
        tuple(shown),
        {event.rewrite: laws.get(event.rewrite, "") for event in shown},
        (before.hidden, after.hidden),
    )


def boxes_of(drawing: Drawing, region: Mapping[str, int], origins: Mapping[str, int]) -> tuple[PicturedBox, ...]:
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


def typeset(text: str) -> str:
    """Arrows and times signs as on paper."""
    return re.sub(r"\bx(?=\d)|(?<=\d)x(?= )", "×", text.replace("->", "→"))
