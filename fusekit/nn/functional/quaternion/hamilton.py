"""Quaternions in real tensors, and the block matrix of the Hamilton product.

    w = r + i **i** + j **j** + k **k**,  ij = k, jk = i, ki = j,  i² = j² = k² = -1

          [r -i -j -k]
    L(w) =[i  r -k  j]          (w x) = L(w) x,   L(v w) = L(v) L(w),   L(w*) = L(w)ᵀ
          [j  k  r -i]
          [k -j  i  r]

A tensor of C quaternions has 4 C channels in four blocks r | i | j | k, as in Parcollet et al. 2019, "Quaternion
recurrent neural networks" (arXiv:1806.04418). A layer's weight is one tensor [4, ...], the components first.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_quaternion_shape(shape: Sequence[int], dim: int = -1) -> int:
    """The number of quaternions along the axis `dim` of a `shape` such as [N, 4 C, *S], in blocks r | i | j | k.

    ValueError if there is no such axis, or if its size is not a multiple of 4.
    """
    if not -len(shape) <= dim < len(shape):
        raise ValueError(f"expected a shape with an axis {dim}, got {list(shape)}")
    return quaternions(int(shape[dim]), f"axis {dim} of a tensor of shape {list(shape)}")


def quaternions(count: int, name: str) -> int:
    """The number of quaternions in `count` real channels; ValueError if it is not a multiple of 4."""
    if count % 4 or count < 0:
        raise ValueError(f"{name}: expected a multiple of 4 (the blocks r | i | j | k), got {count}")
    return count // 4


def hamilton_product(a: Tensor, b: Tensor, dim: int = -1) -> Tensor:
    """a ⊗ b for tensors [*, 4 C, *] in blocks r | i | j | k along `dim`. The other axes are broadcast.

    ValueError if the size of the axis `dim` is not a multiple of 4.
    """
    for factor in (a, b):
        check_quaternion_shape(factor.shape, dim)
    ar, ai, aj, ak = a.chunk(4, dim)
    br, bi, bj, bk = b.chunk(4, dim)
    return torch.cat(
        [
            ar * br - ai * bi - aj * bj - ak * bk,
            ar * bi + ai * br + aj * bk - ak * bj,
            ar * bj - ai * bk + aj * br + ak * bi,
            ar * bk + ai * bj - aj * bi + ak * br,
        ],
        dim,
    )


def quaternion_conjugate(a: Tensor, dim: int = -1) -> Tensor:
    """a* = r - i **i** - j **j** - k **k** of a [*, 4 C, *] in blocks along `dim`; (a b)* = b* a*, and a a* = |a|²."""
    check_quaternion_shape(a.shape, dim)
    r, i, j, k = a.chunk(4, dim)
    return torch.cat([r, -i, -j, -k], dim)


def quaternion_modulus(a: Tensor, dim: int = -1) -> Tensor:
    """|a| = √(r² + i² + j² + k²) per quaternion: [*, 4 C, *] -> [*, C, *], C on the axis `dim`. |a b| = |a|
    |b|."""
    count = check_quaternion_shape(a.shape, dim)
    modulus: Tensor = torch.linalg.vector_norm(a.unflatten(dim, (4, count)), dim=dim - 1 if dim < 0 else dim)
    return modulus


def quaternion_normalize(a: Tensor, dim: int = -1, eps: float = 1e-12) -> Tensor:
    """a / max(|a|, eps) for each quaternion of a [*, 4 C, *], in blocks along `dim`: unit quaternions; 0 stays 0."""
    modulus = quaternion_modulus(a, dim).clamp_min(eps)
    return a / torch.cat([modulus] * 4, dim)


def hamilton_kernel(weight: Tensor, *, groups: int = 1, transposed: bool = False, conjugate: bool = False) -> Tensor:
    """The real weight of x ↦ w x (of x ↦ w* x with `conjugate`), in torch's layout. Each entry of w becomes a block
    L(w).

    Shapes: w [4, out, in / groups, *window] -> [4 out, 4 in / groups, *window]; transposed, w [4, in, out / groups,
    *window] -> [4 in, 4 out / groups, *window]. With groups the channels are [group, component, channel].
    """
    r, i, j, k = weight.unflatten(1, (groups, weight.shape[1] // groups)).unbind(0)
    if conjugate != transposed:  # the transpose of L(w) is L(w*)
        i, j, k = -i, -j, -k
    rows = ((r, -i, -j, -k), (i, r, -k, j), (j, k, r, -i), (k, -j, i, r))
    return torch.cat([torch.cat(row, 2) for row in rows], 1).flatten(0, 1)
