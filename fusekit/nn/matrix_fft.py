"""Convolution by constant matrix products: the form a convolution by FFT takes in an ONNX file.

    frames -> F x -> S ⊙ F x -> G (S ⊙ F x) -> the outputs in place            S = F' w, G, F, F' constant (`dft.py`)

Only reshapes, 2-D transpositions, pads, slices, concatenations and products: no operator of an ONNX Runtime that answers
wrongly, none that is slow. The file holds the weight as it is; ONNX Runtime computes matrices and spectrum once, when it
loads the file, and what runs is MatMul, Mul and moves.

Samples lead and channels follow, [*samples, batch, channel, tile] or, where each channel is on its own,
[*samples, tile, batch, channel]: then every level of every transform is a product from the left and nothing moves
between them.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.map import Pairs
from fusekit.algebra.matrix_plan import AxisPlan, MatrixPlan, plan_matrices
from fusekit.algebra.pad import flat_padding
from fusekit.algebra.spectral import Line


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
    """The convolution of x [N, C, *size] by `weight`, in torch's layout, float32 or float64, in that precision.

    `padding`: (low, high) zeros per axis, below 0 to crop; of a transposed convolution what its output loses. A size
    that torch.export leaves free is cut into tiles, and the program is right for every value of it. `plan`: how, if
    not as `plan_matrices` would. Raises ValueError if the kernel is longer than the padded input.
    """
    lines = _lines(weight, stride, padding, dilation, transposed, output_padding)
    outputs, inputs = weight.shape[0] // groups, int(weight.shape[1])
    if transposed:
        outputs, inputs = inputs, outputs
    if plan is None:
        sizes = tuple(size if isinstance(size, int) else None for size in x.shape[2:])
        batch = x.shape[0] if isinstance(x.shape[0], int) else None
        plan = plan_matrices(lines, sizes, groups=groups, outputs=outputs, inputs=inputs, batch=batch)
    kept = [line.outputs(size) for line, size in zip(lines, x.shape[2:], strict=True)]
    tiles = [1 if a.frames.one_shot else -(-m // a.frames.keep) for a, m in zip(plan.axes, kept, strict=True)]
    spectrum = _spectrum(weight, plan, dilation, groups, transposed)
    y = _mixed(_analysed(_framed(x, plan, lines, tiles), plan), spectrum, plan, x.shape[0], math.prod(tiles))
    y = _placed(_synthesised(y, plan), plan, x.shape[0], tiles, kept)
    return y if bias is None else y + bias.reshape(-1, *(1,) * len(lines))


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


def _framed(x: Tensor, plan: MatrixPlan, lines: Sequence[Line], tiles: Sequence[int]) -> Tensor:
    """x in the order [*samples, batch, phase, channel, *tile] or [*samples, *tile, batch, channel].

    A tile overlaps those after it: blocks as long as the step stand side by side, and a frame is the samples of one
    block and what it needs of the next.
    """
    n, axes, first = len(plan.axes), plan.axes, 0 if plan.channels_last else 1
    rows = x.shape[0] * x.shape[1]
    blocks = [1 if a.frames.one_shot else t + _overlap(a) - 1 for a, t in zip(axes, tiles, strict=True)]
    lengths = [a.phases * (a.samples if a.frames.one_shot else a.step) for a in axes]
    batch = x.shape[0]
    for i, axis in enumerate(axes):
        x = _window(x, 2 + i, axis, lines[i], blocks[i] * lengths[i])
    if any(not axis.frames.one_shot for axis in axes):
        x = x.reshape(rows, *(part for pair in zip(blocks, lengths, strict=True) for part in pair))
        order = [1 + 2 * i for i in range(n)]
        order.insert(n if plan.channels_last else 0, 0)
        x = x.permute(*order, *(2 + 2 * i for i in range(n)))
    columns = (*blocks, rows) if plan.channels_last else (rows, *blocks)
    x = x.reshape(-1, math.prod(lengths)).t().reshape(*lengths, *columns)
    for i, axis in enumerate(axes):
        if not axis.frames.one_shot:
            x = _overlapping(x, i, n + first + i, axis, tiles[i])
    return x if plan.phases == 1 else _by_phases(x, plan, batch, math.prod(tiles))


def _overlap(axis: AxisPlan) -> int:
    """How many blocks a frame extends over."""
    return -(-axis.samples // axis.step)


def _window(x: Tensor, dim: int, axis: AxisPlan, line: Line, length: int) -> Tensor:
    """`length` samples along `dim` from the first that is read on, zeros where there are none to be read."""
    lead, size, after = axis.lead, x.shape[dim], 2 * (x.dim() - 1 - dim)
    start, front = max(0, lead), max(0, -lead)
    if axis.frames.one_shot:
        stop = max(start, min(size, lead + axis.phases * axis.read))
        x = x.narrow(dim, start, stop - start) if stop - start < size else x
        end = length - front - (stop - start)
        return F.pad(x, (0,) * after + (front, end)) if front or end else x
    # zeros enough for every size, then a cut: the padding is a constant of the exported program
    enough = axis.phases * axis.step * _overlap(axis) + max(2, line.high + line.spread)
    x = F.pad(x, (0,) * after + (front, enough))
    return x.narrow(dim, start, length)


def _overlapping(x: Tensor, samples: int, tiles: int, axis: AxisPlan, count: int) -> Tensor:
    """Frames from blocks: in the dimension `samples`, behind those of block t, the ones of block t + 1 and so on."""
    step, wanted = axis.phases * axis.step, axis.phases * axis.samples
    parts = []
    for j in range(_overlap(axis)):
        part = x.narrow(tiles, j, count)
        parts.append(part.narrow(samples, 0, min(step, wanted - j * step)))
    return parts[0] if len(parts) == 1 else torch.cat(parts, samples)


def _by_phases(x: Tensor, plan: MatrixPlan, batch: int, tiles: int) -> Tensor:
    """[sample phase, ..., batch group channel, *tile] as [*sample, batch, group, *phase, channel tile]."""
    n = len(plan.axes)
    x = x.reshape(*(part for axis in plan.axes for part in (axis.samples, axis.phases)), batch, plan.groups, plan.inputs * tiles)
    return x.permute(*range(0, 2 * n, 2), 2 * n, 2 * n + 1, *range(1, 2 * n, 2), 2 * n + 2)


def _transformed(
    x: Tensor, plan: MatrixPlan, counts: Sequence[int], firsts: Sequence[int], steps: Sequence[int]
) -> Tensor:
    """[*counts, columns] as [bins, columns]; sample n of axis i stands at firsts[i] + steps[i] n."""
    prefix, last = 1, len(plan.axes) - 1
    for i, (axis, *places) in enumerate(zip(plan.axes, counts, firsts, steps, strict=True)):
        x = axis.dft.analysis(x, prefix, *places, last=i == last)
        prefix *= axis.dft.bins
    return x


def _analysed(x: Tensor, plan: MatrixPlan) -> Tensor:
    """F x: [bins, columns]."""
    axes = plan.axes
    return _transformed(x, plan, [a.samples for a in axes], [-a.offset for a in axes], [-a.frames.spread for a in axes])


def _spectrum(weight: Tensor, plan: MatrixPlan, dilation: Sequence[int], groups: int, transposed: bool) -> Tensor:
    """S = F' w, scaled for the inverse: [bins, group out phase in]."""
    n, window = weight.dim() - 2, tuple(weight.shape[2:])
    if transposed:
        weight = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)
    w = weight.reshape(-1, math.prod(window)).t().reshape(*window, -1)
    if plan.phases > 1:
        w, dilation = _kernel_by_phases(w, plan, dilation), (1,) * n
    firsts = [d * (size - 1) if transposed else 0 for d, size in zip(dilation, w.shape, strict=False)]
    missing = tuple((0, -size % axis.dft.inner) for axis, size in zip(plan.axes, w.shape, strict=False))
    w = F.pad(w, (0, 0, *flat_padding(missing))) if any(pair != (0, 0) for pair in missing) else w
    w = _transformed(w, plan, w.shape[:n], firsts, [-d if transposed else d for d in dilation])
    others = math.prod(axis.dft.points for axis in plan.axes[1:])
    scale = torch.tensor([weight / others for weight in plan.axes[0].dft.weights()], dtype=w.dtype, device=w.device)
    return (w.reshape(len(scale), -1) * scale[:, None]).reshape(plan.bins, -1)


