"""Layers that rotate: "spinor" networks, whose weights are unit quaternions q acting by v ↦ q v q*."""

from typing import Any

import torch
from torch import Generator, Tensor, nn

from fusekit.nn.arguments import Size
from fusekit.nn.functional.quaternion import rotation_kernel
from fusekit.nn.functional.quaternion.rotation import Norm
from fusekit.nn.hypercomplex.block import BlockConv, BlockLinear
from fusekit.nn.init.criterion import Criterion
from fusekit.nn.quaternion.weights import Init, QuaternionWeight


class _Rotation(QuaternionWeight):
    """A layer whose `weight` holds unit quaternions that rotate; `scale` has a factor for each of them."""

    def _rotate(self, scale: bool, inverse: bool, norm: Norm) -> None:
        self.inverse, self.norm = inverse, norm
        self.scale = nn.Parameter(torch.empty_like(self.weight[0])) if scale else None

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the weight as in other quaternion layers, and the factors by Glorot's uniform rule. `generator`: source
        of random numbers, by default torch's."""
        super().reset_parameters(generator)
        if self.scale is not None:
            nn.init.xavier_uniform_(self.scale, generator=generator)

    def real_weight(self) -> Tensor:
        """s R(q) [4 out, 4 in / groups, *window] of the weight (`functional.rotation_kernel`)."""
        return rotation_kernel(self.weight, self.scale, groups=self.groups, inverse=self.inverse, norm=self.norm)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if f"{prefix}scale_param" in state_dict:  # speechbrain's
            state_dict[f"{prefix}scale"] = self._ours(state_dict.pop(f"{prefix}scale_param"))
        super()._load_from_state_dict(state_dict, prefix, *args)


class QuaternionRotationLinear(_Rotation, BlockLinear):
    """y_o = Σ_i s_oi q_oi x_i q_oi* + b_o, q = w / |w|. Shapes: x [*, in_features], y [*, out_features].

    Only the blocks i | j | k of x are read and rotated; the block r of y is only its bias. Source: Parcollet
    2019, "Quaternion neural networks" (thesis).

    Args:
        scale: a learned factor s for each rotation, otherwise s = 1. Without it, sums of rotated vectors grow with the
            width.
        inverse: compute q* v q, as speechbrain's linear layer does (with norm "shifted").
        init, criterion: as of `QuaternionLinear`.
        norm: how w becomes q: "exact"; "shifted" by |w| + 1e-4; "softened" by √(|w|² + 1e-4), speechbrain's in
            convolutions. With the last two |q| < 1, so the map is not exactly a rotation, by about 1e-4.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        scale: bool = False,
        inverse: bool = False,
        norm: Norm = "exact",
        init: Init = "chi",
        criterion: Criterion = "glorot",
    ) -> None:
        super().__init__(4, in_features, out_features, bias, device, dtype)
        self._rotate(scale, inverse, norm)
        self._draw(init, criterion)


class _QuaternionRotationConv(_Rotation, BlockConv):
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
        scale: bool = False,
        inverse: bool = False,
        norm: Norm = "exact",
        init: Init = "chi",
        criterion: Criterion = "glorot",
    ) -> None:
        geometry = (kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype)
        super().__init__(4, in_channels, out_channels, *geometry)
        self._rotate(scale, inverse, norm)
        self._draw(init, criterion)


class QuaternionRotationConv1d(_QuaternionRotationConv):
    """`QuaternionRotationLinear` at each tap, otherwise as `torch.nn.Conv1d`; x [(N,) in_channels, L].

    One unit quaternion, and with `scale` one factor, for each (output, input, tap); `inverse`, `norm`, `init` and
    `criterion` as in `QuaternionRotationLinear`.
    """

    axes = 1


class QuaternionRotationConv2d(_QuaternionRotationConv):
    """`QuaternionRotationConv1d` over two axes."""

    axes = 2


class QuaternionRotationConv3d(_QuaternionRotationConv):
    """`QuaternionRotationConv1d` over three axes."""

    axes = 3
