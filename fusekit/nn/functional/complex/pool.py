"""Pooling of complex tensors: means of the parts, and the sample of the largest modulus."""

import torch
from torch import Tensor

from fusekit.algebra.operators import ADAPTIVE_AVG_POOL, AVG_POOL
from fusekit.nn.arguments import Size
from fusekit.nn.functional.complex.parts import as_complex, as_real, on_channels
from fusekit.nn.functional.max_pool import longest


def complex_avg_pool(x: Tensor, n: int, kernel_size: Size, *arguments: object, **options: object) -> Tensor:
    """The mean of each window of `kernel_size` over n axes.

    Shapes: x [(N,) C, *S] complex with n axes S, y [(N,) C, *S']. Further `arguments` and `options` as those of
    `torch.nn.functional.avg_pool1d`, 2d and 3d. TypeError for a real x.
    """
    return on_channels(lambda real: AVG_POOL[n](real, kernel_size, *arguments, **options), x, n)


def complex_adaptive_avg_pool(x: Tensor, n: int, output_size: Size) -> Tensor:
    """The mean of each of `output_size` windows over n axes, as `torch.nn.functional.adaptive_avg_pool1d`, 2d and 3d.

    Shapes: x [(N,) C, *S] complex with n axes S, y [(N,) C, *output_size]. TypeError for a real x.
    """
    return on_channels(lambda real: ADAPTIVE_AVG_POOL[n](real, output_size), x, n)


def complex_max_pool(
    x: Tensor,
    n: int,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The sample with the largest modulus in each window over n axes, with its phase; the first one of equals.

    Shapes: x [(N,) C, *S] complex with n axes S, y [(N,) C, *S']; with `return_indices` (y, indices into a plane).
    `kernel_size`, `stride`, `padding`, `dilation`, `ceil_mode` as in `torch.nn.functional.max_pool1d`, 2d and 3d, and
    the same errors. The sample itself is returned, not computed from modulus and angle, so it is not rounded, and it
    gets the gradient.
    """
    parts = as_real(x)
    chosen, indices = longest(
        n, x.abs(), (parts[..., 0], parts[..., 1]), kernel_size, stride, padding, dilation, ceil_mode
    )
    y = as_complex(torch.stack(chosen, -1))
    return (y, indices) if return_indices else y
