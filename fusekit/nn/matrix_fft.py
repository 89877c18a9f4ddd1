"""Convolution by constant matrix products: the form of a convolution by FFT in an ONNX file.

    frames -> F x -> S ⊙ F x -> G (S ⊙ F x) -> the outputs in place            S = F' w, G, F, F' constant (`dft.py`)

It uses only reshapes, plain transpositions, pads, slices, one gather per axis and products. All of these are right and
fast in every version of ONNX Runtime that was tried. The file contains the weight as it is. ONNX Runtime computes
matrices and spectrum once, when it loads the file; at run time only MatMul, Mul and moves of data are left.

Samples are the leading axes, columns follow. In the columns, channels come before tiles; if channels are not mixed,
tiles come before channels. Then every level of every transform is a product from the left, and no data moves between
the levels. Transpositions exchange only two neighbouring blocks: for these ONNX Runtime takes 0.2 to 0.4 ns per entry,
for any other 3.5.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental import _config

from fusekit.algebra.map import Pairs
from fusekit.algebra.pad import flat_padding
from fusekit.algebra.transforms.dft import at_load
from fusekit.algebra.transforms.matrix_axis import AxisPlan
from fusekit.algebra.transforms.matrix_plan import MatrixPlan, plan_matrices
from fusekit.algebra.transforms.spectral import Line


def matrix_fft_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int = 1,
    transposed: bool = False,
    output_padding: Sequence[int] = (),
    plan: MatrixPlan | None = None,
) -> Tensor:
    """The convolution of x [N, C, *size] with `weight` in torch's layout. Both are float32, or both float64.

    An axis whose size torch.export leaves free is cut into tiles, so the program is right for every size.

    Args:
        padding: (low, high) zeros per axis; negative numbers crop. For a transposed convolution: what is cut off from
            its output.
        plan: frames and factors of the transforms; by default those that `plan_matrices` chooses.

    Raises ValueError if the kernel is longer than the padded input.
    """
    lines = _lines(weight, stride, padding, dilation, transposed, output_padding)
    outputs, inputs = weight.shape[0] // groups, int(weight.shape[1])
    if transposed:
        outputs, inputs = inputs, outputs
    if plan is None:
        batch, *sizes = (None if _is_free(size) else size for size in (x.shape[0], *x.shape[2:]))
        channels = {"groups": groups, "outputs": outputs, "inputs": inputs}
        plan = plan_matrices(lines, tuple(sizes), **channels, batch=batch, nominal=_example(x.shape[2:]))
    kept = [line.outputs(size) for line, size in zip(lines, x.shape[2:], strict=True)]
    tiles = [_count(axis, size) for axis, size in zip(plan.axes, kept, strict=True)]
    tables = [axis.dft.table(x) for axis in plan.axes]
    spectrum = _spectrum(weight, plan, tables, dilation, groups, transposed)
    with _any_size(x.shape):
        y = _analysed(_framed(x, plan, lines, tiles), plan, tables)
        y = _mixed(y, spectrum, plan, x.shape[0] * math.prod(tiles))
        y = _placed(_synthesised(y, plan, tables), plan, x.shape[0], tiles, kept)
        return y if bias is None else y + at_load(bias).reshape(-1, *(1,) * len(lines))


def _is_free(size: object) -> bool:
    """True for a size that torch.export leaves free: a symbol."""
    return not isinstance(size, int)


def _example(sizes: Sequence[int]) -> tuple[int, ...]:
    """The sizes of the example that is traced; tiles are chosen for them. Empty if one of them is not known."""
    known = [getattr(getattr(size, "node", None), "hint", size) for size in sizes]
    return () if None in known else tuple(int(size) for size in known)


def _any_size(shape: Sequence[int]) -> AbstractContextManager[object]:
    """A context in which torch.export does not take a number of tiles for the constant 1 if the example is small."""
    if not any(_is_free(size) for size in shape):
        return nullcontext()
    return _config.patch(backed_size_oblivious=True)  # type: ignore[no-any-return,attr-defined]


def _lines(
    weight: Tensor,
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
) -> tuple[Line, ...]:
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if transposed:
        more = tuple(output_padding) or (0,) * len(reach)
        axes = zip(reach, stride, padding, more, strict=True)
        return tuple(Line.transposed(r, s, low, high, extra) for r, s, (low, high), extra in axes)
    return tuple(Line(r, s, low, high) for r, s, (low, high) in zip(reach, stride, padding, strict=True))


def _count(axis: AxisPlan, outputs: int) -> int:
    """The number of frames for this number of outputs. Only positive numbers are divided, because ONNX rounds the
    quotient of negative ones in the other direction."""
    return 1 if axis.frames.one_shot else (outputs + axis.frames.keep - 1) // axis.frames.keep


def _framed(x: Tensor, plan: MatrixPlan, lines: Sequence[Line], tiles: Sequence[int]) -> Tensor:
    """x as [*samples, columns]; columns: group, phase, channel, batch, *tile, or batch, *tile, channel.

    For each axis, the samples are moved before the columns, and the tiles are moved to the columns. No dimension is a
    number of tiles alone, because torch.export would take the 1 of a small example for a constant.
    """
    axes, (batch, channels) = plan.axes, x.shape[:2]
    if plan.channels_last:
        outer, inner, first = batch, channels, 1
        x = x.movedim(1, -1)
    else:
        outer, inner, first = channels * batch, 1, 2
        x = _swapped(x)
    for i, axis in enumerate(axes):
        x = _cut(x, first + i, axis, lines[i], tiles[i])
    lengths, extents = [axis.phases * axis.samples for axis in axes], x.shape[first : first + len(axes)]
    if _is_whole(plan):
        return _swapped(x.reshape(outer, math.prod(lengths), inner))
    prefix = 1
    for i, (tile, length) in enumerate(zip(tiles, lengths, strict=True)):
        outer = outer * tile
        x = x.reshape(prefix, outer, length, math.prod(extents[i + 1 :]) * inner).transpose(1, 2)
        prefix *= length
    if plan.phases == 1:
        return x
    n, columns = len(axes), plan.inputs * batch * math.prod(tiles)
    x = x.reshape(*(part for axis in axes for part in (axis.samples, axis.phases)), plan.groups, columns)
    return x.permute(*range(0, 2 * n, 2), 2 * n, *range(1, 2 * n, 2), 2 * n + 1)


def _swapped(x: Tensor) -> Tensor:
    """x with its first two dimensions exchanged; a reshape if one of them is a constant 1."""
    if any(not _is_free(size) and size == 1 for size in x.shape[:2]):
        return x.reshape(x.shape[1], x.shape[0], *x.shape[2:])
    return x.transpose(0, 1)


def _is_whole(plan: MatrixPlan) -> bool:
    """True if every axis has one frame and no phases."""
    return plan.phases == 1 and all(axis.frames.one_shot for axis in plan.axes)


def _cut(x: Tensor, dim: int, axis: AxisPlan, line: Line, tiles: int) -> Tensor:
    """The samples of all tiles, one tile after the other, along `dim`; zeros where a tile reaches beyond x."""
    start, front, after = max(0, axis.lead), max(0, -axis.lead), (0, 0) * (x.dim() - 1 - dim)
    step, length, size = axis.phases * axis.step, axis.phases * axis.samples, x.shape[dim]
    common = axis.block
    if axis.frames.one_shot or not _is_free(size):
        read = axis.phases * axis.read if axis.frames.one_shot else (tiles - 1) * step + length
        stop = max(start, min(size, start + read - front))
        x = x.narrow(dim, start, stop - start) if stop - start < size else x
        end = (tiles - 1) * step + length - front - (stop - start)
    else:
        x = x.narrow(dim, start, size - start) if start else x
        unread = max(0, -line.high) + line.stride  # samples that may follow the last window
        total = (tiles - 1) * step + length + -(-unread // common) * common
        end = total - front - (size - start)
    x = F.pad(x, (*after, front, end)) if front or _is_free(end) or end else x
    if axis.frames.one_shot:
        return x
    before, behind = x.shape[:dim], x.shape[dim + 1 :]
    count = length // common
    place = torch.arange(tiles * count, device=x.device)
    place = place // count * (step // common) + place % count
    x = x.reshape(*before, x.shape[dim] // common, common, *behind).index_select(dim, place)
    return x.reshape(*before, tiles * length, *behind)


def _transformed(
    x: Tensor,
    plan: MatrixPlan,
    tables: Sequence[Tensor],
    counts: Sequence[int],
    firsts: Sequence[int],
    steps: Sequence[int],
) -> Tensor:
    """[*counts, columns] as [bins, columns]; sample n of axis i stands at firsts[i] + steps[i] n."""
    prefix, last = 1, len(plan.axes) - 1
    for i, (axis, *places) in enumerate(zip(plan.axes, counts, firsts, steps, strict=True)):
        x = axis.dft.analysis(x, tables[i], prefix, *places, last=i == last)
        prefix *= axis.dft.bins
    return x


def _analysed(x: Tensor, plan: MatrixPlan, tables: Sequence[Tensor]) -> Tensor:
    """F x: [bins, columns]."""
    axes = plan.axes
    counts, firsts = [axis.samples for axis in axes], [-axis.offset for axis in axes]
    return _transformed(x, plan, tables, counts, firsts, [-axis.frames.spread for axis in axes])


def _spectrum(
    weight: Tensor, plan: MatrixPlan, tables: Sequence[Tensor], dilation: Sequence[int], groups: int, transposed: bool
) -> Tensor:
    """S = F' w, scaled for the inverse: [bins, group out phase in]."""
    n, window, weight = weight.dim() - 2, tuple(weight.shape[2:]), at_load(weight)
    if transposed:
        weight = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)
    w = weight.reshape(-1, math.prod(window)).t().reshape(*window, -1)
    if plan.phases > 1:
        w, dilation = _kernel_by_phases(w, plan, dilation), (1,) * n
    firsts = [d * (size - 1) if transposed else 0 for d, size in zip(dilation, w.shape, strict=False)]
    missing = tuple((0, -size % axis.dft.unit) for axis, size in zip(plan.axes, w.shape, strict=False))
    w = F.pad(w, (0, 0, *flat_padding(missing))) if any(pair != (0, 0) for pair in missing) else w
    w = _transformed(w, plan, tables, w.shape[:n], firsts, [-d if transposed else d for d in dilation])
    others = math.prod(axis.dft.points for axis in plan.axes[1:])
    scale = torch.tensor([weight / others for weight in plan.axes[0].dft.weights()], dtype=w.dtype, device=w.device)
    return (w.reshape(len(scale), -1) * scale[:, None]).reshape(plan.bins, -1)


