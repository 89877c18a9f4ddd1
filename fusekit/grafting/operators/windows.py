"""Pads and means: what looks at several entries and knows no weights."""

import math
from functools import partial

from fusekit.algebra import AppendOnes, AvgPool, EdgePad, GlobalMean, Identity, Pad, ValuePad
from fusekit.algebra.map import Pairs
from fusekit.grafting.meaning import Known, Linear, Reader
from fusekit.grafting.operator_node import OperatorNode
from fusekit.grafting.operators.padding import fits

_EDGES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _pad(node: OperatorNode, known: Known) -> Linear | None:
    """A number, or what stands at the edge, on known axes; a channel of ones. Before opset 11 the amounts are an
    attribute."""
    source = node.input(0)
    rank = known.facts(source).rank
    pairs = _amounts(node, known, rank) if rank else None
    mode = node.word("mode", "constant")
    if pairs is None or not known.is_floating(source):
        return None
    if not any(low or high for low, high in pairs):
        return Linear(source, Identity)
    spatial = len(pairs) - 2
    if not 1 <= spatial <= 3:
        return None
    value = _value(node, known) if mode == "constant" else None
    if value == 1 and pairs == ((0, 0), (0, 1), *((0, 0),) * spatial):
        return Linear(source, partial(AppendOnes, spatial))
    if any(low or high for low, high in pairs[:2]):
        return None
    if value == 0:
        return Linear(source, partial(Pad, pairs[2:]))
    if any(low < 0 or high < 0 for low, high in pairs):
        return None
    if value is not None:
        return Linear(source, partial(ValuePad, pairs[2:], value)) if math.isfinite(value) else None
    return Linear(source, partial(EdgePad, _EDGES[mode], (pairs[2:],))) if mode in _EDGES else None


def _amounts(node: OperatorNode, known: Known, rank: int) -> Pairs | None:
    """A (low, high) pair for each axis of the value."""
    given = node.numbers("pads", []) if node.opset < 11 else known.constants.integers(node.input(1))
    axes = known.constants.integers(node.input(3)) if node.input(3) else list(range(rank))
    if given is None or axes is None or len(given) != 2 * len(axes):
        return None
    pairs = {axis % rank: (given[i], given[i + len(axes)]) for i, axis in enumerate(axes)}
    return tuple(pairs.get(axis, (0, 0)) for axis in range(rank)) if len(pairs) == len(axes) else None


def _value(node: OperatorNode, known: Known) -> float | None:
    """What is padded; None if it is not known."""
    if node.opset < 11:
        return float(node.number("value", 0.0))
    if not node.input(2):
        return 0.0
    value = known.constants.array(node.input(2))
    return float(value.reshape(())) if value is not None and value.size == 1 else None


def _is_whole(known: Known, source: str, window: list[int], stride: list[int], pads: list[int]) -> bool:
    """Whether no window sticks out, so that rounding the size up makes no difference."""
    n = len(window)
    sizes = (known.facts(source).shape or (None,) * (n + 2))[2:]
    axes = zip(sizes, window, stride, pads[:n], pads[n:], strict=True)
    return all(size is not None and (size + low + high - k) % s == 0 for size, k, s, low, high in axes)


def _average_pool(node: OperatorNode, known: Known) -> Linear | None:
    """Where the padding counts as zeros, is the same on both sides, and no window sticks out."""
    window = node.numbers("kernel_shape", [])
    n = len(window)
    stride = node.numbers("strides", [1] * n)
    pads = node.numbers("pads", [0] * 2 * n)
    way = node.word("auto_pad", "NOTSET")
    pads = [0] * 2 * n if way == "VALID" else pads
    if not 1 <= n <= 3 or way not in ("NOTSET", "VALID") or len(pads) != 2 * n or len(stride) != n:
        return None
    if node.number("ceil_mode", 0) and not _is_whole(known, node.input(0), window, stride, pads):
        return None
    if any(d != 1 for d in node.numbers("dilations", [1] * n)) or pads[:n] != pads[n:] or min(pads) < 0:
        return None
    if any(pads) and not node.number("count_include_pad", 0):
        return None
    if any(2 * pad > size for pad, size in zip(pads, window, strict=False)):
        return None  # torch has no such pool
    if not fits(known, node.input(0), window, tuple(zip(pads[:n], pads[n:], strict=True))):
        return None
    return Linear(node.input(0), partial(AvgPool, tuple(window), tuple(stride), tuple(pads[:n])))


def _global_average(node: OperatorNode, known: Known) -> Linear | None:
    rank = known.facts(node.input(0)).rank
    return Linear(node.input(0), partial(GlobalMean, rank - 2)) if rank is not None and 3 <= rank <= 5 else None


def _reduce_mean(node: OperatorNode, known: Known) -> Linear | None:
    """The mean over all positions, which stay with size 1 or go. From opset 18 on the axes are an input."""
    source = node.input(0)
    rank = known.facts(source).rank
    axes = node.numbers("axes", []) if node.opset < 18 else known.constants.integers(node.input(1))
    if rank is None or not 3 <= rank <= 5 or not axes or not known.is_floating(source):
        return None
    positions = {axis % rank for axis in axes}
    mean = partial(GlobalMean, rank - 2, bool(node.number("keepdims", 1)))
    return Linear(source, mean) if positions == set(range(2, rank)) else None


READERS: dict[str, Reader] = {
    "Pad": _pad,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average,
    "ReduceMean": _reduce_mean,
}
