"""Local check of a region against its proposal, in float64.

Both sides are affine in their input. If they differ, they differ on a Gaussian probe with probability 1, so one probe
a size decides; sizes are what could hide a difference, so several are tried: odd and even, all stride residues up to
four, each larger than the whole window and its ring. A kernel tap off by 1e-9 shows at 2e-9 against a noise of 1e-13,
which no float32 comparison can do.
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
    with_convs_before_flatten,
)

TOLERANCE = 1e-10
AFFORDABLE = 2_000_000
AFFORDABLE_FOR_PLANS = 300_000_000  # where what is computed depends on the size, the real one is worth some 0.1 s


def region_error(
    graph: Graph,
    old: Sequence[fx.Node],
    new: Sequence[fx.Node],
    sources: Sequence[fx.Node],
    probes: Sequence[Sequence[Shape]],
    count: int = 1,
) -> float:
    """The largest relative error of the new nodes' last `count` values against the old nodes' last ones, over the
    probes, each of which gives a shape for every source."""
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
    """0 if the constant has the bits of the expression run once more in its own dtype, infinite otherwise."""
    expected, given = evaluate(graph, old, {})[old[-1]], graph.constants[str(new.target)]
    same = given.dtype == expected.dtype and torch.equal(given.nan_to_num(), expected.nan_to_num())
    return 0.0 if same else float("inf")


def relative_error(given: Tensor, expected: Tensor) -> float:
    """||given - expected|| / ||expected||; infinite for another shape, and where a NaN hides the answer."""
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
    """Input shapes for a chain of maps, outer first, of the input's rank; the real one too where it takes no more
    multiply-accumulates than `affordable`."""
    maps = with_convs_before_flatten(maps)
    inner_first = maps[::-1]
    order, rest = behind_permutation(maps)
    if order is not None:
        behind = probe_shapes(rest, len(order.axes), None) if rest else [tuple(range(2, 2 + len(order.axes)))]
        return [permuted_back(shape, order.axes) for shape in behind]
    conv: Conv | None = next((plain for m in inner_first if (plain := m.plain()) is not None), None)
    if isinstance(inner_first[0], Mixing):
        return _mixed_shapes(inner_first[0])
    if conv is None:
        rank = rank or next((len(span.reach) + 2 for m in maps if (span := m.span() or POINT).reach), 5)
        return [_fitting(inner_first, shape[:rank]) for shape in ((2, 3, 4, 5, 6), (1, 2, 3, 4, 5), (3, 2, 4, 4, 4))]
    if conv.n == 0:
        leading: tuple[Shape, ...] = ((2, 3, 4), (1, 2, 3), (5, 1, 2))
        return [(*batch[: (rank or 2 + k % 2) - 1], conv.in_channels) for k, batch in enumerate(leading)]
    flat = _flattened_sizes(maps, conv)
    if flat is not None:
        return [(1 + k % 2, conv.in_channels, *spatial) for k, spatial in enumerate(flat)]
    smallest = [_smallest(inner_first, axis) for axis in range(-conv.n, 0)]
    residues = min(4, max(3, *(stride for _, stride in smallest)))
    shapes = []
    for k in range(residues):
        spatial = (size + (k + axis) % residues for axis, (size, _) in enumerate(smallest))
        batch = () if rank == conv.n + 1 else (2 if k == 0 else 1,)
        shapes.append((*batch, channels_read(inner_first, conv), *spatial))
    if real is not None and sum(m.macs(real) for m in maps) <= affordable:
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
    """Blocks of as many channels as the bias has entries for, else of several sizes."""
    out, inputs = mixing.matrix.shape
    channels = [1, 2, 3] if mixing.bias is None else [len(mixing.bias) // out] * 3
    return [(3 - k, inputs * c, *(2 + (k + i) % 3 for i in range(mixing.n))) for k, c in enumerate(channels)]


def _flattened_sizes(maps: tuple[Map, ...], conv: Conv) -> list[Shape] | None:
    """Where a flattened linear layer fixes the sizes: all that the convolution brings to them; where it fixes but how
    many positions there are: ways to lay them out on the axes."""
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
    """Shapes for the sources of a sum or concatenation, large enough for every branch and what stands behind it."""
    probes = [probe_shapes((*outer, *term.map.maps), rank, None) for term in whole.terms if term.map.maps]
    grown = [tuple(map(max, *shapes)) if len(shapes) > 1 else shapes[0] for shapes in zip(*probes, strict=False)]
    channels = next((conv.in_channels for value in outer if (conv := value.plain()) is not None), None)
    return [whole.source_shapes(shape, channels) for shape in grown]


def _smallest(maps: tuple[Map, ...], axis: int) -> tuple[int, int]:
    """(the whole window of the chain with its ring: what the paddings reach, and what negative ones crop; its stride)
    on an axis counted from the right; maps whose span is not known count for nothing."""
    total = POINT
    for value in maps:
        total = (value.span() or POINT).after(total)
    reach, stride, ring = total.on(axis)
    return 1 + reach + ring, stride
