"""Complex nonlinearities. Those that need the phase use z / |z| instead of an angle. So nothing jumps at ±π, the value
at 0 is chosen explicitly, and gradients there are finite."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.nn.arguments import one_of
from fusekit.nn.functional.complex.parts import as_complex, as_real, on_parts

Form = Literal["split", "holomorphic"]
AtZero = Literal["zero", "real"]


def _modulus(x: Tensor) -> tuple[Tensor, Tensor]:
    """(|z|, mask). The mask is true where z is 0, or so small that 1 / |z| overflows. There neither |z| nor z / |z| has
    a usable gradient, and the modulus is returned as √2."""
    is_zero = x.abs().detach().reciprocal().isinf()
    return as_complex(torch.where(is_zero.unsqueeze(-1), 1, as_real(x))).abs(), is_zero


def crelu(x: Tensor) -> Tensor:
    """ReLU(Re z) + j ReLU(Im z), z = x [*] complex. Source: Trabelsi et al. 2018 (arXiv:1705.09792)."""
    return on_parts(F.relu, x)


def zrelu(x: Tensor, *, axes: bool = True) -> Tensor:
    """z where Re z >= 0 and Im z >= 0, else 0, z = x [*] complex; `axes=False` uses > instead (torchcvnn).

    Source: Guberman 2016 (arXiv:1602.09046), whose condition 0 <= ∠z <= π/2 includes the axes.
    """
    parts = as_real(x)
    inside = parts.amin(-1, keepdim=True)
    return as_complex(torch.where(inside >= 0 if axes else inside > 0, parts, 0))


def modrelu(x: Tensor, bias: Tensor | float, *, at_zero: AtZero = "zero") -> Tensor:
    """ReLU(|z| + b) z / |z|, z = x [*] complex, `bias` b real, of a shape that broadcasts with z.

    For b > 0 it has no limit at z = 0, so `at_zero` chooses the value there: "zero" gives 0, the mean of the values
    around it (complextorch); "real" gives ReLU(b), as if the phase of 0 were 0 (torchcvnn's exp(j∠z)). ValueError for
    anything else.
    Source: Arjovsky et al. 2016 (arXiv:1511.06464).
    """
    modulus, is_zero = _modulus(x)
    grown = F.relu(torch.where(is_zero, 0, modulus) + bias)
    unit = as_real(x) / modulus.unsqueeze(-1)
    if one_of(AtZero, "at_zero", at_zero) == "real":
        phase_of_zero = torch.stack([is_zero.to(unit.dtype), torch.zeros_like(modulus)], -1)
        unit = torch.where(is_zero.unsqueeze(-1), phase_of_zero, unit)
    return as_complex(unit * grown.unsqueeze(-1))


def cardioid(x: Tensor) -> Tensor:
    """½ (1 + cos ∠z) z = ½ (1 + Re z / |z|) z, z = x [*] complex, which is ReLU on the real axis; 0 at 0.

    Source: Virtue, Yu, Lustig 2017 (arXiv:1707.00070).
    """
    parts = as_real(x)
    cosine = parts[..., 0] / _modulus(x)[0]
    return as_complex(0.5 * (1 + cosine).unsqueeze(-1) * parts)


def ctanh(x: Tensor, form: Form = "split") -> Tensor:
    """tanh(Re z) + j tanh(Im z), bounded; or the analytic tanh z, which has poles at j (π/2 + k π). z = x [*] complex.

        tanh z = (±(1 - q²) + 2 j q sin(2 Im z)) / (1 + q² + 2 q cos(2 Im z)),  q = exp(-2 |Re z|)

    q cannot overflow. `form`: "split" or "holomorphic", else ValueError.
    """
    if one_of(Form, "form", form) == "split":
        return on_parts(torch.tanh, x)
    parts = as_real(x)
    re, im = parts[..., 0], parts[..., 1]
    q = torch.exp(-2 * re.abs())
    below = (1 - q).square() + 4 * q * im.cos().square()  # 1 + q² + 2 q cos(2 im), without cancellation at the poles
    return as_complex(torch.stack([torch.tanh(re) * (1 + q).square() / below, 2 * q * torch.sin(2 * im) / below], -1))


def csigmoid(x: Tensor, form: Form = "split") -> Tensor:
    """σ(Re z) + jσ(Im z), or the analytic 1 / (1 + exp(-z)) = ½ (1 + tanh(z / 2)), z = x [*] complex.

    `form`: "split" or "holomorphic", else ValueError.
    """
    if form == "split":
        return on_parts(torch.sigmoid, x)
    parts = as_real(ctanh(as_complex(as_real(x) / 2), form))
    return as_complex(torch.stack([0.5 + parts[..., 0] / 2, parts[..., 1] / 2], -1))


def cprelu(x: Tensor, weight: Tensor) -> Tensor:
    """PReLU(Re z) + j PReLU(Im z), z = x [*] or [N, C, *S] complex.

    `weight` [1, 2] or [C, 2], real: the slopes of the two parts below 0, for all channels or for each channel.
    ValueError for other shapes.
    """
    parts = as_real(x)
    if weight.ndim != 2 or weight.shape[1] != 2 or (weight.shape[0] != 1 and parts.ndim < 3):
        raise ValueError(
            f"expected slopes of shape [1, 2], or [C, 2] and an input [N, C, ...], got {list(weight.shape)}"
        )
    slopes = weight if weight.shape[0] == 1 else weight.reshape(-1, *(1,) * (parts.ndim - 3), 2)
    return as_complex(torch.where(parts > 0, parts, slopes * parts))
