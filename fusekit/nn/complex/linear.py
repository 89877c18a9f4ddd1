"""The complex linear layer: y = W x + b on native complex tensors, as one real matrix of 2x2 blocks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusekit.nn.arguments import one_of
from fusekit.nn.complex.layer import BiasForm, ComplexLayer, complex_dtype, effective_bias
from fusekit.nn.functional.complex.parts import from_channels, real_bias, real_weight, to_channels
from fusekit.nn.init.complex import complex_rayleigh_


class ComplexLinear(ComplexLayer, nn.Linear):
    """y = W x + b. Shapes: x [*, in_features], y [*, out_features], weight [out_features, in_features].

    `bias`: whether to add one, [out_features]. `dtype`, `bias_form` and initial weights as in `ComplexConv1d`.
    TypeError for a real x. Source: Trabelsi et al. 2018 (arXiv:1705.09792).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias_form: str = "complex",
    ) -> None:
        self.bias_form = one_of(BiasForm, "bias_form", bias_form)
        super().__init__(in_features, out_features, bias, device, complex_dtype(dtype))

    def reset_parameters(self) -> None:
        """The weight by `complex_rayleigh_` with Glorot's criterion, the bias 0."""
        complex_rayleigh_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        bias = real_bias(effective_bias(self.bias, self.bias_form))
        return from_channels(F.linear(to_channels(x, 0), real_weight(self.weight), bias), 0)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.bias_form == "complex" else f", bias_form={self.bias_form!r}")
