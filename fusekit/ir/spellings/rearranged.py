"""What moves or averages entries and knows no weights: pools, means, flattenings, pixel shuffles, nothing at all."""

import math
from typing import Any

import torch
from torch import fx, nn

from fusekit.algebra import (
    AvgPool,
    Flatten,
    GlobalMean,
    Identity,
    Interleaved,
    MergeLeading,
    Nearest,
    Permute,
    PixelShuffle,
    SpaceToDepth,
)
from fusekit.algebra.interleaved import interleaved
from fusekit.algebra.rearrange import depth_to_space
from fusekit.ir.facts import facts
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reading, listed, static
from fusekit.ir.spellings.table import Call, CalledLayer, Spelling

aten = torch.ops.aten

_MEANS = (aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool3d.default)
_POOLS = (aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default)
_NEAREST = (aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec, aten.upsample_nearest3d.vec)
_POOL_LAYERS: dict[type[nn.Module], int] = {nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3}
_MEAN_LAYERS: dict[type[nn.Module], int] = {
    nn.AdaptiveAvgPool1d: 1,
    nn.AdaptiveAvgPool2d: 2,
    nn.AdaptiveAvgPool3d: 3,
}
_DROPOUTS = (
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default,
)
_DROPOUT_LAYERS: tuple[type[nn.Module], ...] = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
)


def _axes(layer: nn.Module, table: dict[type[nn.Module], int]) -> int:
    """On how many axes a layer of such a type acts."""
    return next(n for kind, n in table.items() if isinstance(layer, kind))


def _write_identity(graph: Graph, value: Identity, source: fx.Node, name: str) -> list[fx.Node]:
    return []


