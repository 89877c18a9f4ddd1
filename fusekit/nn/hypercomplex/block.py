"""Layers whose real weight consists of blocks: a linear map over an algebra of n units is a real one n times as wide.

The parameter is `weight` [n, out, in / groups, *window] (transposed: [n, in, out / groups, *window]), with one
component per unit. `real_weight()` makes the matrix or kernel for torch's operator. Channels are real and stand in n
blocks. Constructors are those of torch.nn, so `in_channels` is n times the count of numbers of the algebra.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusekit.nn.arguments import Size
from fusekit.nn.functional.hypercomplex import block_conv, block_conv_transpose


class BlockLayer(nn.Module):
    """A layer with `weight` [units, ...] and `bias`. Its subclasses make a real layer of them."""

    units: int
    weight: nn.Parameter
    bias: nn.Parameter | None
    groups = 1
    transposed = False

    def real_weight(self) -> Tensor:
        """The matrix or kernel of blocks for torch's operator, in torch's layout. Gradients flow through it."""
        raise NotImplementedError


class BlockLinear(BlockLayer):
    """y = K(w) x + b. Shapes: x [*, in_features], y [*, out_features]."""

    def __init__(self, units: int, in_features: int, out_features: int, bias: bool, device: Any, dtype: Any) -> None:
        super().__init__()
        self.units, self.in_features, self.out_features = units, in_features, out_features
        shape = units, _numbers(out_features, units, "out_features"), _numbers(in_features, units, "in_features")
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.real_weight(), self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class _BlockConvolution(BlockLayer):
    """Base class of convolutions and transposed convolutions: the geometry, with torch's checks."""

    axes: int

    def __init__(
        self,
        units: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: str | Size,
        dilation: Size,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        if groups < 1:
            raise ValueError(f"groups: expected a positive number, got {groups}")
        self.units, self.in_channels, self.out_channels, self.groups = units, in_channels, out_channels, groups
        self.kernel_size = self._sizes(kernel_size, "kernel_size")
        self.stride = self._sizes(stride, "stride")
        self.dilation = self._sizes(dilation, "dilation")
        self.padding = padding if isinstance(padding, str) else self._sizes(padding, "padding")
        self.padding_mode = padding_mode
        self._check_padding()
        inputs, outputs = _numbers(in_channels, units, "in_channels"), _numbers(out_channels, units, "out_channels")
        for count, name in ((inputs, "in_channels"), (outputs, "out_channels")):
            if count % groups:
                raise ValueError(f"{name}: expected a multiple of {units} times groups = {groups}, got {count * units}")
        first, second = (inputs, outputs // groups) if self.transposed else (outputs, inputs // groups)
        self.weight = nn.Parameter(torch.empty(units, first, second, *self.kernel_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(out_channels, device=device, dtype=dtype)) if bias else None

    def _check_padding(self) -> None:
        raise NotImplementedError

    def _sizes(self, value: Size, name: str) -> tuple[int, ...]:
        sizes = (value,) * self.axes if isinstance(value, int) else tuple(value)
        if len(sizes) != self.axes:
            raise ValueError(f"{name}: expected a number or {self.axes} of them, got {value}")
        return sizes

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        zero, one = (0,) * self.axes, (1,) * self.axes
        parts += [f"padding={self.padding!r}"] if self.padding != zero else []
        parts += [f"dilation={self.dilation}"] if self.dilation != one else []
        parts += [f"groups={self.groups}"] if self.groups != 1 else []
        parts += ["bias=False"] if self.bias is None else []
        return ", ".join(parts)


class BlockConv(_BlockConvolution):
    """y = K(w) ⋆ x + b with the options of torch.nn.ConvNd. Shapes: x [(N,) in_channels, *S]."""

    def _check_padding(self) -> None:
        if self.padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(f"padding_mode: expected zeros, reflect, replicate or circular, got {self.padding_mode!r}")
        if isinstance(self.padding, str):
            if self.padding not in ("same", "valid"):
                raise ValueError(f"padding: expected numbers, 'same' or 'valid', got {self.padding!r}")
            if self.padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError(f"padding='same' needs stride 1, got {self.stride}")

    def forward(self, x: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._pads(), mode=self.padding_mode), (0,) * self.axes
        geometry = (self.stride, padding, self.dilation, self.groups)
        return block_conv(x, self.axes, self.real_weight(), self.bias, self.units, *geometry)

    def _pads(self) -> list[int]:
        """For F.pad: low and high of each axis, the last axis first. If 'same' needs an odd number, the high side gets
        one more, as in torch."""
        if self.padding == "valid":
            return [0, 0] * self.axes
        if self.padding == "same":
            total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            pairs = [(t // 2, t - t // 2) for t in total]
        else:
            pairs = [(int(p), int(p)) for p in self.padding]
        return [amount for pair in reversed(pairs) for amount in pair]

    def extra_repr(self) -> str:
        mode = "" if self.padding_mode == "zeros" else f", padding_mode={self.padding_mode!r}"
        return super().extra_repr() + mode


class BlockConvTranspose(_BlockConvolution):
    """Transposed convolution with the kernel K(w), and with the options of torch.nn.ConvTransposeNd."""

    transposed = True

    def __init__(self, *arguments: Any, output_padding: Size) -> None:
        super().__init__(*arguments)
        self.output_padding = self._sizes(output_padding, "output_padding")

    def _check_padding(self) -> None:
        if self.padding_mode != "zeros":
            raise ValueError(f"padding_mode: expected 'zeros' for a transposed convolution, got {self.padding_mode!r}")
        if isinstance(self.padding, str):
            raise ValueError(f"padding: expected numbers for a transposed convolution, got {self.padding!r}")

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        padding = self.output_padding if output_size is None else self._padding_for(x, output_size)
        geometry = (self.stride, self.padding, padding, self.groups, self.dilation)
        return block_conv_transpose(x, self.axes, self.real_weight(), self.bias, self.units, *geometry)  # type: ignore[arg-type]

    def _padding_for(self, x: Tensor, output_size: Sequence[int]) -> list[int]:
        """The output padding that gives the requested spatial sizes."""
        wanted = list(output_size)[-self.axes :]
        padding = self._sizes(self.padding, "padding")  # type: ignore[arg-type]
        geometry = zip(x.shape[-self.axes :], self.stride, padding, self.dilation, self.kernel_size, strict=True)
        least = [(size - 1) * s - 2 * p + d * (k - 1) + 1 for size, s, p, d, k in geometry]
        extra = [w - size for w, size in zip(wanted, least, strict=True)]
        if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            most = [size + s - 1 for size, s in zip(least, self.stride, strict=True)]
            raise ValueError(f"output_size: expected sizes from {least} to {most}, got {wanted}")
        return extra


def _numbers(channels: int, units: int, name: str) -> int:
    """The count of numbers of the algebra in `count` real channels."""
    if channels % units or channels < 1:
        raise ValueError(
            f"{name}: expected a positive multiple of {units}, one block of channels a unit, got {channels}"
        )
    return channels // units
