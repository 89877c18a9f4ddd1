"""Quaternion layers on real tensors in blocks r | i | j | k."""

from fusekit.nn.quaternion.convolution import (
    QuaternionConv1d,
    QuaternionConv2d,
    QuaternionConv3d,
    QuaternionConvTranspose1d,
    QuaternionConvTranspose2d,
    QuaternionConvTranspose3d,
)
from fusekit.nn.quaternion.dropout import QuaternionDropout
from fusekit.nn.quaternion.light import QuaternionLiGRU
from fusekit.nn.quaternion.linear import QuaternionLinear
from fusekit.nn.quaternion.normalization import QuaternionBatchNorm
from fusekit.nn.quaternion.pooling import QuaternionMaxPool1d, QuaternionMaxPool2d, QuaternionMaxPool3d
from fusekit.nn.quaternion.recurrent import QuaternionGRU, QuaternionLSTM, QuaternionRNN
from fusekit.nn.quaternion.rotation import (
    QuaternionRotationConv1d,
    QuaternionRotationConv2d,
    QuaternionRotationConv3d,
    QuaternionRotationLinear,
)

__all__ = [
    "QuaternionBatchNorm",
    "QuaternionConv1d",
    "QuaternionConv2d",
    "QuaternionConv3d",
    "QuaternionConvTranspose1d",
    "QuaternionConvTranspose2d",
    "QuaternionConvTranspose3d",
    "QuaternionDropout",
    "QuaternionGRU",
    "QuaternionLSTM",
    "QuaternionLiGRU",
    "QuaternionLinear",
    "QuaternionMaxPool1d",
    "QuaternionMaxPool2d",
    "QuaternionMaxPool3d",
    "QuaternionRNN",
    "QuaternionRotationConv1d",
    "QuaternionRotationConv2d",
    "QuaternionRotationConv3d",
    "QuaternionRotationLinear",
]
