"""Linear layers and convolutions over any hypercomplex algebra, given or learned.

    y = w x + b with e_i e_j = Σ_k c[i, j, k] e_k,    real weight Σ_i A_i ⊗ w_i,    A_i[k, j] = c[i, j, k]

With `algebra=n` the structure constants are parameters: "parameterised hypercomplex multiplication", Zhang et al. 2021,
"Beyond fully-connected layers with quaternions" (arXiv:2102.08597). Such a layer has 1 / n of the weights of a real
layer, plus n³.
"""

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn

from fusekit.algebra.products.hypercomplex import HypercomplexAlgebra, block_kernel
from fusekit.nn.arguments import Size
from fusekit.nn.hypercomplex.block import BlockConv, BlockConvTranspose, BlockLayer, BlockLinear

Algebra = HypercomplexAlgebra | int


def _units(algebra: Algebra) -> int:
    if isinstance(algebra, int) and algebra < 1:
        raise ValueError(f"algebra: expected a HypercomplexAlgebra or a positive number of units, got {algebra}")
    return algebra if isinstance(algebra, int) else algebra.n


class _OverAlgebra(BlockLayer):
    """A layer whose `weight` holds numbers of an algebra. Its structure constants are `constants` [n, n, n]."""

    constants: Tensor
    algebra: Algebra

    def _take(self, algebra: Algebra, learned: bool, device: Any, dtype: Any) -> None:
        """Set `constants`: a parameter if they are learned, otherwise a buffer that is not saved."""
        constants = torch.empty((self.units,) * 3, device=device, dtype=dtype)
        if learned or isinstance(algebra, int):
            self.constants = nn.Parameter(constants)
        else:
            self.register_buffer("constants", constants, persistent=False)
        self.algebra = algebra
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Glorot: each entry of the real weight has variance 2 / (fan_in + fan_out). The fans are real channels of one
        group times taps. Learned constants start as N(0, 1 / n), constants of a given algebra as they are, the bias as
        0. `generator`: source of random numbers, by default torch's."""
        n, first, second, *window = self.weight.shape
        if isinstance(self.algebra, int):
            nn.init.normal_(self.constants, std=n**-0.5, generator=generator)
            terms = 1.0
        else:
            self.constants.copy_(self.algebra.constants)
            terms = float(self.algebra.constants.square().sum()) / n**2
        variance = 2 / (n * (first + second) * math.prod(window)) / (terms or 1.0)
        nn.init.normal_(self.weight, std=math.sqrt(variance), generator=generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def real_weight(self) -> Tensor:
        """Σ_i A_i ⊗ w_i [n out, n in / groups, *window] of the weight, in torch's layout."""
        return block_kernel(self.constants, self.weight, groups=self.groups, transposed=self.transposed)

    def extra_repr(self) -> str:
        name = f"{self.units} units" if isinstance(self.algebra, int) else self.algebra.name
        learned = ", learned" if isinstance(self.constants, nn.Parameter) else ""
        return f"{super().extra_repr()}, algebra={name}{learned}"


class HypercomplexLinear(_OverAlgebra, BlockLinear):
    """y = w x + b over an algebra. Shapes: x [*, in_features], y [*, out_features], both in n blocks of features.

    weight [n, out_features / n, in_features / n], bias [out_features]. ValueError if the features are not a multiple
    of n.

    Args:
        algebra: a HypercomplexAlgebra, or a number n of units whose products are learned.
        bias: whether to add one.
        learned: also learn the constants if an algebra is given; they start with those of the algebra.
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
        self._take(algebra, learned, device, dtype)


class _HypercomplexConv(_OverAlgebra, BlockConv):
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
        self._take(algebra, learned, device, dtype)


class HypercomplexConv1d(_HypercomplexConv):
    """y = w ⋆ x + b over an algebra and one axis: `HypercomplexLinear` at each tap; otherwise as `torch.nn.Conv1d`.

    Shapes: x [(N,) in_channels, L], weight [n, out_channels / n, in_channels / n / groups, kernel_size]. `algebra` and
    `learned` as in `HypercomplexLinear`. Groups are groups of numbers: channel c of group g is one number, whose n
    components are in n different blocks.
    """

    axes = 1


class HypercomplexConv2d(_HypercomplexConv):
    """`HypercomplexConv1d` over two axes."""

    axes = 2


class HypercomplexConv3d(_HypercomplexConv):
    """`HypercomplexConv1d` over three axes."""

    axes = 3


class _HypercomplexConvTranspose(_OverAlgebra, BlockConvTranspose):
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
        geometry = (kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype)
        super().__init__(_units(algebra), in_channels, out_channels, *geometry, output_padding=output_padding)
        self._take(algebra, learned, device, dtype)


class HypercomplexConvTranspose1d(_HypercomplexConvTranspose):
    """Transposed convolution over an algebra; `algebra` and `learned` as in `HypercomplexLinear`.

    Otherwise as `torch.nn.ConvTranspose1d`. Shapes: x [(N,) in_channels, L], weight [n, in_channels / n, out_channels /
    n / groups, kernel_size].
    """

    axes = 1


class HypercomplexConvTranspose2d(_HypercomplexConvTranspose):
    """`HypercomplexConvTranspose1d` over two axes."""

    axes = 2


class HypercomplexConvTranspose3d(_HypercomplexConvTranspose):
    """`HypercomplexConvTranspose1d` over three axes."""

    axes = 3
