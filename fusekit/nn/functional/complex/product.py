"""Complex linear maps, each as one real one of twice the width (`parts.py`). Arguments as torch.nn.functional's."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from fusekit.nn.functional.complex.parts import from_channels, real_bias, real_weight, to_channels

Size = int | Sequence[int]


def complex_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = W x + b. Shapes: x [*, in], W [out, in], b [out], all complex."""
    return from_channels(F.linear(to_channels(x, 0), real_weight(weight), real_bias(bias)), 0)


def complex_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: str | Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """y = W ⋆ x + b, cross-correlation without conjugation. Shapes: x [(N,) in, L], W [out, in / groups, k]."""
    y = F.conv1d(to_channels(x, 1), real_weight(weight), real_bias(bias), stride, padding, dilation, groups)
    return from_channels(y, 1)


def complex_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: str | Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """`complex_conv1d` over two axes."""
    y = F.conv2d(to_channels(x, 2), real_weight(weight), real_bias(bias), stride, padding, dilation, groups)
    return from_channels(y, 2)


def complex_conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: str | Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """`complex_conv1d` over three axes."""
    y = F.conv3d(to_channels(x, 3), real_weight(weight), real_bias(bias), stride, padding, dilation, groups)
    return from_channels(y, 3)


def complex_conv_transpose1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The transpose (not the adjoint: nothing is conjugated) of `complex_conv1d`. W [in, out / groups, k]."""
    block = real_weight(weight, transposed=True)
    geometry = (stride, padding, output_padding, groups, dilation)
    return from_channels(F.conv_transpose1d(to_channels(x, 1), block, real_bias(bias), *geometry), 1)


def complex_conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """`complex_conv_transpose1d` over two axes."""
    block = real_weight(weight, transposed=True)
    geometry = (stride, padding, output_padding, groups, dilation)
    return from_channels(F.conv_transpose2d(to_channels(x, 2), block, real_bias(bias), *geometry), 2)


def complex_conv_transpose3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """`complex_conv_transpose1d` over three axes."""
    block = real_weight(weight, transposed=True)
    geometry = (stride, padding, output_padding, groups, dilation)
    return from_channels(F.conv_transpose3d(to_channels(x, 3), block, real_bias(bias), *geometry), 3)
