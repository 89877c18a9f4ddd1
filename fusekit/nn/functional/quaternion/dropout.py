"""Dropout of whole quaternions: one mask for the four components."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.nn.arguments import probability
from fusekit.nn.functional.quaternion.hamilton import check_quaternion_shape


def quaternion_dropout(x: Tensor, p: float = 0.5, training: bool = True, dim: int = 1) -> Tensor:
    """Zeroes whole quaternions with probability p and divides the rest by 1 - p, so that E y = x.

    x [N, 4 C, *S] is in blocks r | i | j | k along `dim`. Without `training` it is the identity. One mask for all four
    components keeps the direction of each quaternion. ValueError if p is not a probability.
    """
    if probability(p) == 0 or not training:
        return x
    quaternions = check_quaternion_shape(x.shape, dim)
    mask = F.dropout(torch.ones_like(x.narrow(dim, 0, quaternions)), p)
    return x * torch.cat([mask] * 4, dim)
