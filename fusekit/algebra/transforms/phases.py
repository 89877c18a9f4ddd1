"""Stride, dilation and transposition by polyphase rearrangement: what is left is a convolution of stride 1.

    stride s:       y[m] = Σ_r Σ_v w[s v + r] x[s (m + v) + r]      the s phases of x are s times the input channels
    dilation d:     y[d m + r] = Σ_u w[u] x[d (m + u) + r]          the d phases of x are d times the batch
    transposed:     y[s q + r] = Σ_v w[s v + r] x[q - v]            the s phases of y are s times the output channels

Nothing is computed that is not kept, transforms are s or d times smaller, and a dilated kernel is not stuffed with
zeros unless s and d are coprime and both exceed 1. Of samples that a common factor of s and d skips, none is read.
Source: P. P. Vaidyanathan, Multirate Systems and Filter Banks, chapter 4.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.pad import flat_padding


@dataclass(frozen=True)
class Phases:
    """One axis. `taps`, `size`, `low`, `high`: the unit convolution that is left. x is padded to `before` zeros in
    front and `spread` samples in all, of which one in `gap` counts, and dealt to `inputs` channels and `batch` images;
    the kernel's taps lie `stuffing` apart and, in transposed convolutions, feed `outputs` channels. Of the outputs,
    phases interleaved, `kept` from `skipped` on are the result."""

    taps: int
    size: int
    low: int
    high: int
    kept: int
    before: int = 0
    gap: int = 1
    inputs: int = 1
    batch: int = 1
    outputs: int = 1
    stuffing: int = 1
    skipped: int = 0

    @property
    def deals(self) -> bool:
        """Whether x is rearranged at all."""
        return self.gap * self.inputs * self.batch > 1

    @classmethod
    def of(cls, size: int, taps: int, stride: int, dilation: int, low: int, high: int) -> "Phases":
        """Of a convolution; the padding of one without stride and dilation is left to the frames."""
        kept = (size + low + high - dilation * (taps - 1) - 1) // stride + 1
        gap = math.gcd(stride, dilation) if taps > 1 else stride
        inputs, steps = stride // gap, dilation // gap if taps > 1 else 1
        if gap == inputs == steps == 1:
            return cls(taps, size, low, high, kept)
        batch, stuffing = (steps, 1) if inputs == 1 else (1, steps)
        taps = -(-(stuffing * (taps - 1) + 1) // inputs)
        size = -(-kept // batch) + taps - 1
        return cls(taps, size, 0, 0, kept, low, gap, inputs, batch, 1, stuffing)

    @classmethod
    def transposed(
        cls, size: int, taps: int, stride: int, dilation: int, low: int, high: int, output_padding: int
    ) -> "Phases":
        """Of a transposed convolution, with its kernel reversed; its padding crops the outputs."""
        reach = dilation * (taps - 1)
        if stride == 1:
            return cls.of(size, taps, 1, dilation, reach - low, reach - high + output_padding)
        kept = (size - 1) * stride + reach + 1 - low - high + output_padding
        taps = reach // stride + 1
        first, last = low // stride, (low + kept - 1) // stride
        before = taps - 1 - first
        after = last - first + taps - size - before
        return cls(taps, size, before, after, kept, 0, 1, 1, 1, stride, dilation, low - stride * first)


def deal(x: Tensor, axes: Sequence[Phases]) -> Tensor:
    """x [B, g·I, *size] as [B · batches, g · I · inputs, *unit sizes]."""
    if not any(axis.deals for axis in axes):
        return x
    padding: list[tuple[int, int]] = []
    for axis, size in zip(axes, x.shape[2:], strict=True):
        spread = axis.gap * axis.inputs * axis.batch * axis.size
        padding.append((axis.before, spread - size - axis.before) if axis.deals else (0, 0))
    n, batch, channels = len(axes), x.shape[0], x.shape[1]
    x = F.pad(x, flat_padding(tuple(padding)))
    x = x.reshape(batch, channels, *(part for a in axes for part in (a.size, a.inputs * a.batch, a.gap)))
    for i in range(n):
        x = x.select(4 + 2 * i, 0)  # the gap of axis i; those of earlier axes are gone
    phases = tuple(3 + 2 * i for i in range(n))
    images = [p for p, a in zip(phases, axes, strict=True) if a.batch > 1]
    inputs = [p for p in phases if p not in images]
    x = x.permute(0, *images, 1, *inputs, *(2 + 2 * i for i in range(n)))
    sizes = tuple(axis.size for axis in axes)
    return x.reshape(batch * math.prod(a.batch for a in axes), channels * math.prod(a.inputs for a in axes), *sizes)


def deal_kernel(kernel: Tensor, axes: Sequence[Phases], transposed: bool) -> Tensor:
    """The kernel [g, out, in, *window] of the unit convolution: taps dealt to the phases of inputs or outputs.

    A transposed convolution's is reversed: the unit convolution is a correlation like all.
    """
    n = len(axes)
    for i, axis in enumerate(axes):
        if axis.stuffing > 1:
            kernel = F.pad(kernel.unsqueeze(4 + i), (0, 0) * (n - 1 - i) + (0, axis.stuffing - 1)).flatten(3 + i, 4 + i)
            kernel = kernel.narrow(3 + i, 0, kernel.shape[3 + i] - axis.stuffing + 1)
    folds = tuple(axis.inputs * axis.outputs for axis in axes)
    if math.prod(folds) == 1:
        return kernel.flip(tuple(range(3, 3 + n))) if transposed else kernel
    missing = tuple((0, a.taps * f - k) for a, f, k in zip(axes, folds, kernel.shape[3:], strict=True))
    groups, out, inputs = kernel.shape[:3]
    kernel = F.pad(kernel, flat_padding(missing))
    kernel = kernel.reshape(
        groups, out, inputs, *(part for a, f in zip(axes, folds, strict=True) for part in (a.taps, f))
    )
    taps, phases = tuple(3 + 2 * i for i in range(n)), tuple(4 + 2 * i for i in range(n))
    window = tuple(axis.taps for axis in axes)
    if transposed:
        kernel = kernel.permute(0, 1, *phases, 2, *taps).reshape(groups, out * math.prod(folds), inputs, *window)
        return kernel.flip(tuple(range(3, 3 + n)))
    return kernel.permute(0, 1, 2, *phases, *taps).reshape(groups, out, inputs * math.prod(folds), *window)


def gather(y: Tensor, axes: Sequence[Phases]) -> Tensor:
    """The unit convolution's output as the convolution's: phases of images and of outputs interleaved, then cropped."""
    n = len(axes)
    folds = tuple(axis.batch * axis.outputs for axis in axes)
    if math.prod(folds) > 1:
        images, outputs = [a.batch for a in axes if a.batch > 1], [a.outputs for a in axes if a.batch == 1]
        batch = y.shape[0] // math.prod(images)
        channels = y.shape[1] // math.prod(outputs)
        sizes = y.shape[2:]
        y = y.reshape(batch, *images, channels, *outputs, *sizes)
        # where the phase of each axis stands: among the images or among the outputs
        early = iter(range(1, 1 + len(images)))
        late = iter(range(2 + len(images), 2 + n))
        phases = [next(early) if a.batch > 1 else next(late) for a in axes]
        interleaved = (place for i in range(n) for place in (2 + n + i, phases[i]))
        y = y.permute(0, 1 + len(images), *interleaved)
        y = y.reshape(batch, channels, *(size * fold for size, fold in zip(sizes, folds, strict=True)))
    for i, axis in enumerate(axes):
        if axis.skipped or y.shape[2 + i] != axis.kept:
            y = y.narrow(2 + i, axis.skipped, axis.kept)
    return y
