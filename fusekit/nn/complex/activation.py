"""Complex nonlinearities as layers. Formulas and papers are in the docstrings of the functions of the same names."""

import torch
from torch import Tensor, nn

from fusekit.nn.complex.layer import ComplexLayer, complex_dtype
from fusekit.nn.functional.complex import activation
from fusekit.nn.functional.complex.activation import AtZero, Form


class CReLU(nn.Module):
    """`functional.crelu`: ReLU(Re z) + j ReLU(Im z), x [*] complex."""

    def forward(self, x: Tensor) -> Tensor:
        return activation.crelu(x)


class ZReLU(nn.Module):
    """`functional.zrelu`: z in the first quadrant, else 0, x [*] complex; `axes`: whether they belong to it."""

    def __init__(self, axes: bool = True) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return activation.zrelu(x, axes=self.axes)

    def extra_repr(self) -> str:
        return f"axes={self.axes}"


class Cardioid(nn.Module):
    """`functional.cardioid`: ½ (1 + cos ∠z) z, x [*] complex."""

    def forward(self, x: Tensor) -> Tensor:
        return activation.cardioid(x)


class CTanh(nn.Module):
    """`functional.ctanh`: tanh(Re z) + j tanh(Im z), or the analytic tanh (`form="holomorphic"`), x [*] complex."""

    def __init__(self, form: Form = "split") -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return activation.ctanh(x, self.form)

    def extra_repr(self) -> str:
        return f"form={self.form!r}"


class CSigmoid(nn.Module):
    """`functional.csigmoid`: σ(Re z) + jσ(Im z), or the analytic sigmoid (`form="holomorphic"`), x [*] complex."""

    def __init__(self, form: Form = "split") -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return activation.csigmoid(x, self.form)

    def extra_repr(self) -> str:
        return f"form={self.form!r}"


class ModReLU(ComplexLayer):
    """`functional.modrelu`: ReLU(|z| + b) z / |z| with a learned real b [num_parameters], initially `init`.

    num_parameters is 1 for one b, or C for one b per channel, the second axis of x [N, C, *S]. `at_zero` as in the
    function; `dtype` is that of z.
    """

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
    """`functional.cprelu`: PReLU(Re z) + j PReLU(Im z) with learned slopes [num_parameters, 2].

    num_parameters is 1 for one pair of slopes, or C for one pair per channel, the second axis of x [N, C, *S].
    Initially they are `init`. `dtype` is that of z.
    """

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