def _read_identity(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    return None if a.get("train") else Reading(Identity(), a["input"] if "input" in a else a["self"])


def _call_identity(call: CalledLayer) -> Call:
    return aten.alias.default, (call.x,)


def _call_dropout(call: CalledLayer) -> Call | None:
    return None if call.module.training else (aten.dropout.default, (call.x, call.module.p, False))


def _write_shuffle(graph: Graph, value: PixelShuffle, source: fx.Node, name: str) -> list[fx.Node]:
    target = depth_to_space if value.blocks_first else aten.pixel_shuffle.default
    return [graph.fx.call_function(target, (source, value.factor))]


def _read_shuffle(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    factor = a["upscale_factor"]
    return Reading(PixelShuffle(factor), a["self"]) if isinstance(factor, int) else None


def _read_depth_to_space(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    source, factor = node.args
    return Reading(PixelShuffle(factor, blocks_first=True), source)  # type: ignore[arg-type]


def _read_unshuffle(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    factor = a["downscale_factor"]
    return Reading(SpaceToDepth(factor), a["self"]) if isinstance(factor, int) else None


def _call_unshuffle(call: CalledLayer) -> Call:
    return aten.pixel_unshuffle.default, (call.x, call.module.downscale_factor)


def _write_interleaved(graph: Graph, value: Interleaved, source: fx.Node, name: str) -> list[fx.Node]:
    return [graph.fx.call_function(interleaved, (source,))]


def _read_interleaved(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    source: Any = node.args[0]
    rank = facts(source).rank
    return None if rank is None else Reading(Interleaved(rank - 2), source)


def _write_nearest(graph: Graph, value: Nearest, source: fx.Node, name: str) -> list[fx.Node]:
    call = (source, None, [float(factor) for factor in value.factors])
    return [graph.fx.call_function(_NEAREST[len(value.factors) - 1], call)]


def _read_nearest(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """By whole factors, up to one with which torch's rounding of positions is exact."""
    factors = a["scale_factors"]
    if a["output_size"] is not None or not factors or not all(factor in range(1, 9) for factor in factors):
        return None
    return Reading(Nearest(tuple(int(factor) for factor in factors)), a["input"])


def nearest_call(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
    antialias: bool = False,
) -> Call | None:
    """`F.interpolate` to the nearest entry as ATen's, if the factors are given as numbers, and the number of axes is
    known."""
    if mode != "nearest" or size is not None or align_corners is not None or recompute_scale_factor or antialias:
        return None
    rank = len(scale_factor) + 2 if isinstance(scale_factor, tuple | list) else facts(input).rank
    factors = listed(scale_factor) * (1 if isinstance(scale_factor, tuple | list) else (rank or 2) - 2)
    if rank not in (3, 4, 5) or not all(isinstance(factor, int | float) for factor in factors):
        return None
    return _NEAREST[rank - 3], (input, None, [float(factor) for factor in factors])


def _call_nearest(call: CalledLayer) -> Call | None:
    layer = call.module
    settings = (layer.size, layer.scale_factor, layer.mode, layer.align_corners, layer.recompute_scale_factor)
    return nearest_call(call.x, *settings)


def _call_shuffle(call: CalledLayer) -> Call:
    return aten.pixel_shuffle.default, (call.x, call.module.upscale_factor)


def _write_mean(graph: Graph, value: GlobalMean, source: fx.Node, name: str) -> list[fx.Node]:
    if not value.keeps:
        return [graph.fx.call_function(aten.mean.dim, (source, list(range(-value.n, 0))))]
    return [graph.fx.call_function(_MEANS[value.n - 1], (source, [1] * value.n))]


def _read_mean(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """Adaptive pooling to one position, or a mean over all axes but batch and channels."""
    if "output_size" in a:
        sizes = a["output_size"]
        return Reading(GlobalMean(len(sizes)), a["self"]) if all(size == 1 for size in sizes) else None
    rank, dims = facts(a["self"]).rank, a["dim"]
    if not dims or a["dtype"] is not None or (rank is None and any(d >= 0 for d in dims)):
        return None
    axes = {d if d < 0 else d - (rank or 0) for d in dims}
    n = len(axes)
    if axes != set(range(-n, 0)) or n > 3 or (not a["keepdim"] and rank != n + 2):
        return None
    return Reading(GlobalMean(n, bool(a["keepdim"])), a["self"])


def _call_mean(call: CalledLayer) -> Call | None:
    return mean_call(_axes(call.module, _MEAN_LAYERS), call.x, call.module.output_size)


def mean_call(n: int, input: Any, output_size: Any) -> Call | None:
    """`F.adaptive_avg_pool{n}d` as ATen's, if all sizes are given as numbers."""
    sizes = list(output_size) if isinstance(output_size, tuple | list) else [output_size] * n
    return (_MEANS[n - 1], (input, sizes)) if all(isinstance(size, int) for size in sizes) else None


def _write_flatten(graph: Graph, value: Flatten, source: fx.Node, name: str) -> list[fx.Node]:
    return [graph.fx.call_function(aten.flatten.using_ints, (source, 1, -1))]


def _read_flatten(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    rank, (start, end) = facts(a["self"]).rank, (a["start_dim"], a["end_dim"])
    if rank is not None and start in (0, -rank) and 0 < end % rank < rank - 1:
        return Reading(MergeLeading(rank - 1 - end % rank), a["self"])
    if start != 1 or end not in (-1, (rank or 0) - 1):
        return None
    known = (facts(a["self"]).shape or ())[2:]
    fixed = tuple(size for size in known if size is not None)
    return Reading(Flatten(fixed if fixed and len(fixed) == len(known) else None), a["self"])


def _read_reshape(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """(-1, as many as the last axis has), or as all but the first have; other sizes are the program's to compute."""
    source, shape = a["self"], a["size"] if "size" in a else a["shape"]
    given = facts(source).shape
    if given is None or len(given) < 3 or len(shape) != 2 or shape[0] != -1 or not isinstance(shape[1], int):
        return None
    if shape[1] == given[-1]:
        return Reading(MergeLeading(1), source)
    rest = [size for size in given[1:] if size is not None]
    if len(rest) < len(given) - 1 or shape[1] != math.prod(rest):
        return None
    return Reading(Flatten(tuple(rest[1:])), source)


def _write_permute(graph: Graph, value: Permute, source: fx.Node, name: str) -> list[fx.Node]:
    return [graph.fx.call_function(aten.permute.default, (source, list(value.axes)))]


def _read_permute(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    dims = a["dims"]
    if not all(isinstance(dim, int) for dim in dims):
        return None
    return Reading(Permute(tuple(dim % len(dims) for dim in dims)), a["self"])


def _read_transpose(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    rank, dims = facts(a["self"]).rank, (a["dim0"], a["dim1"])
    if not rank or not all(isinstance(dim, int) for dim in dims):
        return None
    axes = list(range(rank))
    axes[dims[0]], axes[dims[1]] = axes[dims[1]], axes[dims[0]]
    return Reading(Permute(tuple(axes)), a["self"])


def _write_merge(graph: Graph, value: MergeLeading, source: fx.Node, name: str) -> list[fx.Node]:
    return [graph.fx.call_function(aten.flatten.using_ints, (source, 0, -1 - value.kept))]


def _call_flatten(call: CalledLayer) -> Call:
    return aten.flatten.using_ints, (call.x, call.module.start_dim, call.module.end_dim)


def _read_pool(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """Where the padding counts as zeros and the size is not rounded up; with no padding it does not matter."""
    n = 1 + _POOLS.index(node.target)
    window, padding = static(a["kernel_size"], n), static(a["padding"], n)
    stride = static(a["stride"] or a["kernel_size"], n)
    if window is None or padding is None or stride is None or a["ceil_mode"] or a.get("divisor_override"):
        return None
    if any(padding) and not a["count_include_pad"]:
        return None
    return Reading(AvgPool(window, stride, padding), a["input"] if "input" in a else a["self"])


def _write_pool(graph: Graph, value: AvgPool, source: fx.Node, name: str) -> list[fx.Node]:
    call = pool_call(len(value.window), source, list(value.window), list(value.stride), list(value.padding))
    return [graph.fx.call_function(*call)]


def _call_pool(call: CalledLayer) -> Call:
    pool = call.module
    settings = (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, pool.count_include_pad)
    return pool_call(_axes(pool, _POOL_LAYERS), call.x, *settings, getattr(pool, "divisor_override", None))


def pool_call(
    n: int,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Call:
    """`F.avg_pool{n}d` as ATen's."""
    sizes = (kernel_size, kernel_size if stride is None else stride, padding)
    spread = (values * n if len(values) == 1 else values for values in map(listed, sizes))  # the exporter takes no [2]
    arguments = (input, *spread, ceil_mode, count_include_pad)
    return _POOLS[n - 1], arguments if n == 1 else (*arguments, divisor_override)


SPELLING = Spelling(
    written={
        Identity: _write_identity,
        Interleaved: _write_interleaved,
        Nearest: _write_nearest,
        PixelShuffle: _write_shuffle,
        AvgPool: _write_pool,
        GlobalMean: _write_mean,
        Flatten: _write_flatten,
        MergeLeading: _write_merge,
        Permute: _write_permute,
    },
    read={
        **dict.fromkeys((aten.alias.default, *_DROPOUTS), _read_identity),
        aten.pixel_shuffle.default: _read_shuffle,
        aten.pixel_unshuffle.default: _read_unshuffle,
        depth_to_space: _read_depth_to_space,
        interleaved: _read_interleaved,
        **dict.fromkeys(_NEAREST, _read_nearest),
        **dict.fromkeys((*_MEANS, aten.mean.dim), _read_mean),
        aten.flatten.using_ints: _read_flatten,
        aten.permute.default: _read_permute,
        aten.transpose.int: _read_transpose,
        **dict.fromkeys((aten.view.default, aten.reshape.default), _read_reshape),
        **dict.fromkeys(_POOLS, _read_pool),
    },
    called={
        nn.Identity: _call_identity,
        **dict.fromkeys(_DROPOUT_LAYERS, _call_dropout),
        nn.PixelShuffle: _call_shuffle,
        nn.PixelUnshuffle: _call_unshuffle,
        **dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d), _call_nearest),
        **dict.fromkeys(_MEAN_LAYERS, _call_mean),
        nn.Flatten: _call_flatten,
        **dict.fromkeys(_POOL_LAYERS, _call_pool),
    },
)
