"""Norms by the statistics of what comes in: standardized, then scaled and shifted.

    norm(x) = γ · std(x) + β          c ∘ norm = (c ∘ (γ, β)) ∘ std

std is (x - mean) / sqrt(var + ε) over the last axis (Ba et al., Layer Normalization, 2016) or over groups of channels
and their positions (Wu and He, Group Normalization, 2018), or x / sqrt(mean(x²) + ε) over the last axis (Zhang and
Sennrich, RMSNorm, 2019).
"""

import math
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.values import to_meta
from fusekit.algebra.work import FREE, Rates, Work


@dataclass(frozen=True, eq=False)
class Normalization(Map):
    """`kind`: "layer" or "rms", of `channels` on the last axis, or "group", of `groups` of the channels that stand
    before `n` axes, behind a batch. `weight` γ and `bias` β are [channels] or None, `eps` is ε or None: torch's own.
    """

    kind: str
    channels: int
    eps: float | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    groups: int = 1
    n: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = (None if v is None else v.to(x.dtype) for v in (self.weight, self.bias))
        if self.kind == "group":
            return F.group_norm(x, self.groups, weight, bias, self.eps or 0.0)
        if self.kind == "rms":
            return F.rms_norm(x, [self.channels], weight, self.eps)
        return F.layer_norm(x, [self.channels], weight, bias, self.eps or 0.0)

    def parts(self) -> "tuple[Affine, Normalization] | None":
        """(scale and shift, the standardization alone); None if there is neither scale nor shift."""
        if self.weight is None and self.bias is None:
            return None
        return Affine.of(self.weight, self.bias, -self.n - 1), replace(self, weight=None, bias=None)

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def macs(self, shape: Shape) -> int:
        return math.prod(shape)

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """Where every norm scales, the ones that stand for no scale are made when it runs."""
        made = Work(0, 0, 2) if rates.scales_norms and self.weight is None else FREE
        return super().work(shape, itemsize, rates) + made

    def constants(self) -> tuple[Tensor, ...]:
        return tuple(v for v in (self.weight, self.bias) if v is not None)

    def on_meta(self) -> "Normalization":
        return replace(self, weight=to_meta(self.weight), bias=to_meta(self.bias))
