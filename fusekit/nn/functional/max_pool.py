"""Max pooling of numbers with several components: the number with the largest modulus in each window, as a whole."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

_MAX_POOL: dict[int, Callable[..., tuple[Tensor, Tensor]]] = {
    1: F.max_pool1d_with_indices,
    2: F.max_pool2d_with_indices,
    3: F.max_pool3d_with_indices,
}


def longest(n: int, lengths: Tensor, components: Sequence[Tensor], *geometry: Any) -> tuple[list[Tensor], Tensor]:
    """Take the components, each [*, *S] like `lengths`, at the position of the largest length in each window over n
    axes; the first one if several are equal. Also returns the indices of torch's max_pool. `geometry`: kernel_size,
    stride, padding, dilation, ceil_mode."""
    _, where = _MAX_POOL[n](lengths, *geometry)
    index = where.flatten(-n)
    return [component.flatten(-n).gather(-1, index).reshape_as(where) for component in components], where
