"""The layers of `fusekit.nn` as functions."""

from fusekit.nn.functional import complex as _complex
from fusekit.nn.functional import quaternion as _quaternion
from fusekit.nn.functional.complex import *  # noqa: F403
from fusekit.nn.functional.fft import (
    fft_conv1d,
    fft_conv2d,
    fft_conv3d,
    fft_conv_transpose1d,
    fft_conv_transpose2d,
    fft_conv_transpose3d,
)
from fusekit.nn.functional.hypercomplex import (
    hypercomplex_conv,
    hypercomplex_conv_transpose,
    hypercomplex_linear,
)
from fusekit.nn.functional.quaternion import *  # noqa: F403

__all__ = [
    "fft_conv1d",
    "fft_conv2d",
    "fft_conv3d",
    "fft_conv_transpose1d",
    "fft_conv_transpose2d",
    "fft_conv_transpose3d",
    "hypercomplex_conv",
    "hypercomplex_conv_transpose",
    "hypercomplex_linear",
]
__all__ += _complex.__all__
__all__ += _quaternion.__all__
