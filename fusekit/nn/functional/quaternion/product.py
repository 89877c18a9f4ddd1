"""Quaternion linear maps and convolutions, y = w ⊗ x + b with the Hamilton product. Each is one real operator.

Sources: Parcollet et al. 2019 (arXiv:1806.04418); Gaudet and Maida 2018, "Deep quaternion networks"
(arXiv:1712.04604); Parcollet et al. 2018, "Quaternion convolutional neural networks for end-to-end automatic speech
recognition" (arXiv:1806.07789).
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.nn.arguments import Size, one_of
from fusekit.nn.functional.hypercomplex import block_conv, block_conv_transpose
from fusekit.nn.functional.quaternion.hamilton import hamilton_kernel

# Groups of quaternions; or groups of the real channels in the order r | i | j | k, which mix components
GroupsOf = Literal["quaternions", "channels"]


def quaternion_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = w ⊗ x + b. Shapes: x [*, 4 in], y [*, 4 out], `weight` w [4, out, in], `bias` b [4 out]."""
    return F.linear(x, hamilton_kernel(weight), bias)


def quaternion_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: str | Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    groups_of: GroupsOf = "quaternions",
) -> Tensor:
    """y = w ⋆ x + b over 1 to 3 axes (w has as many), with the product w ⊗ x at each tap.

    Shapes: x [(N,) 4 in, *S], `weight` w [4, out, in / groups, *window], `bias` b [4 out]; `stride`, `padding`,
    `dilation` as of `torch.nn.functional.conv1d`. `groups_of="channels"` splits the real channels, in the order r |
    i | j | k, into groups, as speechbrain and Orkis do. A group then mixes components, and the map is not a quaternion
    product.
    """
    n = weight.ndim - 3
    if one_of(GroupsOf, "groups_of", groups_of) == "channels":
        return block_conv(x, n, hamilton_kernel(weight), bias, 1, stride, padding, dilation, groups)
    return block_conv(x, n, hamilton_kernel(weight, groups=groups), bias, 4, stride, padding, dilation, groups)


def quaternion_conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    conjugate: bool = False,
) -> Tensor:
    """Transposed convolution: each input is multiplied by w and added to its window of outputs, plus b.

    Shapes: x [(N,) 4 in, *S], `weight` w [4, in, out / groups, *window], `bias` b [4 out]; `stride`, `padding`,
    `output_padding`, `groups`, `dilation` as of `torch.nn.functional.conv_transpose1d`. `conjugate=True` multiplies by
    w*. This is the adjoint of `quaternion_conv` with the same weight, and what Orkis computes.
    """
    kernel = hamilton_kernel(weight, groups=groups, transposed=True, conjugate=conjugate)
    return block_conv_transpose(x, weight.ndim - 3, kernel, bias, 4, stride, padding, output_padding, groups, dilation)


class QuaternionLinearFunction(torch.autograd.Function):
    """`quaternion_linear` that keeps x and the four components for the backward pass, not the matrix of 16 blocks.

        ∂x = g L(w),    ∂w = the 16 blocks of gᵀ x, added with their signs in L

    The backward pass builds the matrix again. This takes more time and less memory. Source: Parcollet 2019, "Quaternion
    neural networks" (thesis), p. 48. Called by `quaternion_linear_lean`.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return quaternion_linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        grad_x = grad @ hamilton_kernel(weight) if needs_x else None
        grad_weight = component_sums(rows.mT @ x.reshape(-1, x.shape[-1])) if needs_weight else None
        return grad_x, grad_weight, rows.sum(0) if needs_bias else None


def quaternion_linear_lean(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`quaternion_linear` with the same values, but it keeps less memory until the backward pass.

    Shapes as in `quaternion_linear`: x [*, 4 in], `weight` [4, out, in], `bias` [4 out].
    """
    return QuaternionLinearFunction.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]


def component_sums(outer: Tensor) -> Tensor:
    """[4 out, 4 in] -> [4, out, in]: the adjoint of `hamilton_kernel`."""
    b = [row.chunk(4, 1) for row in outer.chunk(4, 0)]
    return torch.stack(
        [
            b[0][0] + b[1][1] + b[2][2] + b[3][3],
            b[1][0] - b[0][1] + b[3][2] - b[2][3],
            b[2][0] - b[0][2] + b[1][3] - b[3][1],
            b[3][0] - b[0][3] + b[2][1] - b[1][2],
        ]
    )
