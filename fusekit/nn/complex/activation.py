"""Complex nonlinearities as layers; formulas and papers are at the functions of the same names."""

import torch
from torch import Tensor, nn

from fusekit.nn.complex.layer import ComplexLayer, complex_dtype
from fusekit.nn.functional.complex import activation
from fusekit.nn.functional.complex.activation import AtZero, Form


class CReLU(nn.Module):
    """ReLU(Re z) + j ReLU(Im z)."""

    def forward(self, x: Tensor) -> Tensor:
        return activation.crelu(x)


class ZReLU(nn.Module):
    """z in the first quadrant, else 0; `axes`: whether its two axes count as inside."""

    def __init__(self, axes: bool = True) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return activation.zrelu(x, axes=self.axes)

    def extra_repr(self) -> str:
        return f"axes={self.axes}"


class Cardioid(nn.Module):
    """½ (1 + cos ∠z) z."""

    def forward(self, x: Tensor) -> Tensor:
        return activation.cardioid(x)


class CTanh(nn.Module):
    """tanh(Re z) + j tanh(Im z), or the analytic tanh (`form="holomorphic"`)."""

    def __init__(self, form: Form = "split") -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return activation.ctanh(x, self.form)

    def extra_repr(self) -> str:
        return f"form={self.form!r}"


class CSigmoid(nn.Module):
    """σ(Re z) + jσ(Im z), or the analytic sigmoid (`form="holomorphic"`)."""

    def __init__(self, form: Form = "split") -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return activation.csigmoid(x, self.form)

    def extra_repr(self) -> str:
        return f"form={self.form!r}"


class ModReLU(ComplexLayer):
    """ReLU(|z| + b) z / |z| with a learned real b [num_parameters], one for all or one for each channel (the second
    axis). `at_zero` as in `functional.modrelu`; `dtype` is that of z."""

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        at_zero: AtZero = "zero",
    ) -> None:
        super().__init__()
        self.num_parameters, self.init, self.at_zero = num_parameters, init, at_zero
        self.bias = nn.Parameter(
            torch.full((num_parameters,), init, device=device, dtype=complex_dtype(dtype).to_real())
        )

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias if self.num_parameters == 1 else self.bias.reshape(-1, *(1,) * (x.ndim - 2))
        return activation.modrelu(x, bias, at_zero=self.at_zero)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}, at_zero={self.at_zero!r}"


class CPReLU(ComplexLayer):
    """PReLU(Re z) + j PReLU(Im z) with learned slopes [num_parameters, 2], one pair for all or one for each channel
    (the second axis). `dtype` is that of z."""

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        real = complex_dtype(dtype).to_real()
        self.weight = nn.Parameter(torch.full((num_parameters, 2), init, device=device, dtype=real))

    def forward(self, x: Tensor) -> Tensor:
        return activation.cprelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
