"""Linear maps over any hypercomplex algebra, y = w x with the product of the algebra. Each is one real linear map.

x and y are real tensors with n blocks of channels, one block per unit: [*, n C] or [(N,) n C, *S]. `constants` [n, n,
n] are the structure constants (`HypercomplexAlgebra.constants`), or parameters that learn (Zhang et al. 2021,
arXiv:2102.08597).
"""

import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.operators import CONV, CONV_TRANSPOSE
from fusekit.algebra.products.hypercomplex import block_kernel, regroup
from fusekit.nn.arguments import Size


def hypercomplex_linear(x: Tensor, constants: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = w x + b. Shapes: x [*, n in], `constants` [n, n, n], `weight` w [n, out, in], `bias` b [n out]."""
    return F.linear(x, block_kernel(constants, weight), bias)


def hypercomplex_conv(
    x: Tensor,
    constants: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: str | Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """y = w ⋆ x + b over 1 to 3 axes (w has as many); everything else as for `torch.nn.functional.conv1d`.

    Shapes: x [(N,) n in, *S], `constants` [n, n, n], `weight` w [n, out, in / groups, *window], `bias` b [n out].
    `stride`, `padding`, `dilation` and `groups` as in torch; `groups` counts groups of numbers of the algebra.
    """
    kernel = block_kernel(constants, weight, groups=groups)
    return block_conv(x, weight.ndim - 3, kernel, bias, len(constants), stride, padding, dilation, groups)


def hypercomplex_conv_transpose(
    x: Tensor,
    constants: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """Transposed convolution: each input is multiplied by w and added to its window of outputs, plus b. Nothing is
    conjugated.

    Shapes: x [(N,) n in, *S], `constants` [n, n, n], `weight` w [n, in, out / groups, *window], `bias` b [n out].
    `stride`, `padding`, `output_padding`, `groups` and `dilation` as of `torch.nn.functional.conv_transpose1d`.
    """
    kernel = block_kernel(constants, weight, groups=groups, transposed=True)
    return block_conv_transpose(
        x, weight.ndim - 3, kernel, bias, len(constants), stride, padding, output_padding, groups, dilation
    )


def block_conv(
    x: Tensor,
    n: int,
    kernel: Tensor,
    bias: Tensor | None,
    units: int,
    stride: Size = 1,
    padding: str | Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """A convolution over n axes with a kernel of blocks. With groups, the channels of the kernel are in the order
    [group, unit, channel]; those of x, of the bias and of the result are in the order [unit, group, channel]."""
    bias = bias if bias is None else regroup(bias, units, groups, -1)
    y = CONV[n](regroup(x, units, groups, -n - 1), kernel, bias, stride, padding, dilation, groups)
    return regroup(y, groups, units, -n - 1)


def block_conv_transpose(
    x: Tensor,
    n: int,
    kernel: Tensor,
    bias: Tensor | None,
    units: int,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """As `block_conv`, for a transposed convolution."""
    bias = bias if bias is None else regroup(bias, units, groups, -1)
    geometry = (stride, padding, output_padding, groups, dilation)
    y = CONV_TRANSPOSE[n](regroup(x, units, groups, -n - 1), kernel, bias, *geometry)
    return regroup(y, groups, units, -n - 1)
