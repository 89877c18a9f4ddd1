"""Transforms of frames as convolutions with constant filters, for runtimes without complex numbers.

    stft(x)[k, t]  = Σᵢ w[i] e^{-j2πki/n} x[t·hop + i]           one convolution with 2F filters of n taps, stride hop
    istft(Y)[i]    = Σₜ w[i - t·hop] (F⁻¹Y[·, t])[i - t·hop] / Σₜ w²[i - t·hop]        one transposed convolution of Y,
                                                                   one of ones: the envelope

The windows multiply constants and are folded into them. The length of the signal may vary. Definitions: torch.stft,
torch.istft.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.transforms.fourier import counted, wave
from fusekit.lower.linear import block
from fusekit.lower.pair import Pair, Part
from fusekit.lower.parts import facts_of, shape_of

Rule = Callable[..., Any]
Constant = Callable[[Tensor], Part]  # a tensor becomes a constant of the graph


def fourier(n: int, sign: int, rows: int | None = None) -> tuple[Tensor, Tensor]:
    """cos and sin of sign·2πki/n as [k, i], for the first `rows` frequencies k."""
    return wave(n, sign, torch.outer(torch.arange(n if rows is None else rows), torch.arange(n)))


def mirrored(n: int) -> Tensor:
    """[n//2 + 1, 1]: how often each frequency of a one-sided spectrum counts for a real signal: twice, except for
    frequencies 0 and n/2, which are their own mirror images."""
    return counted(n)[:, None]


def stft(
    constant: Constant,
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Any:
    """torch.stft: from [L] or [N, L] to [F, T] or [N, F, T], by a convolution whose filters contain the window.
    `constant` registers a tensor as a constant of the graph."""
    if align_to_window:
        raise TypeError("frames aligned to the window are not supported")
    z, alone = Pair.of(input), len(shape_of(input)) == 1
    real = z.im is None and not isinstance(input, Pair)
    rows = n_fft // 2 + 1 if real and onesided is not False else n_fft
    width = n_fft if win_length is None else win_length
    cos, sin = (m * (n_fft**-0.5 if normalized else 1.0) for m in fourier(n_fft, -1, rows))
    dtype = _dtype(z)
    taper = _window(window, width, n_fft, dtype)
    bank = Pair(*(_of_dtype(constant(m.unsqueeze(1)), dtype, taper) for m in (cos, sin)))

    def framed(part: Part) -> Part:
        rows = part.unsqueeze(0).unsqueeze(0) if alone else part.unsqueeze(1)
        return F.pad(rows, (n_fft // 2, n_fft // 2), pad_mode) if center else rows

    def filtered(x: Any, w: Any, b: Any) -> Any:
        return F.conv1d(x, w, b, stride=n_fft // 4 if hop_length is None else hop_length)

    result = block(filtered, z.map(framed), bank, None, -2)
    result = result.map(lambda part: part.squeeze(0)) if alone else result
    return result if return_complex or return_complex is None else torch.stack(list(result.full()), -1)


def istft(
    constant: Constant,
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: Any = None,
    return_complex: bool = False,
) -> Any:
    """torch.istft: from [F, T] or [N, F, T] to [L] or [N, L]; entries after the last frame are 0. `constant` registers
    a tensor as a constant of the graph."""
    z, shape = Pair.of(input), shape_of(input)
    alone, hop = len(shape) == 2, n_fft // 4 if hop_length is None else hop_length
    half = n_fft // 2 + 1
    rows = half if (onesided if onesided is not None else shape[-2] != n_fft) else n_fft
    if onesided and return_complex:
        raise TypeError("a one-sided spectrum has no complex signal")
    dtype = _dtype(z)
    if rows == n_fft and not return_complex:  # of two sides, torch reads the first alone, and takes it for both
        z, rows = z.map(lambda part: part.narrow(-2, 0, half)), half
    width = n_fft if win_length is None else win_length
    cos, sin = (m * (n_fft**-0.5 if normalized else 1 / n_fft) for m in fourier(n_fft, 1, rows))
    if not return_complex:
        cos, sin = cos * mirrored(n_fft), sin * mirrored(n_fft)
    taper = _window(window, width, n_fft, dtype)
    re, im = z.map(lambda part: part.unsqueeze(0) if alone else part).full()

    def overlapped(frames: Part, *bank: Tensor) -> Part:
        kernel = _of_dtype(constant(torch.cat(bank).unsqueeze(1)), dtype, taper)
        return F.conv_transpose1d(frames, kernel, None, hop)

    planar = torch.cat([re, im], -2)
    signal = Pair(overlapped(planar, cos, -sin), overlapped(planar, sin, cos) if return_complex else None)
    ones = torch.ones_like(re[:1, :1])
    squared = _of_dtype(constant(torch.ones(1, 1, n_fft, dtype=torch.float64)), dtype, taper, taper)
    envelope = F.conv_transpose1d(ones, squared, None, hop)
    start = n_fft // 2 if center else 0
    stop = start + length if length is not None else -(n_fft // 2) if center else None

    envelope = envelope[..., start:stop]
    missing = _missing(length, start, n_fft, hop, shape[-1])

    def finished(part: Part) -> Part:
        kept = (part[..., start:stop] / envelope).squeeze(-2)
        kept = F.pad(kept, (0, missing)) if missing else kept
        return kept.squeeze(0) if alone else kept

    result = signal.map(finished)
    return result if return_complex else result.re


def _missing(length: Any, start: int, n: int, hop: int, frames: int | None) -> int:
    """The number of entries after the last frame; 0 if the length or the number of frames is not fixed."""
    if not isinstance(length, int) or frames is None:
        return 0
    return max(0, start + length - (n + hop * (frames - 1)))


def _dtype(z: Pair) -> torch.dtype:
    dtype = facts_of(z.re if z.re is not None else z.im).dtype
    if dtype is None:
        raise TypeError("the dtype of its input is not known")
    return dtype


def _window(window: Any, width: int, n: int, dtype: torch.dtype) -> Part:
    """The window as [n], with zeros on both sides of a shorter one; None if all entries are 1."""
    if isinstance(window, Pair):
        if window.im is not None:
            raise TypeError("a complex window is not supported")
        window = window.re
    left = (n - width) // 2
    if window is None:
        return None if width == n else F.pad(torch.ones(width, dtype=dtype), (left, n - width - left))
    return window if width == n else F.pad(window, (left, n - width - left))


def _of_dtype(matrix: Part, dtype: torch.dtype, *tapers: Part) -> Part:
    """A double-precision matrix rounded to `dtype`, times the windows `tapers`."""
    matrix = matrix.to(dtype)
    for taper in tapers:
        matrix = matrix if taper is None else matrix * taper
    return matrix


TRANSFORMS: dict[str, Rule] = {"stft": stft, "istft": istft}
