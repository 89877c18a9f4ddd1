"""Complex convolutions: y = W ⋆ x + b on native complex tensors, computed as one real convolution of 2x2 blocks.

    [Re y]   [Re W  -Im W]   [Re x]
    [Im y] = [Im W   Re W] ⋆ [Im x]

Trabelsi et al. 2018 (arXiv:1705.09792), section 3.2. Nothing is conjugated, as in torch's own complex convolution,
which runs three real ones.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from fusekit.algebra.operators import CONV_TRANSPOSE
from fusekit.nn.arguments import Size, one_of
from fusekit.nn.complex.layer import BiasForm, ComplexLayer, complex_dtype, effective_bias
from fusekit.nn.functional.complex.parts import from_channels, real_bias, real_weight, to_channels
from fusekit.nn.init.complex import complex_rayleigh_


class _ComplexConv(ComplexLayer, _ConvNd):
    """`ComplexConv1d` for any number of axes."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: str | Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias_form: str = "complex",
    ) -> None:
        self.bias_form = one_of(BiasForm, "bias_form", bias_form)
        geometry: Any = (kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        placed: Any = {"device": device, "dtype": complex_dtype(dtype)}
        super().__init__(in_channels, out_channels, *geometry, **placed)

    def reset_parameters(self) -> None:
        """The weight by `complex_rayleigh_` with Glorot's criterion, the bias 0."""
        complex_rayleigh_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        n = self.weight.ndim - 2
        bias = real_bias(effective_bias(self.bias, self.bias_form))
        return from_channels(self._conv_forward(to_channels(x, n), real_weight(self.weight), bias), n)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}{_form_repr(self.bias_form)}"  # type: ignore[no-untyped-call]


class ComplexConv1d(_ComplexConv, nn.Conv1d):
    """y = W ⋆ x + b with complex numbers; arguments as in `torch.nn.Conv1d`, and `bias_form`.

    Shapes: x [(N,) C_in, L], y [(N,) C_out, L'], weight [C_out, C_in / groups, kernel_size], bias [C_out]. Initial
    weights: `complex_rayleigh_` with Glorot's criterion; the bias is 0. TypeError for a real x or `dtype`.

    Args:
        dtype: complex; by default that of torch's default dtype, complex64.
        bias_form: "complex" adds b. "parts" adds (1 + j) b, what two real layers with the biases Re b and Im b add up
            to (complexPyTorch, DCCRN, asteroid). Both forms can express the same functions; with "parts" the gradient
            of b is √2 times as long.
    """


class ComplexConv2d(_ComplexConv, nn.Conv2d):
    """`ComplexConv1d` over two axes, x [(N,) C_in, H, W]; as `torch.nn.Conv2d`."""


class ComplexConv3d(_ComplexConv, nn.Conv3d):
    """`ComplexConv1d` over three axes, x [(N,) C_in, D, H, W]; as `torch.nn.Conv3d`."""


class _ComplexConvTranspose(ComplexLayer, _ConvTransposeNd):
    """`ComplexConvTranspose1d` for any number of axes."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias_form: str = "complex",
    ) -> None:
        self.bias_form = one_of(BiasForm, "bias_form", bias_form)
        geometry: Any = (kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode)
        placed: Any = {"device": device, "dtype": complex_dtype(dtype)}
        super().__init__(in_channels, out_channels, *geometry, **placed)

    def reset_parameters(self) -> None:
        """The weight by `complex_rayleigh_` with Glorot's criterion, the bias 0."""
        complex_rayleigh_(self.weight, transposed=True)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        n = self.weight.ndim - 2
        channels = to_channels(x, n)
        geometry: Any = (self.stride, self.padding, self.kernel_size, n, self.dilation)
        extra = self._output_padding(channels, output_size, *geometry)
        bias = real_bias(effective_bias(self.bias, self.bias_form))
        block = real_weight(self.weight, transposed=True)
        y = CONV_TRANSPOSE[n](channels, block, bias, self.stride, self.padding, extra, self.groups, self.dilation)
        return from_channels(y, n)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}{_form_repr(self.bias_form)}"  # type: ignore[no-untyped-call]


class ComplexConvTranspose1d(_ComplexConvTranspose, nn.ConvTranspose1d):
    """The transpose of `ComplexConv1d`, not its adjoint: nothing is conjugated, as in torch.

    Shapes: x [(N,) C_in, L], y [(N,) C_out, L'], weight [C_in, C_out / groups, kernel_size]. Arguments as of
    `torch.nn.ConvTranspose1d`; `dtype`, `bias_form` and initial weights as of `ComplexConv1d`.
    """


class ComplexConvTranspose2d(_ComplexConvTranspose, nn.ConvTranspose2d):
    """`ComplexConvTranspose1d` over two axes, x [(N,) C_in, H, W]; as `torch.nn.ConvTranspose2d`."""


class ComplexConvTranspose3d(_ComplexConvTranspose, nn.ConvTranspose3d):
    """`ComplexConvTranspose1d` over three axes, x [(N,) C_in, D, H, W]; as `torch.nn.ConvTranspose3d`."""


def _form_repr(form: str) -> str:
    return "" if form == "complex" else f", bias_form={form!r}"
