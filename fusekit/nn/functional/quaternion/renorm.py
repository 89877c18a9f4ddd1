"""Max-norm: limits the norm of each row of quaternions.

    w_o ↦ w_o min(1, m / ‖w_o‖),    ‖w_o‖² = Σ |w_oi|² over the rest of the weight

Source of the constraint: Srivastava et al. 2014 (dropout). One factor for all components does not change phases.
"""

import torch
from torch import Tensor


def quaternion_renorm(weight: Tensor, max_norm: float, dim: int = 0) -> Tensor:
    """The weight [4, out, in, *window], with the norm of every slice along `dim` of [out, in, *window] limited to
    `max_norm`.

    With dim 0 a slice holds the weights of one output, for linear layers too. With dim 1 it holds the weights that read
    one input; this is what speechbrain does, whose linear weights are [in, out]. Larger slices are multiplied by
    m / (norm + 1e-7), as in torch.renorm; a zero slice stays zero. The weight itself is not changed, and gradients flow
    through the factor.

    Raises ValueError if max_norm is not positive.
    """
    if max_norm <= 0:
        raise ValueError(f"expected a positive max_norm, got {max_norm}")
    axis = dim + 1 if dim >= 0 else dim
    norm = torch.linalg.vector_norm(weight.movedim(axis, 0).flatten(1), dim=1)
    factor = torch.where(norm > max_norm, max_norm / (norm + 1e-7), 1.0)
    return (weight.movedim(axis, -1) * factor).movedim(-1, axis)


@torch.no_grad()
def quaternion_renorm_(weight: Tensor, max_norm: float, dim: int = 0) -> Tensor:
    """`quaternion_renorm` in place. Called after each step of an optimizer, it gives projected gradient descent."""
    return weight.copy_(quaternion_renorm(weight, max_norm, dim))
