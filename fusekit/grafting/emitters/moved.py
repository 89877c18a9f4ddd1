"""What moves or averages entries as nodes: means, pools, flattenings, orders of axes and channels, slices."""

import torch

from fusekit.algebra import (
    AvgPool,
    Cut,
    Flatten,
    GlobalMean,
    Interleaved,
    MergeLeading,
    Nearest,
    Permute,
    Picking,
    PixelShuffle,
)
from fusekit.grafting.sheet import Emitter, Emitters, Place, Sheet

TO_THE_END = (1 << 31) - 1  # where a slice ends that leaves nothing out: every version clamps it


def _mean(sheet: Sheet, mean: GlobalMean, place: Place) -> None:
    """Runtimes have a fast kernel for it in float32, and often no other."""
    if mean.keeps and place.dtype is torch.float32:
        sheet.node("GlobalAveragePool", [place.source], [place.output], place.path)
        return
    axes, options = range(-mean.n, 0), {"keepdims": int(mean.keeps)}
    if sheet.opset < 18:
        counted = [axis + (place.rank or 0) for axis in axes] if sheet.opset < 11 else list(axes)
        sheet.node("ReduceMean", [place.source], [place.output], place.path, axes=counted, **options)
        return
    inputs = [place.source, sheet.integers(axes, f"{place.path}.axes")]
    sheet.node("ReduceMean", inputs, [place.output], place.path, **options)


def _pool(sheet: Sheet, pool: AvgPool, place: Place) -> None:
    options = {"kernel_shape": pool.window, "strides": pool.stride, "pads": pool.padding * 2}
    counted = {"count_include_pad": 1} if any(pool.padding) else {}  # the default counts what is there alone
    sheet.node("AveragePool", [place.source], [place.output], place.path, **options, **counted)


def _flatten(sheet: Sheet, flatten: Flatten, place: Place) -> None:
    sheet.node("Flatten", [place.source], [place.output], place.path, axis=1)


def _merge(sheet: Sheet, merge: MergeLeading, place: Place) -> None:
    assert place.rank is not None
    sheet.node("Flatten", [place.source], [place.output], place.path, axis=place.rank - 1)


def _keeps_one(merge: MergeLeading, opset: int) -> bool:
    return merge.kept == 1


def _permute(sheet: Sheet, permute: Permute, place: Place) -> None:
    sheet.node("Transpose", [place.source], [place.output], place.path, perm=permute.axes)


def _shuffle(sheet: Sheet, shuffle: PixelShuffle, place: Place) -> None:
    mode = {"mode": "DCR" if shuffle.blocks_first else "CRD"} if sheet.opset >= 11 else {}
    sheet.node("DepthToSpace", [place.source], [place.output], place.path, blocksize=shuffle.factor, **mode)


def _has_modes(shuffle: PixelShuffle, opset: int) -> bool:
    """Before there were two modes, it was that of blocks."""
    return opset >= 11 or shuffle.blocks_first


def _interleaved(sheet: Sheet, plane: Interleaved, place: Place) -> None:
    """A view: one, where the sizes are fixed that are multiplied and those before them, which change their places."""
    sizes = place.sizes[1:] if place.sizes else (None,)
    if None not in sizes:
        *before, width, channels = (size or 0 for size in sizes)
        shape = sheet.integers((0, 1, *before, width * channels), f"{place.path}.shape")
        sheet.node("Reshape", [place.source, shape], [place.output], place.path)
        return
    rows = sheet.unique(f"{place.path}.rows")
    shape = sheet.integers((*(0,) * plane.n, -1), f"{place.path}.shape")
    sheet.node("Reshape", [place.source, shape], [rows], f"{place.path}.rows")
    if sheet.opset < 13:
        sheet.node("Unsqueeze", [rows], [place.output], place.path, axes=[1])
    else:
        sheet.node("Unsqueeze", [rows, sheet.integers([1], f"{place.path}.axis")], [place.output], place.path)


def _nearest(sheet: Sheet, upsampling: Nearest, place: Place) -> None:
    """By factors: until opset 9 as Upsample, from 11 on with words that say where positions are and how they round."""
    assert place.rank is not None
    factors = [1.0] * (place.rank - len(upsampling.factors)) + [float(factor) for factor in upsampling.factors]
    operator = "Upsample" if sheet.opset < 10 else "Resize"
    if sheet.opset < 9:
        sheet.node(operator, [place.source], [place.output], place.path, mode="nearest", scales=factors)
        return
    inputs = [sheet.constant(torch.tensor(factors, dtype=torch.float32), f"{place.path}.scales")]
    words = {}
    if sheet.opset >= 11:
        region = sheet.constant(torch.zeros(0), f"{place.path}.region") if sheet.opset < 13 else ""
        inputs = [region, *inputs]
        words = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    sheet.node(operator, [place.source, *inputs], [place.output], place.path, mode="nearest", **words)


def _picking(sheet: Sheet, picking: Picking, place: Place) -> None:
    order = sheet.integers(picking.picked, f"{place.path}.order")
    sheet.node("Gather", [place.source, order], [place.output], place.path, axis=1)


def write_cut(sheet: Sheet, cut: Cut, place: Place) -> None:
    """A slice of the last axes. Before opset 10 it is said by attributes, and knows no steps."""
    assert place.rank is not None
    axes = range(place.rank - len(cut.crop), place.rank)
    starts, ends = [low for low, _ in cut.crop], [-high if high else TO_THE_END for _, high in cut.crop]
    if sheet.opset < 10:
        options = {"starts": starts, "ends": ends, "axes": list(axes)}
        sheet.node("Slice", [place.source], [place.output], place.path, **options)
        return
    told = {"starts": starts, "ends": ends, "axes": axes, "steps": cut.every}
    inputs = [sheet.integers(values, f"{place.path}.{word}") for word, values in told.items()]
    sheet.node("Slice", [place.source, *inputs], [place.output], place.path)


def _has_steps(cut: Cut, opset: int) -> bool:
    return opset >= 10 or all(step == 1 for step in cut.every)


EMITTERS: Emitters = {
    AvgPool: Emitter(_pool),
    Cut: Emitter(write_cut, _has_steps),
    Flatten: Emitter(_flatten),
    GlobalMean: Emitter(_mean),
    Interleaved: Emitter(_interleaved),
    MergeLeading: Emitter(_merge, _keeps_one),
    Nearest: Emitter(_nearest),
    Permute: Emitter(_permute),
    Picking: Emitter(_picking),
    PixelShuffle: Emitter(_shuffle, _has_modes),
}
