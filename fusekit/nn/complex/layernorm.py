"""Layer norm that whitens the two parts of a number over the last axes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusekit.nn.complex.layer import ComplexLayer, complex_dtype
from fusekit.nn.functional.complex.norm import complex_layer_norm


class ComplexLayerNorm(ComplexLayer):
    """y = Γ V^-1/2 (z - μ) + β, mean and covariance over the last axes of each sample. Arguments as
    `torch.nn.LayerNorm`'s; formulas: `functional.complex_layer_norm`.

    Parameters: weight [*normalized_shape, 3] real, Γ as (rr, ii, ri), initially 1/√2 times the identity; bias
    [*normalized_shape] complex. Without `elementwise_affine`, the covariance of y is the identity.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        dtype = complex_dtype(dtype)
        whole = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = whole, eps, elementwise_affine
        weight = torch.empty(*whole, 3, device=device, dtype=dtype.to_real())
        self.register_parameter("weight", nn.Parameter(weight) if elementwise_affine else None)
        shift = torch.empty(whole, device=device, dtype=dtype)
        self.register_parameter("bias", nn.Parameter(shift) if elementwise_affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Γ = 1/√2 times the identity, β = 0."""
        with torch.no_grad():
            if self.weight is not None:
                self.weight.zero_()
                self.weight[..., :2] = math.sqrt(0.5)
            if self.bias is not None:
                self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return complex_layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
