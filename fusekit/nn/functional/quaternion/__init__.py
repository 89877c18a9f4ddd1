"""Functions on quaternions in real tensors of blocks r | i | j | k."""

from fusekit.nn.functional.quaternion.dropout import quaternion_dropout
from fusekit.nn.functional.quaternion.hamilton import (
    check_quaternion_shape,
    hamilton_kernel,
    hamilton_product,
    quaternion_conjugate,
    quaternion_modulus,
    quaternion_normalize,
)
from fusekit.nn.functional.quaternion.norm import quaternion_batch_norm
from fusekit.nn.functional.quaternion.pool import quaternion_max_pool
from fusekit.nn.functional.quaternion.product import (
    QuaternionLinearFunction,
    quaternion_conv,
    quaternion_conv_transpose,
    quaternion_linear,
    quaternion_linear_lean,
)
from fusekit.nn.functional.quaternion.renorm import quaternion_renorm, quaternion_renorm_
from fusekit.nn.functional.quaternion.rotation import (
    quaternion_rotation_conv,
    quaternion_rotation_linear,
    rotation_kernel,
)

__all__ = [
    "QuaternionLinearFunction",
    "check_quaternion_shape",
    "hamilton_kernel",
    "hamilton_product",
    "quaternion_batch_norm",
    "quaternion_conjugate",
    "quaternion_conv",
    "quaternion_conv_transpose",
    "quaternion_dropout",
    "quaternion_linear",
    "quaternion_linear_lean",
    "quaternion_max_pool",
    "quaternion_modulus",
    "quaternion_normalize",
    "quaternion_renorm",
    "quaternion_renorm_",
    "quaternion_rotation_conv",
    "quaternion_rotation_linear",
    "rotation_kernel",
]
