"""Linear layers and convolutions over any hypercomplex algebra, given or learned.

    y = w x + b with e_i e_j = Σ_k c[i, j, k] e_k,    real weight Σ_i A_i ⊗ w_i,    A_i[k, j] = c[i, j, k]

With `algebra=n` the structure constants are parameters: "parameterised hypercomplex multiplication", Zhang et al. 2021,
"Beyond fully-connected layers with quaternions" (arXiv:2102.08597): 1 / n of the weights of a real layer, and n³ more.
"""

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn

from fusekit.algebra.products.hypercomplex import HypercomplexAlgebra, block_kernel
from fusekit.nn.arguments import Size
from fusekit.nn.hypercomplex.block import BlockConv, BlockConvTranspose, BlockLinear

Algebra = HypercomplexAlgebra | int


def _units(algebra: Algebra) -> int:
    if isinstance(algebra, int) and algebra < 1:
        raise ValueError(f"algebra: expected a HypercomplexAlgebra or a positive number of units, got {algebra}")
    return algebra if isinstance(algebra, int) else algebra.n


def _name(layer: Any) -> str:
    learned = isinstance(layer.constants, nn.Parameter)
    name = f"{layer.units} units" if isinstance(layer.algebra, int) else layer.algebra.name
    return f"algebra={name}{', learned' if learned else ''}"


def _take_algebra(layer: Any, algebra: Algebra, learned: bool, device: Any, dtype: Any) -> None:
    """`constants` [n, n, n] as a parameter if they are learned, else as a buffer that is not stored."""
    constants = torch.empty((layer.units,) * 3, device=device, dtype=dtype)
    if learned or isinstance(algebra, int):
        layer.constants = nn.Parameter(constants)
    else:
        layer.register_buffer("constants", constants, persistent=False)
    layer.algebra = algebra
    layer.reset_parameters()


@torch.no_grad()
def _reset(layer: Any, generator: Generator | None) -> None:
    """Glorot: each entry of the real weight has variance 2 / (fan_in + fan_out), the fans being real channels times
    taps of a group. Learned constants start as N(0, 1 / n), given ones as they are; the bias as 0."""
    n, first, second, *window = layer.weight.shape
    if isinstance(layer.algebra, int):
        nn.init.normal_(layer.constants, std=n**-0.5, generator=generator)
        terms = 1.0
    else:
        layer.constants.copy_(layer.algebra.constants)
        terms = float(layer.algebra.constants.square().sum()) / n**2
    variance = 2 / (n * (first + second) * math.prod(window)) / (terms or 1.0)
    nn.init.normal_(layer.weight, std=math.sqrt(variance), generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class HypercomplexLinear(BlockLinear):
    """y = w x + b over an algebra. Shapes: x [*, in_features], y [*, out_features], both in n blocks of features.

    Args:
        algebra: a HypercomplexAlgebra, or a number n of units whose products are learned.
        learned: the constants of the algebra given are where learning starts.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        algebra: Algebra,
        bias: bool = True,
        *,
        learned: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(_units(algebra), in_features, out_features, bias, device, dtype)
        _take_algebra(self, algebra, learned, device, dtype)

    constants: Tensor

    def reset_parameters(self, generator: Generator | None = None) -> None:
        _reset(self, generator)

    def real_weight(self) -> Tensor:
        return block_kernel(self.constants, self.weight)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {_name(self)}"


class _HypercomplexConv(BlockConv):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        algebra: Algebra,
        stride: Size = 1,
        padding: str | Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        learned: bool = False,
    ) -> None:
        geometry = (kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype)
        super().__init__(_units(algebra), in_channels, out_channels, *geometry)
        _take_algebra(self, algebra, learned, device, dtype)

    constants: Tensor

    def reset_parameters(self, generator: Generator | None = None) -> None:
        _reset(self, generator)

    def real_weight(self) -> Tensor:
        return block_kernel(self.constants, self.weight, groups=self.groups)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {_name(self)}"


class HypercomplexConv1d(_HypercomplexConv):
    """y = w ⋆ x + b over an algebra and one axis, `HypercomplexLinear` at each tap; else as torch.nn.Conv1d.

    Groups are groups of numbers: channel c of group g is one number, whose units lie in n different blocks.
    """

    axes = 1


class HypercomplexConv2d(_HypercomplexConv):
    """`HypercomplexConv1d` over two axes."""

    axes = 2


class HypercomplexConv3d(_HypercomplexConv):
    """`HypercomplexConv1d` over three axes."""

    axes = 3


class _HypercomplexConvTranspose(BlockConvTranspose):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        algebra: Algebra,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        learned: bool = False,
    ) -> None:
        geometry = (kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode, device, dtype)
        super().__init__(_units(algebra), in_channels, out_channels, *geometry)
        _take_algebra(self, algebra, learned, device, dtype)

    constants: Tensor

    def reset_parameters(self, generator: Generator | None = None) -> None:
        _reset(self, generator)

    def real_weight(self) -> Tensor:
        return block_kernel(self.constants, self.weight, groups=self.groups, transposed=True)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {_name(self)}"


class HypercomplexConvTranspose1d(_HypercomplexConvTranspose):
    """Each input times w, spread over the window, over one axis; else as torch.nn.ConvTranspose1d."""

    axes = 1


class HypercomplexConvTranspose2d(_HypercomplexConvTranspose):
    """`HypercomplexConvTranspose1d` over two axes."""

    axes = 2


class HypercomplexConvTranspose3d(_HypercomplexConvTranspose):
    """`HypercomplexConvTranspose1d` over three axes."""

    axes = 3
