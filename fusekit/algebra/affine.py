"""Per-channel affine maps: a(x) = s * x + t along one axis.

    (s2, t2) ∘ (s1, t1) = (s2 s1, s2 t1 + t2)          (s1, t1) + (s2, t2) = (s1 + s2, t1 + t2)

Batch norm in evaluation mode, a scale, a shift and (x - mean) / std are all of this kind. The axis is counted from
the right, so that it means the same with and without a batch dimension; -1 is the feature axis of a linear layer,
-(n + 1) the channel axis of an n-dimensional convolution. It is part of the value: two maps with as many channels on
different axes do not compose.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fusekit.algebra.map import Map, Shape
from fusekit.algebra.span import POINT, Span
from fusekit.algebra.values import is_one, is_zero, wide
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class Affine(Map):
    """`scale` * x + `shift`, both of shape [C] along `axis` (negative), or both of shape [] and `axis` None. ValueError
    for anything else."""

    scale: Tensor
    shift: Tensor
    axis: int | None

    def __post_init__(self) -> None:
        if (self.axis is None) != (self.scale.ndim == 0 and self.shift.ndim == 0):
            raise ValueError(f"axis {self.axis} with scale {list(self.scale.shape)}, shift {list(self.shift.shape)}")
        if self.axis is not None and (self.axis >= 0 or self.scale.shape != self.shift.shape or self.scale.ndim != 1):
            raise ValueError("scale and shift must be two [C] vectors along a negative axis")

    @classmethod
    def of(cls, scale: Tensor | None, shift: Tensor | None, axis: int | None) -> "Affine":
        """From a `scale` and a `shift`, either of which may be missing (1, 0) or a scalar while the other is [C] along
        `axis`. ValueError if both are missing."""
        scale = torch.ones_like(shift) if scale is None and shift is not None else scale
        shift = torch.zeros_like(scale) if shift is None and scale is not None else shift
        if scale is None or shift is None:
            raise ValueError("an affine map needs a scale or a shift")
        scale, shift = torch.broadcast_tensors(scale, shift)
        return cls(scale, shift, axis if scale.ndim else None)

    @classmethod
    def batch_norm(
        cls, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float, axis: int
    ) -> "Affine":
        """Evaluation-mode batch norm: s = γ / sqrt(σ² + ε), t = β - s μ (Ioffe and Szegedy, 2015), in float64.

        `weight` γ, `bias` β, `mean` μ and `var` σ² are [C] along `axis`, `eps` is ε; γ and β may be missing (1, 0).
        """
        scale = torch.rsqrt(wide(var) + eps)
        scale = scale if weight is None else scale * wide(weight)
        shift = -scale * wide(mean)
        return cls(scale, shift if bias is None else shift + wide(bias), axis)

    @property
    def channels(self) -> int | None:
        """C, or None for a scalar map, which takes any number of channels."""
        return None if self.axis is None else int(self.scale.shape[0])

    def is_identity(self) -> bool:
        """Whether s = 1 and t = 0."""
        return is_one(self.scale) and is_zero(self.shift)

    def along(self, axis: int, channels: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift as float64 vectors [channels] along `axis`, on a device; Inapplicable if they live on another
        axis."""
        if self.axis is None:
            return wide(self.scale).to(device).expand(channels), wide(self.shift).to(device).expand(channels)
        if self.axis != axis:
            raise Inapplicable(f"the affine map acts on axis {self.axis}, the channels are on axis {axis}")
        if self.channels != channels:
            raise Inapplicable(f"the affine map has {self.channels} channels, its neighbour {channels}")
        return wide(self.scale), wide(self.shift)

    def narrowed(self, start: int, channels: int) -> "Affine":
        """The same map on `channels` of its channels, from `start`."""
        if self.axis is None:
            return self
        return Affine(self.scale[start : start + channels], self.shift[start : start + channels], self.axis)

    def __call__(self, x: Tensor) -> Tensor:
        trailing = (1,) * (-self.axis - 1) if self.axis is not None else ()
        scale, shift = (v.to(x.dtype).reshape((*v.shape, *trailing)) for v in (self.scale, self.shift))
        return x * scale + shift

    def __matmul__(self, inner: "Affine") -> "Affine":
        if not isinstance(inner, Affine):
            return NotImplemented
        axis = self._common_axis(inner)
        shift = wide(self.scale) * wide(inner.shift) + wide(self.shift)
        return Affine.of(wide(self.scale) * wide(inner.scale), shift, axis)

    def __add__(self, other: "Affine") -> "Affine":
        if not isinstance(other, Affine):
            return NotImplemented
        axis = self._common_axis(other)
        return Affine.of(wide(self.scale) + wide(other.scale), wide(self.shift) + wide(other.shift), axis)

    def _common_axis(self, other: "Affine") -> int | None:
        if self.axis is not None and other.axis is not None and self.axis != other.axis:
            raise Inapplicable(f"the affine maps act on different axes, {self.axis} and {other.axis}")
        if self.channels and other.channels and self.channels != other.channels:
            raise Inapplicable(f"the affine maps have {self.channels} and {other.channels} channels")
        return self.axis if self.axis is not None else other.axis

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def macs(self, shape: Shape) -> int:
        return math.prod(shape)

    def constants(self) -> tuple[Tensor, ...]:
        return (self.scale, self.shift)

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """One pass over the data, as a batch norm where the channels stand behind the batch; else one each for a scale
        and a shift, if there are both."""
        once = super().work(shape, itemsize, rates)
        is_norm = self.axis is not None and self.axis == 1 - len(shape)
        return once if is_norm or is_one(self.scale) or is_zero(self.shift) else once + once

    def span(self) -> Span:
        return POINT

    def linear_part(self) -> "Affine":
        return replace(self, shift=torch.zeros_like(self.shift))

    def on_meta(self) -> "Affine":
        return Affine(self.scale.to("meta"), self.shift.to("meta"), self.axis)
