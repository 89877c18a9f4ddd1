"""Convolution by torch.fft: frames -> transform -> mix channels bin by bin -> inverse -> the outputs that are kept.

    y = F⁻¹(Σ_i H[o, i] · F(x)[i]),   h[(first - u) mod N] = w[u]

`first` moves the outputs to the front of the frame, whatever the padding. Two ways to mix, by measurement: with up to
8 inputs a group, products of whole spectra, one input at a time; with more, one complex matrix product per bin, for
which the spectrum is stored [bins, group, in, out] and the signals are transposed there and back. Products of real
pairs, or three in place of four, were 1.4 to 3 times slower.

Without gradients the work is done in blocks of groups or frames that stay in the cache, up to 2 times faster than all
at once.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.map import Shape
from fusekit.algebra.pad import flat_padding
from fusekit.algebra.transforms.spectral import Plan

POINTWISE = 8
BLOCK = 1 << 19  # samples of a block, inputs and outputs together
SIDE_BY_SIDE = 8  # transforms of one axis a block holds at least: MKL computes a few at once in the time of one
FRAMES = 16  # frames of a block for which it is worth to stream a dense spectrum from memory


@dataclass(frozen=True)
class Transform:
    """A plan together with the channels of the convolution: `inputs` and `outputs` of each of `groups`."""

    plan: Plan
    groups: int
    outputs: int
    inputs: int

    @property
    def by_matrices(self) -> bool:
        """Whether channels are mixed by matrix products."""
        return self.inputs > POINTWISE

    def spectrum(self, kernel: Tensor) -> Tensor:
        """H for a kernel [g, out, in, *taps], in its precision: [g, out, in, *bins], for matrices [bins, g, in, out].

        The kernel is reversed, for the convolution is a correlation, and turned so that outputs begin at 0.
        """
        axes, window = self.plan.axes, kernel.shape[3:]
        dims = tuple(range(3, kernel.ndim))
        missing = tuple((0, axis.points - taps) for axis, taps in zip(axes, window, strict=True))
        shifts = tuple(1 - taps - axis.first for axis, taps in zip(axes, window, strict=True))
        placed = F.pad(kernel.flip(dims), flat_padding(missing)).roll(shifts, dims)
        h: Tensor = torch.fft.fftn(placed, dim=dims) if kernel.is_complex() else torch.fft.rfftn(placed, dim=dims)
        return h.flatten(3).permute(3, 0, 2, 1).contiguous() if self.by_matrices else h

    def __call__(self, x: Tensor, h: Tensor, sizes: Shape, bias: Tensor | None = None) -> Tensor:
        """The convolution of x [B, g·in, *size] with the kernel of spectrum h: [B, g·out, *sizes], contiguous.

        Gradients do not flow through it: it writes in place.
        """
        axes, channels = self.plan.axes, self.groups * self.outputs
        if x.numel() == 0:  # which MKL refuses
            return x.new_zeros(len(x), channels, *sizes)
        if self._one_shot and self._at_once(len(x), 1, 1) == (len(x), 1, self.groups):
            return self._whole(x, h, bias)
        frames = self._frames(x, sizes)
        tiles = tuple(frames.shape[1 : 1 + len(sizes)])
        y = x.new_empty(len(x), channels, *(tile * axis.keep for tile, axis in zip(tiles, axes, strict=True)))
        by_tile = y.view(
            len(x), channels, *(v for tile, axis in zip(tiles, axes, strict=True) for v in (tile, axis.keep))
        )
        self._fill(by_tile.permute(self._as_frames), frames, h, bias)
        for i, size in enumerate(sizes):
            y = y.narrow(2 + i, 0, size)
        return y.contiguous()

    def _whole(self, x: Tensor, h: Tensor, bias: Tensor | None) -> Tensor:
        """One frame, one block: nothing to cut, nothing to put together."""
        for i, axis in enumerate(self.plan.axes):
            if axis.samples != x.shape[2 + i]:
                x = x.narrow(2 + i, axis.start, axis.samples)
        y = self._circular(x, h)
        return y.contiguous() if bias is None else torch.add(y, bias.view(-1, *(1,) * self._n)).contiguous()

    @cached_property
    def _n(self) -> int:
        return len(self.plan.axes)

    @cached_property
    def _one_shot(self) -> bool:
        return all(axis.one_shot for axis in self.plan.axes)

    @property
    def _as_frames(self) -> tuple[int, ...]:
        """[B, C, tile, keep, tile, keep, ...] as [B, *tiles, C, *keep]."""
        n = self._n
        return (0, *(2 + 2 * i for i in range(n)), 1, *(3 + 2 * i for i in range(n)))

    def _frames(self, x: Tensor, sizes: Shape) -> Tensor:
        """x as [B, *tiles, C, *samples]: a view, or one of x padded."""
        axes, n = self.plan.axes, self._n
        padding = []
        for axis, size, outputs in zip(axes, x.shape[2:], sizes, strict=True):
            end = axis.start + (axis.count(outputs) - 1) * axis.step + axis.samples
            padding.append((-axis.start, end - size))
        if any(pair != (0, 0) for pair in padding):
            x = F.pad(x, flat_padding(tuple(padding)))
        for i, axis in enumerate(axes):
            x = x.unfold(2 + i, axis.samples, axis.step or 1)
        return x.permute(0, *range(2, 2 + n), 1, *range(2 + n, 2 + 2 * n))

    def _circular(self, frames: Tensor, h: Tensor) -> Tensor:
        """The circular convolution of each frame, [*leading, C, *samples] to [*leading, C, *keep]."""
        points, dims = self.plan.points, tuple(range(-self._n, 0))
        is_complex = frames.is_complex()
        spectra = (torch.fft.fftn if is_complex else torch.fft.rfftn)(frames, s=points, dim=dims)
        leading, bins = spectra.shape[: -1 - self._n], spectra.shape[-self._n :]
        spectra = spectra.reshape(math.prod(leading), -1, self.inputs, *bins)
        mixed = self._by_matrices(spectra, h) if self.by_matrices else _one_by_one(spectra, h)
        mixed = mixed.reshape(*leading, -1, *bins)
        y: Tensor = (torch.fft.ifftn if is_complex else torch.fft.irfftn)(mixed, s=points, dim=dims)
        for dim, axis in zip(dims, self.plan.axes, strict=True):
            y = y.narrow(dim, 0, axis.keep)
        return y

    def _by_matrices(self, spectra: Tensor, h: Tensor) -> Tensor:
        """[frames, g, in, *bins] to [frames, g, out, *bins] by products [frames, in] x [in, out], bin by bin."""
        count, groups, bins = spectra.shape[0], spectra.shape[1], spectra.shape[3:]
        by_bin = spectra.reshape(-1, math.prod(bins)).t().contiguous()
        by_bin = by_bin.reshape(-1, count, groups, self.inputs).transpose(1, 2).reshape(-1, count, self.inputs)
        mixed = torch.bmm(by_bin, h.reshape(-1, self.inputs, self.outputs))
        mixed = mixed.reshape(-1, groups, count, self.outputs).transpose(1, 2)
        mixed = mixed.reshape(-1, count * groups * self.outputs).t().contiguous()
        return mixed.reshape(count, groups, self.outputs, *bins)

    def _fill(self, placed: Tensor, frames: Tensor, h: Tensor, bias: Tensor | None) -> None:
        """Write the outputs block by block."""
        n, groups_at = self._n, 1 if self.by_matrices else 0
        every = (slice(None),) * (n - 1)
        images, tiles, rest = frames.shape[0], frames.shape[1], math.prod(frames.shape[2 : 1 + n])
        images_at_once, tiles_at_once, groups_at_once = self._at_once(images, tiles, rest)
        for first, last in _ranges(self.groups, groups_at_once):
            inputs = slice(first * self.inputs, last * self.inputs)
            outputs = slice(first * self.outputs, last * self.outputs)
            part = h.narrow(groups_at, first, last - first)
            shift = None if bias is None else bias[outputs].reshape(-1, *(1,) * n)
            for image in _ranges(images, images_at_once):
                for tile in _ranges(tiles, tiles_at_once):
                    at = (slice(*image), slice(*tile), *every)
                    y, target = self._circular(frames[(*at, inputs)], part), placed[(*at, outputs)]
                    target.copy_(y) if shift is None else torch.add(y, shift, out=target)

    def _at_once(self, images: int, tiles: int, rest: int) -> tuple[int, int, int]:
        """(images, tiles of the first axis, groups) of a block: groups first, so that each part of the spectrum is read
        once; `rest` is the number of tiles on the other axes."""
        samples = math.prod(self.plan.points) * (self.inputs + self.outputs)
        least, frames = SIDE_BY_SIDE if self._n == 1 else 1, max(1, images * tiles * rest)
        groups = min(self.groups, max(1, BLOCK // (frames * samples), -(-least // (frames * self.inputs))))
        least = FRAMES if self.by_matrices else -(-least // (groups * self.inputs))
        frames = max(least, BLOCK // (samples * groups))
        at_once = min(tiles, max(1, frames // rest))
        whole_images = min(images, max(1, frames // (rest * at_once)))
        return (whole_images if at_once == tiles else 1), at_once, groups

    def blocks(self, images: int, tiles: int) -> int:
        """About how many blocks the work is done in."""
        images_at_once, tiles_at_once, groups_at_once = self._at_once(images, tiles, 1)
        return -(-images // images_at_once) * -(-tiles // tiles_at_once) * -(-self.groups // groups_at_once)


def _ranges(total: int, at_once: int) -> list[tuple[int, int]]:
    """0 to total in equal parts, none larger than `at_once`."""
    parts = max(1, -(-total // at_once))
    return [(total * i // parts, total * (i + 1) // parts) for i in range(parts)]


def _one_by_one(spectra: Tensor, h: Tensor) -> Tensor:
    """Σ_i X[frame, g, i] · H[g, o, i]: one pass over the spectra an input."""
    if h.shape[1] == h.shape[2] == 1:
        return spectra.mul_(h[:, 0])
    total = spectra[:, :, None, 0] * h[:, :, 0]
    for i in range(1, h.shape[2]):
        total.addcmul_(spectra[:, :, None, i], h[:, :, i])
    return total
