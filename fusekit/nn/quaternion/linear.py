"""Quaternion linear layers."""

from typing import Any

from torch import Tensor

from fusekit.nn.functional.quaternion import hamilton_kernel, quaternion_linear_lean
from fusekit.nn.hypercomplex.block import BlockLinear
from fusekit.nn.init.criterion import Criterion
from fusekit.nn.quaternion.weights import Init, QuaternionWeight, bounded


class QuaternionLinear(QuaternionWeight, BlockLinear):
    """y = w ⊗ x + b, the Hamilton product summed over inputs. Shapes: x [*, in_features], y [*, out_features].

    Features are real, in blocks r | i | j | k, and their numbers are multiples of 4. The layer has a quarter of the
    weights of a real one: weight [4, out_features / 4, in_features / 4]. Source: Parcollet et al. 2019
    (arXiv:1806.04418).

    Args:
        bias: whether to add one, [out_features].
        init, criterion: "chi" (polar form, `fusekit.nn.init.quaternion_chi_`) or "unitary"; "glorot" or "he".
        max_norm, max_norm_dim: `quaternion_renorm` of the weight in every forward; max_norm_dim=1 is as in speechbrain.
        lean: in training, keep the components for the backward pass, not the block matrix (`quaternion_linear_lean`).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        init: Init = "chi",
        criterion: Criterion = "glorot",
        max_norm: float | None = None,
        max_norm_dim: int = 0,
        lean: bool = False,
    ) -> None:
        super().__init__(4, in_features, out_features, bias, device, dtype)
        self.max_norm, self.max_norm_dim, self.lean = max_norm, max_norm_dim, lean
        self._draw(init, criterion)

    def real_weight(self) -> Tensor:
        """The blocks L(w) [4 out, 4 in / groups, *window] of the weight, in torch's layout."""
        return hamilton_kernel(bounded(self.weight, self.max_norm, self.max_norm_dim))

    def forward(self, x: Tensor) -> Tensor:
        if self.lean and self.training:
            return quaternion_linear_lean(x, bounded(self.weight, self.max_norm, self.max_norm_dim), self.bias)
        return super().forward(x)
