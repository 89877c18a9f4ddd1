"""Functions on native complex tensors, computed as real functions of twice the width."""

from fusekit.nn.functional.complex.activation import cardioid, cprelu, crelu, csigmoid, ctanh, modrelu, zrelu
from fusekit.nn.functional.complex.dropout import complex_channel_dropout, complex_dropout
from fusekit.nn.functional.complex.norm import complex_batch_norm, complex_layer_norm, complex_normalize
from fusekit.nn.functional.complex.parts import apply_complex, interpolate_polar
from fusekit.nn.functional.complex.pool import complex_adaptive_avg_pool, complex_avg_pool, complex_max_pool
from fusekit.nn.functional.complex.product import (
    complex_conv1d,
    complex_conv2d,
    complex_conv3d,
    complex_conv_transpose1d,
    complex_conv_transpose2d,
    complex_conv_transpose3d,
    complex_linear,
)

__all__ = [
    "apply_complex",
    "cardioid",
    "complex_adaptive_avg_pool",
    "complex_avg_pool",
    "complex_batch_norm",
    "complex_channel_dropout",
    "complex_conv1d",
    "complex_conv2d",
    "complex_conv3d",
    "complex_conv_transpose1d",
    "complex_conv_transpose2d",
    "complex_conv_transpose3d",
    "complex_dropout",
    "complex_layer_norm",
    "complex_linear",
    "complex_max_pool",
    "complex_normalize",
    "cprelu",
    "crelu",
    "csigmoid",
    "ctanh",
    "interpolate_polar",
    "modrelu",
    "zrelu",
]
