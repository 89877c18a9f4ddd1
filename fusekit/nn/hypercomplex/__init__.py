"""Layers over any hypercomplex algebra."""

from fusekit.nn.hypercomplex.layers import (
    HypercomplexConv1d,
    HypercomplexConv2d,
    HypercomplexConv3d,
    HypercomplexConvTranspose1d,
    HypercomplexConvTranspose2d,
    HypercomplexConvTranspose3d,
    HypercomplexLinear,
)

__all__ = [
    "HypercomplexConv1d",
    "HypercomplexConv2d",
    "HypercomplexConv3d",
    "HypercomplexConvTranspose1d",
    "HypercomplexConvTranspose2d",
    "HypercomplexConvTranspose3d",
    "HypercomplexLinear",
]
