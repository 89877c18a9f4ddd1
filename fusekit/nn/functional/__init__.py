"""Functions beside those of torch.nn.functional, with the signatures of their namesakes there."""

from fusekit.nn.functional.fft import (
    fft_conv1d,
    fft_conv2d,
    fft_conv3d,
    fft_conv_transpose1d,
    fft_conv_transpose2d,
    fft_conv_transpose3d,
)

__all__ = [
    "fft_conv1d",
    "fft_conv2d",
    "fft_conv3d",
    "fft_conv_transpose1d",
    "fft_conv_transpose2d",
    "fft_conv_transpose3d",
]
