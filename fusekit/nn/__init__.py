"""Layers that torch.nn does not have: layers to build networks with, and layers that optimized programs consist of.

Knows torch.nn and the algebra. Must not know graphs, or how a layer was found in one.
"""

from fusekit.nn import complex as _complex
from fusekit.nn import hypercomplex as _hypercomplex
from fusekit.nn import quaternion as _quaternion
from fusekit.nn.bordered import BorderedConv1d, BorderedConv2d, BorderedConv3d
from fusekit.nn.complex import *  # noqa: F403
from fusekit.nn.fft import (
    FFTConv1d,
    FFTConv2d,
    FFTConv3d,
    FFTConvTranspose1d,
    FFTConvTranspose2d,
    FFTConvTranspose3d,
)
from fusekit.nn.guard import ShapeGuard
from fusekit.nn.hypercomplex import *  # noqa: F403
from fusekit.nn.quaternion import *  # noqa: F403

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
__all__ += _complex.__all__
__all__ += _hypercomplex.__all__
__all__ += _quaternion.__all__
