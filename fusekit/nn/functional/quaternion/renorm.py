"""Max-norm: each row of quaternions brought back into a ball.

    w_o ↦ w_o min(1, m / ‖w_o‖),    ‖w_o‖² = Σ |w_oi|² over the rest of the weight

Source: Srivastava et al. 2014 (dropout), for the constraint; one factor for all components leaves phases as they are.
"""

import torch
from torch import Tensor


def quaternion_renorm(weight: Tensor, max_norm: float, dim: int = 0) -> Tensor:
    """The weight [4, out, in, *window] with every slice along `dim` of [out, in, *window] of norm at most `max_norm`.

    dim 0: over what one output sees, for linear layers too; speechbrain, whose linear weights are [in, out], takes what
    one input feeds (dim 1). Beyond the norm the factor is m / (norm + 1e-7), as in torch.renorm; a zero slice stays
    zero. Nothing is written: gradients flow through the factor.
    """
    if max_norm <= 0:
        raise ValueError(f"expected a positive max_norm, got {max_norm}")
    axis = dim + 1 if dim >= 0 else dim
    norm = torch.linalg.vector_norm(weight.movedim(axis, 0).flatten(1), dim=1)
    factor = torch.where(norm > max_norm, max_norm / (norm + 1e-7), 1.0)
    return (weight.movedim(axis, -1) * factor).movedim(-1, axis)


@torch.no_grad()
def quaternion_renorm_(weight: Tensor, max_norm: float, dim: int = 0) -> Tensor:
    """`quaternion_renorm` written into the weight, for after an optimizer's step: projected gradient descent."""
    return weight.copy_(quaternion_renorm(weight, max_norm, dim))