def _kernel_by_phases(w: Tensor, plan: MatrixPlan, dilation: Sequence[int]) -> Tensor:
    """[*taps, group out in] as [*taps of a phase, group out phase in]. In a dilated kernel, zeros are inserted."""
    n = len(plan.axes)
    sizes = []
    for i, (axis, d) in enumerate(zip(plan.axes, dilation, strict=True)):
        after = 2 * (w.dim() - 1 - i)
        if d > 1:
            w = F.pad(w.unsqueeze(i + 1), (0,) * after + (0, d - 1)).flatten(i, i + 1)
            w = w.narrow(i, 0, w.shape[i] - d + 1)
        taps = -(-w.shape[i] // axis.phases)
        w = F.pad(w, (0,) * after + (0, taps * axis.phases - w.shape[i]))
        sizes += [taps, axis.phases]
    w = w.reshape(*sizes, -1, plan.inputs)
    return w.permute(*range(0, 2 * n, 2), 2 * n, *range(1, 2 * n, 2), 2 * n + 1).reshape(*sizes[::2], -1)


def _mixed(x: Tensor, spectrum: Tensor, plan: MatrixPlan, frames: int) -> Tensor:
    """S ⊙ F x: [bins, columns], with the channels of each bin mixed. `frames`: their number in the whole batch."""
    bins, groups = plan.bins, plan.groups
    if plan.channels_last:
        return x.reshape(bins, frames, groups) * spectrum.reshape(bins, 1, groups)
    if plan.depthwise:
        return x.reshape(bins, groups, frames) * spectrum.reshape(bins, groups, 1)
    inputs = plan.phases * plan.inputs
    matrices = spectrum.reshape(bins * groups, plan.outputs, inputs)
    return matrices @ x.reshape(bins * groups, inputs, frames)


def _synthesised(y: Tensor, plan: MatrixPlan, tables: Sequence[Tensor]) -> Tensor:
    """G y: [kept outputs, columns]."""
    prefix, last = math.prod(axis.dft.bins for axis in plan.axes), len(plan.axes) - 1
    for i, axis in reversed(list(enumerate(plan.axes))):
        prefix //= axis.dft.bins
        frames = axis.frames
        y = axis.dft.synthesis(y, tables[i], prefix, axis.kept, frames.first, frames.stride, last=i == last)
    return y


def _placed(y: Tensor, plan: MatrixPlan, batch: int, tiles: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """[kept outputs, columns] as [batch, channel, *sizes]: undoes the layout of `_framed`."""
    kept, channels = [axis.kept for axis in plan.axes], plan.groups * plan.outputs
    outer, inner = (batch, channels) if plan.channels_last else (channels * batch, 1)
    extents = [tile * keep for tile, keep in zip(tiles, kept, strict=True)]
    if all(axis.frames.one_shot for axis in plan.axes):
        y = _swapped(y.reshape(math.prod(kept), outer, inner))
    else:
        for i in reversed(range(len(kept))):
            columns, rest = outer * math.prod(tiles[: i + 1]), math.prod(extents[i + 1 :]) * inner
            y = y.reshape(math.prod(kept[:i]), kept[i], columns, rest).transpose(1, 2)
    y = y.reshape(batch, *extents, channels) if plan.channels_last else y.reshape(channels, batch, *extents)
    for i, (axis, size) in enumerate(zip(plan.axes, sizes, strict=True)):
        if not axis.frames.one_shot or axis.kept != size:
            y = y.narrow((1 if plan.channels_last else 2) + i, 0, size)
    y = y.movedim(-1, 1) if plan.channels_last else _swapped(y)
    if any(map(_is_free, y.shape)):  # `contiguous` would ask whether it is, and hold callers to the answer
        return y.clone(memory_format=torch.contiguous_format)
    return y.contiguous()
