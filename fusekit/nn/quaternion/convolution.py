"""Quaternion convolutions and transposed convolutions of one to three axes."""

from typing import Any

from torch import Tensor

from fusekit.nn.arguments import Size, one_of
from fusekit.nn.functional.quaternion import hamilton_kernel
from fusekit.nn.functional.quaternion.product import GroupsOf
from fusekit.nn.hypercomplex.block import BlockConv, BlockConvTranspose
from fusekit.nn.init.criterion import Criterion
from fusekit.nn.quaternion.weights import Init, QuaternionWeight, bounded


class _QuaternionConv(QuaternionWeight, BlockConv):
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
        device: Any = None,
        dtype: Any = None,
        *,
        init: Init = "chi",
        criterion: Criterion = "glorot",
        max_norm: float | None = None,
        groups_of: GroupsOf = "quaternions",
    ) -> None:
        geometry = (kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype)
        super().__init__(4, in_channels, out_channels, *geometry)
        self.max_norm, self.groups_of = max_norm, one_of(GroupsOf, "groups_of", groups_of)
        self.units = 4 if groups_of == "quaternions" else 1
        self._draw(init, criterion)

    def real_weight(self) -> Tensor:
        """The blocks L(w) [4 out, 4 in / groups, *window] of the weight, in torch's layout."""
        groups = self.groups if self.groups_of == "quaternions" else 1
        return hamilton_kernel(bounded(self.weight, self.max_norm, 0), groups=groups)


class QuaternionConv1d(_QuaternionConv):
    """y = w ⋆ x + b with the Hamilton product w ⊗ x at each tap; otherwise as `torch.nn.Conv1d`.

    Shapes: x [(N,) in_channels, L], channels in blocks r | i | j | k; numbers of channels are multiples of 4. It has a
    quarter of the weights of a real layer. Sources: Gaudet and Maida 2018 (arXiv:1712.04604), Parcollet et al. 2018
    (arXiv:1806.07789).

    Args:
        groups: groups of quaternions. With `groups_of="channels"`, groups of the real channels in their order
            (speechbrain, Orkis); these mix the components, and the layer is not a product of quaternions.
        init, criterion: "chi" (polar form, `fusekit.nn.init.quaternion_chi_`) or "unitary"; "glorot" or "he".
        max_norm: `quaternion_renorm` of each output's kernel in every forward.
    """

    axes = 1


class QuaternionConv2d(_QuaternionConv):
    """`QuaternionConv1d` over two axes."""

    axes = 2


class QuaternionConv3d(_QuaternionConv):
    """`QuaternionConv1d` over three axes."""

    axes = 3


class _QuaternionConvTranspose(QuaternionWeight, BlockConvTranspose):
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
        device: Any = None,
        dtype: Any = None,
        *,
        init: Init = "chi",
        criterion: Criterion = "glorot",
        conjugate: bool = False,
    ) -> None:
        geometry = (kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype)
        super().__init__(4, in_channels, out_channels, *geometry, output_padding=output_padding)
        self.conjugate = conjugate
        self._draw(init, criterion)

    def real_weight(self) -> Tensor:
        """The blocks L(w) [4 out, 4 in / groups, *window] of the weight, in torch's layout."""
        return hamilton_kernel(self.weight, groups=self.groups, transposed=True, conjugate=self.conjugate)


class QuaternionConvTranspose1d(_QuaternionConvTranspose):
    """Transposed convolution with the product w ⊗ x; otherwise as `torch.nn.ConvTranspose1d`.

    `conjugate=True` uses w* ⊗ x. This is the adjoint of a `QuaternionConv1d` with the same weight, and what Orkis
    computes.
    Shapes: x [(N,) in_channels, L], weight [4, in_channels / 4, out_channels / 4 / groups, kernel_size].
    """

    axes = 1


class QuaternionConvTranspose2d(_QuaternionConvTranspose):
    """`QuaternionConvTranspose1d` over two axes."""

    axes = 2


class QuaternionConvTranspose3d(_QuaternionConvTranspose):
    """`QuaternionConvTranspose1d` over three axes."""

    axes = 3
