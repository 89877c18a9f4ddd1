"""Whitening: maps the two parts of a complex number to mean 0 and covariance I. Trabelsi et al. 2018
(arXiv:1705.09792), section 3.5.

    y = Γ V^-1/2 (z - μ) + β        V = [[Vrr, Vri], [Vri, Vii]] + eps I,  Γ = [[γrr, γri], [γri, γii]]
    V^-1/2 = [[Vii + s, -Vri], [-Vri, Vrr + s]] / (s t),   s = √det V,  t = √(tr V + 2 s)

A "naive" batch norm scales each part by itself. This leaves the parts correlated: a cloud of points stays an ellipse.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.operators import CONV
from fusekit.nn.arguments import one_of
from fusekit.nn.functional.complex.parts import as_complex, as_real, from_channels, is_traced, real_bias, to_channels

EpsIn = Literal["use", "store", "both"]


def inverse_root(covariance: Tensor, eps: float) -> Tensor:
    """V^-1/2 as [*, 2, 2] for V = [*, 3] (rr, ii, ri). V already contains eps.

    det(S + eps I) = det S + eps tr S + eps² is at least eps (tr V - eps). If the parts are strongly correlated,
    rounding can make Vrr Vii - Vri² smaller than this bound, even negative. Then the bound is used, so that there is no
    NaN.
    """
    rr, ii, ri = covariance.unbind(-1)
    trace = rr + ii
    s = torch.maximum(rr * ii - ri * ri, eps * (trace - eps)).sqrt()
    t = (trace + 2 * s).sqrt()
    rows = torch.stack([ii + s, -ri], -1), torch.stack([-ri, rr + s], -1)
    return torch.stack(rows, -2) / (s * t)[..., None, None]


def covariance_of(centred: Tensor, axes: list[int], keepdim: bool = False) -> Tensor:
    """[*, 2] parts of mean 0 -> [*, 3] (rr, ii, ri), the mean over the axes (biased)."""
    product = centred[..., 0] * centred[..., 1]
    return torch.cat([centred.square(), product.unsqueeze(-1)], -1).mean(axes, keepdim)


def symmetric(weight: Tensor) -> Tensor:
    """[*, 3] (rr, ii, ri) -> [*, 2, 2]."""
    rr, ii, ri = weight.unbind(-1)
    return torch.stack([torch.stack([rr, ri], -1), torch.stack([ri, ii], -1)], -2)


def complex_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_covar: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    eps_in: EpsIn = "use",
    n: int | None = None,
) -> Tensor:
    """y = Γ V^-1/2 (z - μ) + β per channel, over the batch and all positions; evaluated as one grouped 1x1 convolution.

    Args:
        x: [N, C, *S] complex.
        running_mean, running_covar: [C] complex, [C, 3] real (rr, ii, ri); updated in place in training with the
            unbiased covariance, as torch does. None: the statistics of the batch are used in evaluation too.
        weight, bias: Γ as [C, 3] real (rr, ii, ri), β as [C] complex.
        momentum: the weight of the batch in the running statistics, with `training`.
        eps_in: "use", as in torch's batch norm: running_covar is the plain covariance and eps is added where it is
            used. "store": running_covar contains eps, and evaluation adds none (complextorch). "both": it contains eps,
            and evaluation adds it once more (complexPyTorch).
        n: the number of spatial axes, by default that of x. In a symbolic trace it must be given: x has no rank there.

    Raises ValueError if x has too few axes, or one value per channel in training.
    """
    one_of(EpsIn, "eps_in", eps_in)
    if n is None:
        n = x.ndim - 2
        if n < 0:
            raise ValueError(f"expected an input [N, C, *S], got shape {list(x.shape)}")
    if training or running_mean is None or running_covar is None:
        parts = as_real(x)
        axes = [0, *range(2, x.ndim)]
        mean = parts.mean(axes)
        centred = parts - mean.reshape(-1, *(1,) * n, 2)
        plain = covariance_of(centred, axes)
        covariance = _plus(plain, eps)
        if training and running_mean is not None and running_covar is not None:
            count = x.numel() // max(x.shape[1], 1)
            if count <= 1:
                raise ValueError(f"expected more than 1 value per channel when training, got shape {list(x.shape)}")
            with torch.no_grad():
                stored = (plain if eps_in == "use" else covariance) * (count / (count - 1))
                running_mean += momentum * (as_complex(mean) - running_mean)
                running_covar += momentum * (stored - running_covar)
        whole = inverse_root(covariance, eps)
        whole = whole if weight is None else symmetric(weight) @ whole
        shift = real_bias(bias)
        return _per_channel(as_complex(centred), whole, shift, n)
    whole = inverse_root(running_covar if eps_in == "store" else _plus(running_covar, eps), eps)
    whole = whole if weight is None else symmetric(weight) @ whole
    moved = (whole @ as_real(running_mean).unsqueeze(-1)).flatten()
    shift = -moved if bias is None else as_real(bias).flatten() - moved
    return _per_channel(x, whole, shift, n)


def complex_layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """y = Γ V^-1/2 (z - μ) + β over the last axes, for each sample by itself. Over a single element z = μ, so y = β.

    x [*, *normalized_shape] complex, else ValueError; `weight` Γ [*normalized_shape, 3] real (rr, ii, ri), `bias` β
    [*normalized_shape] complex; `eps` is added to both variances in V.
    """
    size = len(normalized_shape)
    if size == 0 or not (is_traced(x) or tuple(x.shape[x.ndim - size :]) == tuple(normalized_shape)):
        raise ValueError(f"expected an input [*, {', '.join(map(str, normalized_shape))}], got shape {list(x.shape)}")
    parts = as_real(x)
    axes = [-2 - i for i in range(size)]
    centred = parts - parts.mean(axes, keepdim=True)
    whole = inverse_root(_plus(covariance_of(centred, axes, keepdim=True), eps), eps)
    y = (whole * centred.unsqueeze(-2)).sum(-1)
    if weight is not None:
        y = (symmetric(weight) * y.unsqueeze(-2)).sum(-1)
    return as_complex(y if bias is None else y + as_real(bias))


def complex_normalize(x: Tensor) -> Tensor:
    """Scale each part to mean 0 and standard deviation 1 (unbiased) over all elements of x [*]. The correlation of the
    parts stays. As in complexPyTorch."""
    parts = as_real(x)
    axes = list(range(x.ndim))
    return as_complex((parts - parts.mean(axes)) / parts.std(axes))


def _plus(covariance: Tensor, eps: float) -> Tensor:
    """V + eps I."""
    return covariance + covariance.new_tensor([eps, eps, 0.0])


def _per_channel(x: Tensor, matrices: Tensor, shift: Tensor | None, n: int) -> Tensor:
    """A 2x2 matrix M [C, 2, 2] on the parts of each channel, plus shift [2C].

    In a program that is optimized or exported, it is a convolution with C groups and one tap, which folds into its
    neighbours. Otherwise it is a z + b z̄ with 2 a = Mrr + Mii + j (Mir - Mri), 2 b = Mrr - Mii + j (Mir + Mri), which
    is faster.
    """
    if is_traced(x) or torch.compiler.is_exporting():
        channels = to_channels(x, n)
        weight = matrices.flatten(0, 1)
        if n == 0:
            y = F.conv1d(channels.unsqueeze(-1), weight.unsqueeze(-1), shift, groups=matrices.shape[0])
            return from_channels(y.squeeze(-1), 0)
        y = CONV[n](channels, weight.reshape(*weight.shape, *(1,) * n), shift, groups=matrices.shape[0])
        return from_channels(y, n)
    (rr, ri), (ir, ii) = (row.unbind(-1) for row in matrices.unbind(-2))
    over_space = (-1, *(1,) * n)
    a = torch.complex(rr + ii, ir - ri).reshape(over_space) / 2
    b = torch.complex(rr - ii, ir + ri).reshape(over_space) / 2
    z = as_complex(as_real(x))
    y = a * z + b * z.conj()
    return y if shift is None else y + as_complex(shift.unflatten(0, (-1, 2))).reshape(over_space)
