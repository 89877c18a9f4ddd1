"""Pooling of complex tensors: means of the parts, and the sample of the largest modulus."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.nn.functional.complex.parts import as_complex, as_real, on_channels

Size = int | Sequence[int]

_AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_ADAPTIVE: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}
_MAX: dict[int, Callable[..., tuple[Tensor, Tensor]]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def complex_avg_pool(x: Tensor, n: int, kernel_size: Size, *arguments: object, **options: object) -> Tensor:
    """The mean of each window over n axes; further arguments as `torch.nn.functional.avg_pool{n}d`."""
    return on_channels(lambda real: _AVERAGE[n](real, kernel_size, *arguments, **options), x, n)


def complex_adaptive_avg_pool(x: Tensor, n: int, output_size: Size) -> Tensor:
    """The mean of each of `output_size` windows over n axes, as `torch.nn.functional.adaptive_avg_pool{n}d`."""
    return on_channels(lambda real: _ADAPTIVE[n](real, output_size), x, n)


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
    """The sample of the largest modulus of each window, the first of equals, phase and all, over n axes.

    The sample itself is taken, not its modulus turned by its angle: no rounding, and a gradient of its own.
    """
    indices = _MAX[n](x.abs(), kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)[1]
    parts, where = as_real(x), indices.flatten(-n)
    chosen = [parts[..., part].flatten(-n).gather(-1, where) for part in (0, 1)]
    y = as_complex(torch.stack(chosen, -1).unflatten(-2, indices.shape[-n:]))
    return (y, indices) if return_indices else y
