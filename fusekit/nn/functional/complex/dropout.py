"""Dropout of complex numbers: one mask for both parts, so that a number is kept or dropped whole."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.nn.arguments import probability
from fusekit.nn.functional.complex.parts import as_real


def complex_dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes whole numbers with probability p and divides the rest by 1 - p: one mask for both parts, E y = x.

    x [*] complex; without `training` it is the identity; `inplace` writes into x. ValueError if p is not a probability.
    """
    return _masked(x, x.shape, p, inplace) if training else x


def complex_channel_dropout(x: Tensor, n: int, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes whole channels over n axes with probability p and divides the rest by 1 - p.

    x [(N,) C, *S] complex, S of n axes, else ValueError; `training` and `inplace` as of `complex_dropout`.
    """
    if training and x.ndim not in (n + 1, n + 2):
        raise ValueError(f"expected an input [C, *S] or [N, C, *S] with {n} spatial axes, got shape {list(x.shape)}")
    return _masked(x, (*x.shape[: x.ndim - n], *(1,) * n), p, inplace) if training else x


def _masked(x: Tensor, shape: Sequence[int], p: float, inplace: bool) -> Tensor:
    mask = F.dropout(torch.ones(shape, dtype=as_real(x).dtype, device=x.device), probability(p))
    return x.mul_(mask) if inplace else x * mask