def _kernel_by_phases(w: Tensor, plan: MatrixPlan, dilation: Sequence[int]) -> Tensor:
    """[*taps, group out in] as [*taps of a phase, group out phase in], a dilated kernel stuffed with zeros."""
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


def _mixed(x: Tensor, spectrum: Tensor, plan: MatrixPlan, batch: int, tiles: int) -> Tensor:
    """S ⊙ F x: [bins, columns], channels of each bin mixed."""
    bins, groups = plan.bins, plan.groups
    if plan.channels_last:
        return x.reshape(bins, tiles * batch, groups) * spectrum.reshape(bins, 1, groups)
    if plan.depthwise:
        return x.reshape(bins, batch, groups, tiles) * spectrum.reshape(bins, 1, groups, 1)
    inputs = plan.phases * plan.inputs
    return spectrum.reshape(bins, 1, groups, plan.outputs, inputs) @ x.reshape(bins, batch, groups, inputs, tiles)


def _synthesised(y: Tensor, plan: MatrixPlan) -> Tensor:
    """G y: [kept outputs, columns]."""
    prefix, last = math.prod(axis.dft.bins for axis in plan.axes), len(plan.axes) - 1
    for i, axis in reversed(list(enumerate(plan.axes))):
        prefix //= axis.dft.bins
        y = axis.dft.synthesis(y, prefix, axis.kept, axis.frames.first, axis.frames.stride, last=i == last)
    return y


def _placed(y: Tensor, plan: MatrixPlan, batch: int, tiles: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """[kept outputs, columns] as [batch, channel, *sizes]."""
    n, kept, channels = len(plan.axes), [axis.kept for axis in plan.axes], plan.groups * plan.outputs
    y = y.reshape(math.prod(kept), -1).t()
    if any(not axis.frames.one_shot for axis in plan.axes):
        columns = (*tiles, batch, channels) if plan.channels_last else (batch, channels, *tiles)
        first = 0 if plan.channels_last else 2
        order = [n, n + 1] if plan.channels_last else [0, 1]
        order += [place for i in range(n) for place in (first + i, n + 2 + i)]
        y = y.reshape(*columns, *kept).permute(*order)
    y = y.reshape(batch, channels, *(tile * keep for tile, keep in zip(tiles, kept, strict=True)))
    for i, (axis, size) in enumerate(zip(plan.axes, sizes, strict=True)):
        if not axis.frames.one_shot or axis.kept != size:
            y = y.narrow(2 + i, 0, size)
    return y
