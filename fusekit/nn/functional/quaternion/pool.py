"""Max pooling by modulus: the whole quaternion with the largest modulus in each window."""

import torch
from torch import Tensor

from fusekit.nn.arguments import Size
from fusekit.nn.functional.max_pool import longest


def quaternion_max_pool(
    x: Tensor,
    n: int,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The whole quaternion with the largest modulus in each window over n axes; the first one of equals.

    Shapes: x [(N,) 4 C, *S] in blocks r | i | j | k with n axes S, y [(N,) 4 C, *S']. `kernel_size`, `stride`,
    `padding`, `dilation`, `ceil_mode` as in `torch.nn.functional.max_pool1d`, 2d and 3d; so are the errors. Source:
    Altamirano, "Geometric methods of perceptual organisation for computer vision".
    """
    r, i, j, k = x.unflatten(-n - 1, (4, -1)).unbind(-n - 2)
    squares = r * r + i * i + j * j + k * k
    return torch.cat(longest(n, squares, (r, i, j, k), kernel_size, stride, padding, dilation, ceil_mode)[0], -n - 1)
