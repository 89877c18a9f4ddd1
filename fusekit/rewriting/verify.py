"""Compares a region with its proposal, in float64.

Both sides are affine in their input. If they differ, they differ on a Gaussian input with probability 1, so one probe
for each size is enough. A difference may show only at some sizes, so several are tried: odd and even ones, all
remainders of the stride up to four, each larger than the whole window and its border ring. An error of 1e-9 in one
kernel tap gives a relative error of 2e-9, far above the rounding noise of 1e-13; float32 could not show it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from fusekit.algebra import Affine, Combination, Composition, Conv, Map, Mixing, Picking, Shape
from fusekit.algebra.combination import preimage
from fusekit.algebra.span import POINT
from fusekit.algebra.values import wide
from fusekit.ir import Graph, evaluate
from fusekit.model.long_convolution import LongConvolutions
from fusekit.rewriting.price import (
    behind_permutation,
    channels_read,
    flat_sizes,
    permuted_back,
    rank_of,
    with_convs_before_flatten,
)

TOLERANCE = 1e-10
AFFORDABLE = 2_000_000
AFFORDABLE_FOR_PLANS = 300_000_000  # for FFT plans, which depend on the size: the real size is checked, about 0.1 s


def region_error(
    graph: Graph,
    old: Sequence[fx.Node],
    new: Sequence[fx.Node],
    sources: Sequence[fx.Node],
    probes: Sequence[Sequence[Shape]],
    count: int = 1,
) -> float:
    """The largest relative error of the last `count` values of `new` against those of `old`.

    `probes`: each one gives a shape for every source. An empty `new` stands for the first source itself.
    """
    constants = _wide_constants(graph, (*old, *new))
    dtype = next((v.dtype for v in constants.values() if v.is_floating_point() or v.is_complex()), torch.float64)
    generator = torch.Generator().manual_seed(len(old))
    worst = 0.0
    for shapes in probes:
        inputs = {
            source: torch.randn(shape, generator=generator, dtype=dtype)
            for source, shape in zip(sources, shapes, strict=True)
        }
        values = {**inputs, **constants}  # a source may be a constant itself
        with LongConvolutions():
            expected = evaluate(graph, old, values)
            given = evaluate(graph, new, values) if new else values
        for theirs, ours in zip(old[-count:], new[-count:] or sources[:1], strict=True):
            worst = max(worst, relative_error(given[ours], expected[theirs]))
    return worst


def constant_error(graph: Graph, old: Sequence[fx.Node], new: fx.Node) -> float:
    """0 if the constant equals the expression, evaluated again in its own dtype, bit by bit; else infinity."""
    expected, given = evaluate(graph, old, {})[old[-1]], graph.constants[str(new.target)]
    same = given.dtype == expected.dtype and torch.equal(given.nan_to_num(), expected.nan_to_num())
    return 0.0 if same else float("inf")


def relative_error(given: Tensor, expected: Tensor) -> float:
    """||given - expected|| / ||expected||; infinity if the shapes differ or the result is not finite."""
    if given.shape != expected.shape:
        return float("inf")
    scale = float(torch.linalg.vector_norm(expected))
    difference = float(torch.linalg.vector_norm(given - expected))
    error = difference / scale if scale else difference
    return error if math.isfinite(error) else math.inf


def _wide_constants(graph: Graph, nodes: Sequence[fx.Node]) -> dict[fx.Node, Tensor]:
    sources = {source for node in nodes for source in node.all_input_nodes if source.op == "get_attr"}
    values = {source: graph.constants[str(source.target)].detach().cpu() for source in sources}
    numbers = {source: value.is_floating_point() or value.is_complex() for source, value in values.items()}
    return {source: wide(value) if numbers[source] else value for source, value in values.items()}  # an index stays one


def probe_shapes(
    maps: tuple[Map, ...], rank: int | None, real: Shape | None, affordable: int = AFFORDABLE
) -> list[Shape]:
    """Input shapes for a chain of maps (outer first), of the given rank. The real input shape is included if the chain
    needs at most `affordable` multiply-accumulates for it."""
    maps = with_convs_before_flatten(maps)
    inner_first = maps[::-1]
    order, rest = behind_permutation(maps)
    if order is not None:
        behind = probe_shapes(rest, len(order.axes), None) if rest else [tuple(range(2, 2 + len(order.axes)))]
        return [permuted_back(shape, order.axes) for shape in behind]
    rank = rank or rank_of(maps)
    conv: Conv | None = next((plain for m in inner_first if (plain := m.plain()) is not None), None)
    if isinstance(inner_first[0], Mixing):
        return _mixed_shapes(inner_first[0])
    if conv is None:
        channels = next((m.axis for m in inner_first if isinstance(m, Affine) and m.axis is not None), None)
        if channels is not None:
            rank = rank or 1 - channels  # a norm takes the axis behind the batch
        rank = rank or next((len(span.reach) + 2 for m in maps if (span := m.span() or POINT).reach), 5)
        further = (2,) * rank  # for as many axes as there may be
        given = ((2, 3, 4, 5, 6), (1, 2, 3, 4, 5), (3, 2, 4, 4, 4))
        return [_fitting(inner_first, (*shape, *further)[:rank]) for shape in given]
    if conv.n == 0:
        leading: tuple[Shape, ...] = ((2, 3, 4, 2), (1, 2, 3, 2), (5, 1, 2, 3))
        return [(*batch[: (rank or 2 + k % 2) - 1], conv.in_channels) for k, batch in enumerate(leading)]
    flat = _flattened_sizes(maps, conv)
    if flat is not None:
        return [(1 + k % 2, conv.in_channels, *spatial) for k, spatial in enumerate(flat)]
    smallest = [_smallest(inner_first, axis) for axis in range(-conv.n, 0)]
    residues = min(4, max(3, *(stride for _, stride in smallest)))
    block = math.prod(value.block() for value in inner_first)
    shapes = []
    for k in range(residues):
        spatial = (block * (-(-size // block) + (k + axis) % residues) for axis, (size, _) in enumerate(smallest))
        batch = () if rank == conv.n + 1 else (2 if k == 0 else 1,)
        shapes.append((*batch, channels_read(inner_first, conv), *spatial))
    whole = real is not None and not any(size % block for size in real[-conv.n :])
    if real is not None and whole and sum(m.macs(real) for m in maps) <= affordable:
        shapes.append(real)
    return shapes


def _fitting(maps: tuple[Map, ...], shape: Shape) -> Shape:
    """The shape with as many entries as the maps of each channel, inner first, have where they act."""
    sizes = list(shape)
    for value in maps:
        if isinstance(value, Affine) and value.axis is not None:
            sizes[value.axis] = int(value.scale.shape[0])
            break
        if isinstance(value, Picking):
            sizes[value.channel_axis] = value.total
            break
    return tuple(sizes)


def _mixed_shapes(mixing: Mixing) -> list[Shape]:
    """Input shapes for a mixing. A bias fixes the number of channels in a block; without one, several are tried."""
    out, inputs = mixing.matrix.shape
    channels = [1, 2, 3] if mixing.bias is None else [len(mixing.bias) // out] * 3
    return [(3 - k, inputs * c, *(2 + (k + i) % 3 for i in range(mixing.n))) for k, c in enumerate(channels)]


def _flattened_sizes(maps: tuple[Map, ...], conv: Conv) -> list[Shape] | None:
    """The input sizes of the convolution in a chain `linear ∘ flatten ∘ conv`; None for another chain.

    Before a convolution with a window: all sizes for which its output has the sizes that the linear layer expects.
    Before a pointwise one: several layouts of the number of positions on the axes.
    """
    flat = flat_sizes(maps)
    if flat is None:
        return None
    if not conv.is_pointwise():
        base = preimage(Composition((conv,)), (1, conv.in_channels, *flat), flat)[2:]
        grown = (tuple(size + k for size in base) for k in range(-max(conv.stride), max(conv.stride) + 1))
        found = (
            size for size in grown if min(size) > 0 and conv.output_shape((1, conv.in_channels, *size))[2:] == flat
        )
        return [base, *found]
    positions = math.prod(flat)
    if conv.n == 1:
        return [(positions,), (positions,)]
    factor = next(k for k in range(max(1, math.isqrt(positions)), 0, -1) if positions % k == 0)
    ones = (1,) * (conv.n - 1)
    return [(positions, *ones), (*ones, positions), (factor, positions // factor, *ones[1:])]


def probe_shapes_of_branches(whole: Combination, rank: int | None, outer: tuple[Map, ...] = ()) -> list[list[Shape]]:
    """Shapes for the sources of a sum or concatenation, large enough for every branch and for the maps `outer` that
    follow."""
    probes = [probe_shapes((*outer, *term.map.maps), rank, None) for term in whole.terms if term.map.maps]
    grown = [tuple(map(max, *shapes)) if len(shapes) > 1 else shapes[0] for shapes in zip(*probes, strict=False)]
    channels = next((conv.in_channels for value in outer if (conv := value.plain()) is not None), None)
    return [whole.source_shapes(shape, channels) for shape in grown]


def _smallest(maps: tuple[Map, ...], axis: int) -> tuple[int, int]:
    """(size, stride) of the chain on an axis counted from the right. The size is that of the whole window with its
    border ring: what paddings add, and what negative paddings crop. Maps without a known span are ignored."""
    total = POINT
    for value in maps:
        total = (value.span() or POINT).after(total)
    reach, stride, ring = total.on(axis)
    return 1 + reach + ring, stride
