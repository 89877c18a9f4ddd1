"""Layers on native complex tensors, with the constructors of torch.nn."""

from fusekit.nn.complex.activation import Cardioid, CPReLU, CReLU, CSigmoid, CTanh, ModReLU, ZReLU
from fusekit.nn.complex.batchnorm import ComplexBatchNorm1d, ComplexBatchNorm2d, ComplexBatchNorm3d
from fusekit.nn.complex.cell import ComplexGRUCell, ComplexLSTMCell
from fusekit.nn.complex.convolution import (
    ComplexConv1d,
    ComplexConv2d,
    ComplexConv3d,
    ComplexConvTranspose1d,
    ComplexConvTranspose2d,
    ComplexConvTranspose3d,
)
from fusekit.nn.complex.dropout import ComplexDropout, ComplexDropout1d, ComplexDropout2d, ComplexDropout3d
from fusekit.nn.complex.layer import ComplexLayer
from fusekit.nn.complex.layernorm import ComplexLayerNorm
from fusekit.nn.complex.linear import ComplexLinear
from fusekit.nn.complex.naive_batchnorm import (
    NaiveComplexBatchNorm1d,
    NaiveComplexBatchNorm2d,
    NaiveComplexBatchNorm3d,
)
from fusekit.nn.complex.naive_recurrent import NaiveComplexGRU, NaiveComplexLSTM
from fusekit.nn.complex.pooling import (
    ComplexAdaptiveAvgPool1d,
    ComplexAdaptiveAvgPool2d,
    ComplexAdaptiveAvgPool3d,
    ComplexAvgPool1d,
    ComplexAvgPool2d,
    ComplexAvgPool3d,
    ComplexMaxPool1d,
    ComplexMaxPool2d,
    ComplexMaxPool3d,
    ComplexUpsample,
)
from fusekit.nn.complex.recurrent import ComplexGRU, ComplexLSTM

__all__ = [
    "CPReLU",
    "CReLU",
    "CSigmoid",
    "CTanh",
    "Cardioid",
    "ComplexAdaptiveAvgPool1d",
    "ComplexAdaptiveAvgPool2d",
    "ComplexAdaptiveAvgPool3d",
    "ComplexAvgPool1d",
    "ComplexAvgPool2d",
    "ComplexAvgPool3d",
    "ComplexBatchNorm1d",
    "ComplexBatchNorm2d",
    "ComplexBatchNorm3d",
    "ComplexConv1d",
    "ComplexConv2d",
    "ComplexConv3d",
    "ComplexConvTranspose1d",
    "ComplexConvTranspose2d",
    "ComplexConvTranspose3d",
    "ComplexDropout",
    "ComplexDropout1d",
    "ComplexDropout2d",
    "ComplexDropout3d",
    "ComplexGRU",
    "ComplexGRUCell",
    "ComplexLSTM",
    "ComplexLSTMCell",
    "ComplexLayer",
    "ComplexLayerNorm",
    "ComplexLinear",
    "ComplexMaxPool1d",
    "ComplexMaxPool2d",
    "ComplexMaxPool3d",
    "ComplexUpsample",
    "ModReLU",
    "NaiveComplexBatchNorm1d",
    "NaiveComplexBatchNorm2d",
    "NaiveComplexBatchNorm3d",
    "NaiveComplexGRU",
    "NaiveComplexLSTM",
    "ZReLU",
]
