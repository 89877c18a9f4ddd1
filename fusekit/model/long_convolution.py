"""Computes long convolutions in float64 by one plain FFT, for the checks. torch's direct kernel is slow for them, or
needs very much memory (184 GB in one case).

    y = F⁻¹(F(x) · conj F(K))[: N - span + 1]      circular over N points; these outputs are free of wrap-around

This is an independent reference: it uses none of fusekit's transform code, so an error there cannot hide itself.
The error is about 1e-15 of the largest value. Source: Oppenheim and Schafer, Discrete-Time Signal Processing, 8.7.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

TAPS = 128  # windows with fewer taps are left to torch
MACS = 20_000_000  # below this, torch's direct convolution is fast enough
SPECTRUM_BYTES = 1 << 30  # if the spectra need more memory, the convolution is left to torch


class LongConvolutions(TorchDispatchMode):
    """While this mode is active, long convolutions in float64 are computed by FFT."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten.convolution.default and not kwargs and _is_long(*args):
            return by_transforms(*args)
        return func(*args, **(kwargs or {}))


def _is_long(x: Tensor, weight: Tensor, bias: object, stride: list[int], *geometry: Any) -> bool:
    padding, dilation, transposed, _, _ = geometry
    if transposed or x.dtype != torch.float64 or math.prod(weight.shape[2:]) < TAPS:
        return False
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    sizes = [size + 2 * p for size, p in zip(x.shape[2:], padding, strict=True)]
    outputs = [(size - span) // s + 1 for size, span, s in zip(sizes, spans, stride, strict=True)]
    if x.numel() == 0 or min(outputs) < 1 or len(x) * math.prod(outputs) * weight.numel() < MACS:
        return False
    bins = 16 * math.prod(map(_smooth, sizes)) // 2
    return bins * max(weight.shape[0] * weight.shape[1], len(x) * max(x.shape[1], weight.shape[0])) <= SPECTRUM_BYTES


def by_transforms(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor:
    """aten.convolution of a real x [B, C, *size]; the convolution is not transposed."""
    axes = tuple(range(-len(stride), 0))
    x = F.pad(x, [p for amount in reversed(padding) for p in (amount, amount)])
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    spread = weight.new_zeros(*weight.shape[:2], *spans)
    taps: Any = (..., *(slice(None, None, d) for d in dilation))
    spread[taps] = weight
    points = [_smooth(size) for size in x.shape[2:]]
    ours = torch.fft.rfftn(x, points, axes).unflatten(1, (groups, -1))
    # conj() only sets a flag, which operators ignore inside a dispatch mode; conj_physical computes the values
    theirs = torch.conj_physical(torch.fft.rfftn(spread, points, axes)).unflatten(0, (groups, -1))
    mixed = torch.einsum("bgi...,goi...->bgo...", ours, theirs).flatten(1, 2)
    ends = zip(x.shape[2:], spans, stride, strict=True)
    kept: Any = (..., *(slice(0, size - span + 1, step) for size, span, step in ends))
    y: Tensor = torch.fft.irfftn(mixed, points, axes)[kept]
    return (y if bias is None else y + bias.reshape(-1, *(1,) * len(stride))).contiguous()


def _smooth(size: int) -> int:
    """The smallest even number >= size whose prime factors are 2, 3 and 5."""
    size += size % 2
    while True:
        left = size
        for prime in (2, 3, 5):
            while left % prime == 0:
                left //= prime
        if left == 1:
            return size
        size += 2
