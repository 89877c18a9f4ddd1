"""Quaternion weights in polar form: modulus, unit axis and phase are drawn independently.

    w = |w| (cos φ + u sin φ),    |w| / s ~ χ(4),  u uniform on the unit sphere of the imaginary part,  φ ~ U(-π, π)
    Glorot: s = 1 / √(2 (fan_in + fan_out))        He: s = 1 / √(2 fan_in)        fans in quaternions

E |w|² = 4 s². So for a layer with n inputs and m outputs, Var y = 4 s² n Var x for each component; the factor is 2 n /
(n + m) for Glorot and 2 for He. The real part has half of E |w|², and each imaginary part a sixth. Source: Parcollet et
al. 2019 (arXiv:1806.04418), section 3.4.

Weights are [4, out, in / groups, *window]; for a transposed convolution [4, in, out / groups, *window]. Numbers
are drawn from torch's generator, or from `generator`.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from fusekit.nn.init.criterion import Criterion, fan_of


def quaternion_init(
    in_features: int,
    out_features: int,
    kernel_size: int | Sequence[int] | None = None,
    criterion: Criterion = "glorot",
    *,
    generator: Generator | None = None,
    **factory: Any,
) -> Tensor:
    """A weight [4, out, in, *kernel_size] in polar form; `in_features` and `out_features` count quaternions.

    `criterion` and `generator` as of `quaternion_chi_`; `factory`: device and dtype.
    """
    shape = _shape(in_features, out_features, kernel_size)
    return quaternion_chi_(torch.empty(shape, **factory), criterion, generator=generator)


def unitary_init(
    in_features: int,
    out_features: int,
    kernel_size: int | Sequence[int] | None = None,
    *,
    generator: Generator | None = None,
    **factory: Any,
) -> Tensor:
    """A weight [4, out, in, *kernel_size] of unit quaternions, uniform on the sphere S³; the rest as of
    `quaternion_init`."""
    return quaternion_unitary_(
        torch.empty(_shape(in_features, out_features, kernel_size), **factory), generator=generator
    )


@torch.no_grad()
def quaternion_chi_(
    weight: Tensor, criterion: Criterion = "glorot", *, transposed: bool = False, generator: Generator | None = None
) -> Tensor:
    """Fills a weight of any of the shapes above, [4, out, in, *window], in place, and returns it.

    The fans are those of one group; `transposed` weights are [4, in, out, *window]; `criterion` "glorot" or "he", else
    ValueError; `generator`: where numbers are drawn from, by default torch's. Source: Parcollet et al. 2019
    (arXiv:1806.04418), section 3.4.
    """
    scale = polar_scale(*fans(weight, transposed), criterion)
    shape = weight.shape[1:]

    def normal(count: int) -> Tensor:
        return torch.randn((count, *shape), generator=generator, dtype=torch.float64, device=weight.device)

    modulus = scale * torch.linalg.vector_norm(normal(4), dim=0)
    axis = torch.nn.functional.normalize(normal(3), dim=0)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=weight.device)
    phase = math.pi * (2 * uniform - 1)
    return weight.copy_(torch.cat([(modulus * phase.cos()).unsqueeze(0), modulus * phase.sin() * axis]))


@torch.no_grad()
def quaternion_unitary_(weight: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Fills a weight [4, *] with unit quaternions, in place, and returns it. There is no scale, so no criterion.

    `generator`: where numbers are drawn from, by default torch's.
    """
    drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64, device=weight.device)
    return weight.copy_(torch.nn.functional.normalize(drawn, dim=0))


def polar_scale(fan_in: int, fan_out: int, criterion: Criterion) -> float:
    """s in the formulas at the top of this file."""
    fan = fan_of(criterion, fan_in, fan_out)
    return 1 / math.sqrt(2 * fan) if fan else 0.0


def fans(weight: Tensor, transposed: bool = False) -> tuple[int, int]:
    """(fan_in, fan_out) in numbers of the algebra: channels times taps."""
    if weight.ndim < 3 or weight.shape[0] != 4:
        raise ValueError(f"expected a weight [4, out, in, *window], got shape {list(weight.shape)}")
    _, first, second, *window = weight.shape
    taps = math.prod(window)
    return (first * taps, second * taps) if transposed else (second * taps, first * taps)


def _shape(in_features: int, out_features: int, kernel_size: int | Sequence[int] | None) -> tuple[int, ...]:
    window = () if kernel_size is None else (kernel_size,) if isinstance(kernel_size, int) else tuple(kernel_size)
    return (4, out_features, in_features, *window)
