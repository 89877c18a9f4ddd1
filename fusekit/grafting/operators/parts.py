"""Values put together, and parts taken from them."""

import sys
from functools import partial

import torch

from fusekit.algebra import Cut, Identity, Picking
from fusekit.grafting.meaning import Called, Known, Linear, Meaning, Reader, Value
from fusekit.grafting.operator_node import OperatorNode

aten = torch.ops.aten

_NO_END = (1 << 31) - 1  # files that leave out nothing behind say so, or a number that is larger still


def _concat(node: OperatorNode, known: Known) -> Meaning | None:
    ranks = {known.facts(name).rank for name in node.inputs}
    if len(ranks) != 1 or None in ranks or not all(known.is_floating(name) for name in node.inputs):
        return None
    if any(name in known.constants for name in node.inputs) or not node.has("axis"):
        return None
    if len(node.inputs) == 1:
        return Linear(node.input(0), Identity)
    return Called(aten.cat.default, ([Value(name) for name in node.inputs], int(node.number("axis", 0))))


def _split(node: OperatorNode, known: Known) -> Called | None:
    """Into parts of known sizes. Before opset 13 they are an attribute; where none are given the parts are equal, the
    last one smaller from opset 18 on."""
    source = node.input(0)
    facts, axis = known.facts(source), int(node.number("axis", 0))
    count = len(node.proto.output)
    sizes = node.numbers("split", []) if node.opset < 13 else known.constants.integers(node.input(1))
    if facts.rank is None or not known.is_floating(source) or "" in node.proto.output:
        return None
    if not node.input(1) and not node.has("split"):
        total = facts.size(axis if axis < 0 else axis - facts.rank)
        part = -(-total // count) if total else 0
        sizes = [min(part, total - start) for start in range(0, total or 0, part or 1)] if total else None
    if not sizes or len(sizes) != count or count < 2:
        return None
    return Called(aten.split_with_sizes.default, (Value(source), sizes, axis))


def _slice(node: OperatorNode, known: Known) -> Meaning | None:
    """Ranges, given by attributes before opset 10. Bounds that count from the left are told from the right where the
    size is known: so one range is part of a tensor or a crop of it, whoever reads it; several, or steps, are a crop."""
    source = node.input(0)
    facts, found = known.facts(source), _ranges(node, known)
    if found is None or facts.rank is None or not known.is_floating(source):
        return None
    if not all(-facts.rank <= axis < facts.rank and step > 0 for axis, _, _, step in found):
        return None
    whole = [(axis % facts.rank - facts.rank, *bounds) for axis, *bounds in found]
    cut = {axis: (*_from_the_ends(start, end, facts.size(axis)), step) for axis, start, end, step in whole}
    if len(cut) < len(found):
        return None
    if len(cut) == 1:
        axis, start, end, step = whole[0]
        low, high, _ = cut[axis]
        if step == 1:
            bounds = (low, -high or sys.maxsize) if low is not None and high is not None else (start, end)
            return Called(aten.slice.Tensor, (Value(source), axis, *bounds))
    spatial = range(2 - facts.rank, 0)
    crops = [cut.get(axis, (0, 0, 1)) for axis in spatial]
    if not set(cut) <= set(spatial) or any(low is None or high is None for low, high, _ in crops):
        return None
    pairs = tuple((low or 0, high or 0) for low, high, _ in crops)
    return Linear(source, partial(Cut, pairs, tuple(step for *_, step in crops)))


def _ranges(node: OperatorNode, known: Known) -> list[tuple[int, int, int, int]] | None:
    """(axis, start, end, step) of each range; None if one is computed from inputs."""
    if node.opset < 10:
        starts, ends = node.numbers("starts", []), node.numbers("ends", [])
        axes, steps = node.numbers("axes", list(range(len(starts)))), [1] * len(starts)
    else:
        found = [known.constants.integers(name) if name else [] for name in (node.input(i) for i in range(1, 5))]
        if any(each is None for each in found):
            return None
        starts, ends, axes, steps = (each or [] for each in found)
        axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    return list(zip(axes, starts, ends, steps, strict=True)) if starts else None


def _from_the_ends(start: int, end: int, size: int | None) -> tuple[int | None, int | None]:
    """How much a range leaves out before and behind it; None where that hangs on a size that is not known, and where
    nothing is left."""
    if size is None:
        low = start if start >= 0 else None
        return low, 0 if end >= _NO_END else -end if end < 0 else None
    first, last = (max(0, min(size, bound + size if bound < 0 else bound)) for bound in (start, end))
    return (first, size - last) if first < last else (None, None)


def _gather(node: OperatorNode, known: Known) -> Linear | None:
    """Channels in an order that is given."""
    source = node.input(0)
    facts, order = known.facts(source), known.constants.array(node.input(1))
    if facts.rank is None or not 3 <= facts.rank <= 5 or int(node.number("axis", 0)) % facts.rank != 1:
        return None
    total = facts.size(1 - facts.rank)
    if not total or order is None or order.ndim != 1 or not order.size or not known.is_floating(source):
        return None
    if order.min() < -total or order.max() >= total:
        return None
    return Linear(source, partial(Picking, tuple(int(i) % total for i in order), total, facts.rank - 2))


READERS: dict[str, Reader] = {"Gather": _gather, "Concat": _concat, "Split": _split, "Slice": _slice}
