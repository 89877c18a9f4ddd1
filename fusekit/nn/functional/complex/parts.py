"""Converts complex tensors to real ones and back. All complex functions here use this.

    x [*, C, *S] complex  <->  [*, 2C, *S] real, the channels being Re x_0, Im x_0, Re x_1, Im x_1, ...

A real linear map then is a complex one if each of its 2x2 blocks has the form

    M(w) = [[Re w, -Im w],
            [Im w,  Re w]]          M(v w) = M(v) M(w)

So a complex convolution is one real convolution, grouped or not, and is exported as one. The parts of a number are side
by side, as they are in memory. So without spatial axes nothing is copied.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, fx


def is_traced(x: object) -> bool:
    """True if x stands for a tensor in a symbolic trace. Then its shape is not known."""
    return isinstance(x, fx.Proxy)


def as_real(x: Tensor) -> Tensor:
    """[*] complex -> [*, 2] real. TypeError for a real tensor, which torch's complex layers do not promote either."""
    try:
        return torch.view_as_real(x.resolve_conj())
    except RuntimeError as error:
        raise TypeError(
            f"expected a complex tensor, got {x.dtype} of shape {list(x.shape)}; x.to(torch.complex64) makes one"
        ) from error


def as_complex(parts: Tensor) -> Tensor:
    """[*, 2] real -> [*] complex, the inverse of `as_real`."""
    return torch.view_as_complex(parts.contiguous())


def to_channels(x: Tensor, n: int) -> Tensor:
    """[*, C, *S] complex -> [*, 2C, *S] real, for n spatial axes."""
    parts = as_real(x)
    return parts.movedim(-1, -n - 1).flatten(-n - 2, -n - 1) if n else parts.flatten(-2)


def from_channels(y: Tensor, n: int) -> Tensor:
    """[*, 2C, *S] real -> [*, C, *S] complex, the inverse of `to_channels`."""
    parts = y.unflatten(-n - 1, (y.shape[-n - 1] // 2, 2))
    if n:  # `contiguous` would leave the strides of an empty tensor as they are
        parts = parts.movedim(-n - 1, -1).clone(memory_format=torch.contiguous_format)
    return as_complex(parts)


def on_parts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f(Re x) + j f(Im x) for an elementwise f."""
    return as_complex(function(as_real(x)))


def on_channels(function: Callable[[Tensor], Tensor], x: Tensor, n: int) -> Tensor:
    """f(Re x) + j f(Im x) for an f that treats all channels alike, over n spatial axes."""
    return from_channels(function(to_channels(x, n)), n)


def apply_complex(fr: Callable[[Tensor], Tensor], fi: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(fr(Re x) - fi(Im x)) + j (fr(Im x) + fi(Re x)), two real layers as one complex layer; x [*] complex.

    If fr and fi are linear, this is the map fr + j fi. If each has a bias, the effective bias is (br - bi) + j (br +
    bi) = (1 + j)(br + j bi). The dtype is that of the layers; nothing is cast. TypeError for a real x. Source:
    complexPyTorch, Popoff.
    """
    parts = as_real(x)
    re, im = parts[..., 0], parts[..., 1]
    return torch.complex(fr(re) - fi(im), fr(im) + fi(re))


def real_weight(weight: Tensor, *, transposed: bool = False) -> Tensor:
    """[out, in, *k] complex -> [2 out, 2 in, *k] real in blocks M(w); transposed, [in, out, *k] in blocks M(w)ᵀ."""
    re, im = weight.real, weight.imag
    if transposed:
        im = -im
    first, second = torch.stack([re, -im], 2), torch.stack([im, re], 2)
    return torch.stack([first, second], 1).flatten(2, 3).flatten(0, 1)


def real_bias(bias: Tensor | None) -> Tensor | None:
    """[out] complex -> [2 out] real."""
    return None if bias is None else as_real(bias).flatten()


def times_one_plus_j(bias: Tensor) -> Tensor:
    """(1 + j) b: the effective bias of two real layers with the biases Re b and Im b (`apply_complex`)."""
    re, im = bias.real, bias.imag
    return as_complex(torch.stack([re - im, re + im], -1))


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """The complex product of two [*, 2] real tensors."""
    (ar, ai), (br, bi) = a.unbind(-1), b.unbind(-1)
    return torch.stack([ar * br - ai * bi, ar * bi + ai * br], -1)


def interpolate_polar(x: Tensor, **options: object) -> Tensor:
    """Interpolates modulus and phase separately; `options` are those of `torch.nn.functional.interpolate`.

    The phase is averaged as a number, not as an angle, so results near ±π are poor. Prefer `ComplexUpsample`, which
    interpolates the parts. Source: complexPyTorch's `complex_upsample2`.
    """
    modulus, phase = F.interpolate(x.abs(), **options), F.interpolate(x.angle(), **options)  # type: ignore[arg-type]
    return torch.complex(modulus * phase.cos(), modulus * phase.sin())
