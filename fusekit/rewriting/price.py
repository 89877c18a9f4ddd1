"""The cost of chains, sums and concatenations of maps.

The shapes are those of the example inputs; if they are unknown, nominal ones are used. Each map computes its own work
(`algebra/work.py`). The same functions price the present region and the proposal.
"""

import math
from collections.abc import Sequence
from functools import reduce

from fusekit.algebra import (
    FREE,
    Affine,
    Combination,
    Composition,
    Conv,
    Flatten,
    GlobalMean,
    Map,
    MergeLeading,
    Pad,
    Permute,
    Rates,
    Shape,
    Work,
)
from fusekit.algebra.combination import preimage
from fusekit.errors import Inapplicable

_NOMINAL = {0: (), 1: (4096,), 2: (56, 56), 3: (16, 28, 28)}


def work_of(value: Map | Combination, shapes: Sequence[Shape], itemsize: int, rates: Rates) -> Work:
    """The work of a map or combination on sources of these shapes. `itemsize`: bytes of one entry."""
    if isinstance(value, Combination):
        terms = (work_of(term.map, [shapes[term.source]], itemsize, rates) for term in value.terms)
        total = sum(terms, joint(value, shapes, itemsize) if len(value.terms) > 1 else FREE)
        return total + work_of(value.after, [value.joint_shape(*shapes)], itemsize, rates)
    return sum(work_of_chain(value.steps(), shapes[0], itemsize, rates), FREE)


def joint(value: Combination, shapes: Sequence[Shape], itemsize: int) -> Work:
    """The work of joining the branches. Each addition reads two tensors and writes one; a concatenation reads and
    writes everything once."""
    entries, count = math.prod(value.joint_shape(*shapes)), len(value.terms) - 1
    if value.axis is None:
        return Work(0, 3 * count * entries * itemsize, count)
    return Work(0, 2 * entries * itemsize, 1)


def work_of_chain(maps: tuple[Map, ...], shape: Shape, itemsize: int, rates: Rates) -> list[Work]:
    """The work of each map of outer ∘ ... ∘ inner, in the order given (outer first)."""
    works: list[Work] = []
    inner_first = maps[::-1]
    joined: Conv | None = None
    for value, outer in zip(inner_first, (*inner_first[1:], None), strict=False):
        value, joined = joined or value, _joined(outer, value, rates)
        works.append(FREE if joined else value.work(shape, itemsize, rates))
        shape = shape if joined else value.output_shape(shape)
    return works[::-1]


def _joined(outer: Map | None, inner: Map, rates: Rates) -> Conv | None:
    """outer @ inner, if `inner` is a pad that the runtime merges into the convolution after it; else None.

    A pad with different amounts on the two sides is always written as a separate operator (`ir/write.py`). If merging
    it lowered the price, the driver would merge it again and again and never end.
    """
    if not rates.pads_each_side or not isinstance(inner, Pad) or not isinstance(outer, Conv):
        return None
    try:
        joined = outer @ inner
    except Inapplicable:
        return None
    differs = any(low != high for low, high in joined.padding)
    return joined if differs and not joined.pads_first(rates) else None


def nominal_shape(maps: tuple[Map, ...], rank: int | None = None) -> Shape | None:
    """A plausible input shape for a chain (outer first) whose real one is unknown: batch 1 and a usual size, doubled
    until all windows fit. None if no map of the chain fixes the number of channels. `rank`: of the input, if known."""
    order, rest = behind_permutation(maps)
    if order is not None:
        behind = nominal_shape(rest, len(order.axes))
        fits = behind is not None and len(behind) == len(order.axes)
        return permuted_back(behind, order.axes) if behind is not None and fits else None
    rank = rank or rank_of(maps)
    maps = with_convs_before_flatten(maps)
    flat = flat_sizes(maps)
    for value in reversed(maps):
        conv = value.plain()
        if conv is not None:
            if flat is not None:
                return preimage(Composition((conv,)), (1, conv.in_channels, *flat), flat)
            shape = _usual(channels_read(maps[::-1], conv), conv.n, rank)
            spatial = len(shape) - conv.n
            while not _fits(maps, shape):
                shape = (*shape[:spatial], *(2 * size for size in shape[spatial:]))
            return shape
        if isinstance(value, Affine) and value.axis is not None and value.channels is not None:
            return _usual(value.channels, -value.axis - 1, rank)
    return None


