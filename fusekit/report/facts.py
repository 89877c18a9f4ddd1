"""What there is to tell of one operator, in words."""

from collections.abc import Sequence

from fusekit.report.drawing import Box


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
