"""Values put together, and parts taken from them."""

from functools import partial

import torch

from fusekit.algebra import Identity, Picking
from fusekit.grafting.meaning import Called, Known, Linear, Meaning, Reader, Value
from fusekit.grafting.operator_node import OperatorNode

aten = torch.ops.aten


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


def _slice(node: OperatorNode, known: Known) -> Called | None:
    """A range along one axis. Before opset 10 it is given by attributes."""
    source = node.input(0)
    if node.opset < 10:
        starts, ends = node.numbers("starts", []), node.numbers("ends", [])
        axes, steps = node.numbers("axes", list(range(len(starts)))), [1] * len(starts)
    else:
        found = [known.constants.integers(name) if name else [] for name in (node.input(i) for i in range(1, 5))]
        if any(each is None for each in found):
            return None
        starts, ends, axes, steps = (each or [] for each in found)
        axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    one = len(starts) == len(ends) == len(axes) == len(steps) == 1 and steps[0] == 1
    if not one or not known.is_floating(source) or known.facts(source).rank is None:
        return None
    return Called(aten.slice.Tensor, (Value(source), axes[0], starts[0], ends[0]))


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
