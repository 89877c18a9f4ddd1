"""Initial values of complex weights. Trabelsi et al. 2018 (arXiv:1705.09792), section 3.6.

    w = r exp(jφ),  r ~ Rayleigh(σ),  φ ~ U(-π, π)        E w = 0,  Var w = E |w|² = 2 σ²

This is the circular complex normal distribution. Var w = 2 / (fan_in + fan_out) keeps the size of activations and
gradients (Glorot); 2 / fan_in compensates for a ReLU (He). Fans count complex inputs and outputs: kernel taps times
channels of one group.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn.init import _calculate_fan_in_and_fan_out

from fusekit.nn.init.criterion import Criterion, fan_of


def complex_variance(tensor: Tensor, criterion: Criterion = "glorot", *, transposed: bool = False) -> float:
    """E |w|² by the criterion, for a weight `tensor` [out, in, *k], or [in, out, *k] if transposed."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    if transposed:
        fan_in, fan_out = fan_out, fan_in
    return 2 / max(fan_of(criterion, fan_in, fan_out), 1)


def complex_rayleigh_(
    tensor: Tensor,
    criterion: Criterion = "glorot",
    *,
    gain: float = 1.0,
    transposed: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Rayleigh modulus, uniform phase, standard deviation gain · √variance of the criterion. In place.

    `tensor` [out, in, *k] complex, `transposed` [in, out, *k], else TypeError; `generator`: where numbers are drawn
    from, by default torch's. speechbrain's `complex_init` takes the variance for σ (no square root), so that its
    weights shrink with the width. Source: Trabelsi et al. 2018 (arXiv:1705.09792), section 3.6.
    """
    sigma = gain * math.sqrt(complex_variance(_complex(tensor), criterion, transposed=transposed) / 2)
    with torch.no_grad():
        torch.view_as_real(tensor).normal_(0.0, sigma, generator=generator)  # polar form of two independent normals
    return tensor


def complex_unitary_(
    tensor: Tensor,
    criterion: Criterion = "glorot",
    *,
    gain: float = 1.0,
    transposed: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Draws [out, in · taps] with orthogonal rows, or columns if these are fewer, of equal length, uniformly.

    The mean of |w|² is gain² · variance of the criterion. In place; `tensor`, `transposed` and `generator` as of
    `complex_rayleigh_`. Source: Mezzadri 2007 (arXiv:math-ph/0609050).
    """
    variance = complex_variance(_complex(tensor), criterion, transposed=transposed)
    with torch.no_grad():
        matrix = tensor.transpose(0, 1) if transposed else tensor
        rows, columns = matrix.shape[0], matrix[0].numel()
        drawn = torch.empty(max(rows, columns), min(rows, columns), dtype=tensor.dtype, device=tensor.device)
        torch.view_as_real(drawn).normal_(generator=generator)
        q, r = torch.linalg.qr(drawn)
        q = q * r.diagonal().sgn()  # Haar-uniform: Mezzadri 2007 (arXiv:math-ph/0609050)
        q = q if rows > columns else q.mT
        matrix.copy_(q.reshape(matrix.shape) * (gain * math.sqrt(variance * max(rows, columns))))
    return tensor


def complex_phase_(tensor: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Entries of modulus 1 and uniform phase: what speechbrain calls unitary. In place.

    `tensor` [*] complex, else TypeError; `generator`: where numbers are drawn from, by default torch's.
    """
    with torch.no_grad():
        phase = torch.view_as_real(_complex(tensor))[..., 0].uniform_(-math.pi, math.pi, generator=generator).clone()
        tensor.copy_(torch.polar(torch.ones_like(phase), phase))
    return tensor


def _complex(tensor: Tensor) -> Tensor:
    if not tensor.is_complex():
        raise TypeError(f"expected a complex tensor, got {tensor.dtype}")
    return tensor
