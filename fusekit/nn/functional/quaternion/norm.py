"""Batch norm of quaternions, with a mean for each component and one variance for all four.

    y = γ (x - μ) / √(σ² + eps) + β,    μ = E x,   σ² = E |x - μ|² = the variances of the four components, added up

The direction of x - μ does not change. Source: Yin et al. 2019, "Quaternion convolutional neural network for color
image classification and forensics" (IEEE Access 7). Because σ² is a sum, each component of y has a variance near γ² /
4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.nn.functional.quaternion.hamilton import check_quaternion_shape


def quaternion_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Statistics are over the batch and all positions of x [N, 4 C, *S]. Shapes: running_mean, bias (β) [4 C];
    running_var, weight (γ) [C].

    In training the running statistics are updated in place by `momentum`, with the unbiased variance, as in torch.
    `eps` is added to the variance. ValueError for one value per channel in training. In evaluation it is a real batch
    norm, and folds into the layer before it.
    """
    if training or running_mean is None or running_var is None:
        return _by_batch(x, running_mean, running_var, weight, bias, training, momentum, eps)
    variance, scale = torch.cat([running_var] * 4), None if weight is None else torch.cat([weight] * 4)
    return F.batch_norm(x, running_mean, variance, scale, bias, False, 0.0, eps)


def _by_batch(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    quaternions = check_quaternion_shape(x.shape, 1)
    count = x.numel() // max(x.shape[1], 1)
    if training and count == 1:
        raise ValueError(f"expected more than 1 value per channel when training, got input of shape {list(x.shape)}")
    axes = [0, *range(2, x.ndim)]
    mean = x.mean(axes)
    centred = x - _along_channels(mean, x)
    var = centred.square().mean(axes).unflatten(0, (4, quaternions)).sum(0)
    if training and running_mean is not None and running_var is not None and count:
        with torch.no_grad():
            running_mean += momentum * (mean - running_mean)
            running_var += momentum * (var * (count / (count - 1)) - running_var)
    scale = torch.rsqrt(var + eps) if weight is None else weight * torch.rsqrt(var + eps)
    y = centred * _along_channels(torch.cat([scale] * 4), x)
    return y if bias is None else y + _along_channels(bias, x)


def _along_channels(value: Tensor, x: Tensor) -> Tensor:
    return value.reshape(-1, *(1,) * (x.ndim - 2))
