"""Rotations by unit quaternions: v ↦ q v q* on the imaginary part of x. The real part is ignored ("spinor" layers).

           [1 - 2(j² + k²)   2(ij - rk)       2(ik + rj)    ]
    R(q) = [2(ij + rk)       1 - 2(i² + k²)   2(jk - ri)    ]     q = w / |w|,   R(p q) = R(p) R(q),   R(q*) = R(q)ᵀ
           [2(ik - rj)       2(jk + ri)       1 - 2(i² + j²)]

Source: Parcollet 2019, "Quaternion neural networks" (thesis), chapter on spinor networks. A block of the real weight is
R(q) in the rows and columns i, j, k, and zero in row and column r. So the part r of the output is only its bias.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.nn.arguments import Size, one_of
from fusekit.nn.functional.hypercomplex import block_conv

# How w becomes q: w / |w|; w / (|w| + 1e-4); w / √(|w|² + 1e-4). With the last two |q| < 1, so R(q) is no rotation.
Norm = Literal["exact", "shifted", "softened"]


def unit_weight(weight: Tensor, norm: Norm = "exact") -> Tensor:
    """q from w [4, *], by one of the rules of `Norm`. With "exact", w = 0 gives q = 0, and R(0) is the identity."""
    if one_of(Norm, "norm", norm) == "exact":
        normalized: Tensor = F.normalize(weight, dim=0)
        return normalized
    squares = weight.square().sum(0)
    if norm == "shifted":
        return weight / (squares.sqrt() + 1e-4)
    return weight / (squares + 1e-4).sqrt()


def rotation_kernel(
    weight: Tensor, scale: Tensor | None = None, *, groups: int = 1, inverse: bool = False, norm: Norm = "exact"
) -> Tensor:
    """The real weight of v ↦ s q v q*, or of v ↦ s q* v q with `inverse`. q = w / |w|, by the rule `norm`.

    Shapes: `weight` w [4, out, in / groups, *window] -> [4 out, 4 in / groups, *window]; `scale` s [out, in / groups,
    *window], a learned factor of each rotation, or None for 1. `norm`: "exact", "shifted" or "softened", else
    ValueError.
    """
    r, i, j, k = unit_weight(weight, norm).unflatten(1, (groups, weight.shape[1] // groups)).unbind(0)
    if inverse:
        r = -r
    ii, jj, kk, ij, ik, jk = 2 * i * i, 2 * j * j, 2 * k * k, 2 * i * j, 2 * i * k, 2 * j * k
    ri, rj, rk = 2 * r * i, 2 * r * j, 2 * r * k
    zero = torch.zeros_like(r)
    rows = (
        (zero, zero, zero, zero),
        (zero, 1 - (jj + kk), ij - rk, ik + rj),
        (zero, ij + rk, 1 - (ii + kk), jk - ri),
        (zero, ik - rj, jk + ri, 1 - (ii + jj)),
    )
    kernel: Tensor = torch.cat([torch.cat(row, 2) for row in rows], 1).flatten(0, 1)
    if scale is None:
        return kernel
    blocks: Tensor = scale.unflatten(0, (groups, scale.shape[0] // groups))
    return kernel * torch.cat([torch.cat([blocks] * 4, 2)] * 4, 1).flatten(0, 1)


def quaternion_rotation_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    *,
    inverse: bool = False,
    norm: Norm = "exact",
) -> Tensor:
    """y_o = Σ_i s_oi q_oi x_i q_oi* + b_o; `inverse` and `norm` as of `rotation_kernel`.

    Shapes: x [*, 4 in], `weight` w [4, out, in], `scale` s [out, in], `bias` b [4 out]. speechbrain's
    `quaternion_linear_rotation_op` is the inverse rotation with norm "shifted". Source: Parcollet 2019, "Quaternion
    neural networks" (thesis).
    """
    return F.linear(x, rotation_kernel(weight, scale, inverse=inverse, norm=norm), bias)


def quaternion_rotation_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    stride: Size = 1,
    padding: str | Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    inverse: bool = False,
    norm: Norm = "exact",
) -> Tensor:
    """`quaternion_rotation_linear` at each tap of a window of 1 to 3 axes; otherwise as `torch.nn.functional.conv1d`.

    Shapes: x [(N,) 4 in, *S], `weight` w [4, out, in / groups, *window], `scale` s [out, in / groups, *window], `bias`
    [4 out]; `stride`, `padding`, `dilation`, `groups` as torch's. speechbrain's `quaternion_conv_rotation_op` is this
    with norm "softened".
    """
    kernel = rotation_kernel(weight, scale, groups=groups, inverse=inverse, norm=norm)
    return block_conv(x, weight.ndim - 3, kernel, bias, 4, stride, padding, dilation, groups)
