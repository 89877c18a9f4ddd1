"""Max pooling by modulus: of each window the whole quaternion that is longest, not the largest of each component."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.nn.functional.hypercomplex import Size

_MAX_POOL: dict[int, Callable[..., tuple[Tensor, Tensor]]] = {
    1: F.max_pool1d_with_indices,
    2: F.max_pool2d_with_indices,
    3: F.max_pool3d_with_indices,
}


def quaternion_max_pool(
    x: Tensor,
    n: int,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Over n axes of x [(N,) 4 C, *S] in blocks r | i | j | k; of equal moduli the first. Source: Altamirano,
    "Geometric methods of perceptual organisation for computer vision"."""
    r, i, j, k = x.unflatten(-n - 1, (4, -1)).unbind(-n - 2)
    squares = r * r + i * i + j * j + k * k
    _, where = _MAX_POOL[n](squares, kernel_size, stride, padding, dilation, ceil_mode)
    index = where.flatten(-n)
    taken = [component.flatten(-n).gather(-1, index).reshape_as(where) for component in (r, i, j, k)]
    return torch.cat(taken, -n - 1)