def _usual(channels: int, n: int, rank: int | None) -> Shape:
    """One image, or one sequence of tokens for a linear layer: `n` axes behind the channels, of so many (`rank`)."""
    return (1, *(16,) * ((rank or n + 2) - n - 2), channels, *_NOMINAL[n])


def rank_of(maps: tuple[Map, ...]) -> int | None:
    """The number of axes of the input of a chain (outer first), if a permutation tells; None if there is none, or if
    something before it changes the number."""
    for value in reversed(maps):
        if isinstance(value, Permute):
            return len(value.axes)
        if isinstance(value, Flatten | MergeLeading | GlobalMean):
            return None
    return None


def channels_read(inner_first: tuple[Map, ...], conv: Conv) -> int:
    """How many channels a chain reads whose first convolution is this one: more or fewer, if some are picked before."""
    before = next(place for place, value in enumerate(inner_first) if value.plain() is not None)
    return reduce(lambda channels, value: value.channels_read(channels), inner_first[:before][::-1], conv.in_channels)


def behind_permutation(maps: tuple[Map, ...]) -> tuple[Permute | None, tuple[Map, ...]]:
    """The permutation that a chain (outer first) begins with, but for maps of each channel, and what stands behind it;
    None and the chain if it begins with another map."""
    before = next((k for k, value in enumerate(reversed(maps)) if not isinstance(value, Affine)), len(maps))
    first = maps[len(maps) - 1 - before] if before < len(maps) else None
    return (first, maps[: len(maps) - 1 - before]) if isinstance(first, Permute) else (None, maps)


def permuted_back(shape: Shape, axes: Shape) -> Shape:
    """The sizes before the axes were put in this order."""
    return tuple(shape[axes.index(axis)] for axis in range(len(axes)))


def with_convs_before_flatten(maps: tuple[Map, ...]) -> tuple[Map, ...]:
    """A chain (outer first) in which a map of each channel before a flattened linear layer is the convolution that it
    is: that tells the sizes."""
    if len(maps) < 3:
        return maps
    linear, flatten, affine = maps[-3:]
    if not (isinstance(linear, Conv) and isinstance(flatten, Flatten) and isinstance(affine, Affine)):
        return maps
    n = len(flatten.sizes or (1,)) if affine.axis is None else -affine.axis - 1
    channels = affine.channels or linear.in_channels // math.prod(flatten.sizes or (1,))
    return (*maps[:-1], Conv.from_affine(affine, n, channels, affine.scale.device))


def flat_sizes(maps: tuple[Map, ...]) -> Shape | None:
    """The spatial sizes before the flatten in a chain `linear ∘ flatten ∘ conv` (outer first). If only the number of
    positions is fixed, all of them on the last axis. None if there is no flatten."""
    for outer, value, inner in zip(maps, maps[1:], maps[2:], strict=False):
        if isinstance(value, Flatten) and isinstance(outer, Conv) and isinstance(inner, Conv):
            return value.sizes or (*(1,) * (inner.n - 1), outer.in_channels // inner.out_channels)
    return None


def nominal_shapes(whole: Combination, outer: tuple[Map, ...] = ()) -> list[Shape] | None:
    """Plausible shapes for the sources of a sum or concatenation whose real ones are unknown. `outer`: the maps applied
    after it. None if no branch fixes its number of channels."""
    chains = [nominal_shape(term.map.maps) for term in whole.terms]
    if not any(chains):
        return None
    channels = next((conv.in_channels for value in outer if (conv := value.plain()) is not None), None)
    return whole.source_shapes(max(shape for shape in chains if shape is not None), channels)


def _fits(maps: tuple[Map, ...], shape: Shape) -> bool:
    """Whether every map of the chain has a non-empty output."""
    for value in reversed(maps):
        shape = value.output_shape(shape)
        if any(size < 1 for size in shape[2:]):
            return False
    return True
