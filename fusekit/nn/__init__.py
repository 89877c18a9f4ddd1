"""Layers that an optimized program is built from, beside those of torch.nn."""

from fusekit.nn.bordered import BorderedConv1d, BorderedConv2d, BorderedConv3d
from fusekit.nn.fft import (
    FFTConv1d,
    FFTConv2d,
    FFTConv3d,
    FFTConvTranspose1d,
    FFTConvTranspose2d,
    FFTConvTranspose3d,
)
from fusekit.nn.guard import ShapeGuard

__all__ = [
    "BorderedConv1d",
    "BorderedConv2d",
    "BorderedConv3d",
    "FFTConv1d",
    "FFTConv2d",
    "FFTConv3d",
    "FFTConvTranspose1d",
    "FFTConvTranspose2d",
    "FFTConvTranspose3d",
    "ShapeGuard",
]
