"""Convolution by FFT with the signatures of torch.nn.functional.

    fft_conv2d(x, w, ...) = F.conv2d(x, w, ...)             up to rounding; likewise 1d, 3d and transposed

The work grows with log k instead of the number k of taps. Supported are real and complex numbers, float16 to
complex128, gradients of any order, any stride, dilation, padding and grouping. Arguments that do not make a
convolution, and cases with nothing to compute (an empty batch, integers), are passed to F.conv, so that torch raises
its own errors.

Two things differ from a direct convolution. Rounding errors are relative to the largest value of a tile, not of a
window. And one NaN or infinity in the input spoils the outputs of its whole tile.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from fusekit.algebra.map import Pairs, Shape
from fusekit.algebra.operators import CONV, CONV_TRANSPOSE, Operators
from fusekit.algebra.transforms.spectral_conv import Geometry
from fusekit.nn.arguments import Size
from fusekit.nn.functional.axes import over_axes
from fusekit.nn.spectra import Spectra
from fusekit.nn.spectral import DTYPES, spectral_convolve


def convolve(
    n: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
    *,
    spectra: Spectra | None = None,
) -> Tensor:
    """F.conv{n}d by FFT; `spectra` as in `spectral_convolve`."""
    plain = (x, weight, bias, stride, padding, dilation, groups)
    x, weight, bias, dtype = _autocast(x, weight, bias)
    steps, dilations = _each(stride, n), _each(dilation, n)
    if steps is None or dilations is None or not _agree(n, x, weight, bias):
        return CONV[n](*plain)
    pairs = _pairs(padding, weight.shape[2:], steps, dilations)
    per_group = weight.shape[1] * groups == x.shape[-n - 1] and groups > 0 and weight.shape[0] % groups == 0
    if pairs is None or not per_group or (bias is not None and len(bias) != weight.shape[0]):
        return CONV[n](*plain)
    for size, (low, high), d, k in zip(x.shape[-n:], pairs, dilations, weight.shape[2:], strict=True):
        if size + low + high < d * (k - 1) + 1:
            return CONV[n](*plain)
    return _run(n, x, weight, bias, Geometry(steps, pairs, dilations, groups), spectra, dtype)


def convolve_transposed(
    n: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size | str,
    output_padding: Size,
    groups: int,
    dilation: Size,
    *,
    spectra: Spectra | None = None,
) -> Tensor:
    """F.conv_transpose{n}d by FFT; `spectra` as in `spectral_convolve`."""
    plain = (x, weight, bias, stride, padding, output_padding, groups, dilation)
    x, weight, bias, dtype = _autocast(x, weight, bias)
    steps, dilations, extra = _each(stride, n), _each(dilation, n), _each(output_padding, n, least=0)
    if steps is None or dilations is None or extra is None or not _agree(n, x, weight, bias):
        return CONV_TRANSPOSE[n](*plain)
    pairs = None if isinstance(padding, str) else _pairs(padding, weight.shape[2:], steps, dilations)
    per_group = groups > 0 and weight.shape[0] == x.shape[-n - 1] and weight.shape[0] % groups == 0
    if pairs is None or not per_group or (bias is not None and len(bias) != weight.shape[1] * groups):
        return CONV_TRANSPOSE[n](*plain)
    for size, (p, _), d, k, s, op in zip(x.shape[-n:], pairs, dilations, weight.shape[2:], steps, extra, strict=True):
        if op >= max(s, d) or (size - 1) * s + d * (k - 1) + 1 + op - 2 * p < 1:
            return CONV_TRANSPOSE[n](*plain)
    return _run(n, x, weight, bias, Geometry(steps, pairs, dilations, groups, True, extra), spectra, dtype)


def _run(
    n: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    spectra: Spectra | None,
    dtype: torch.dtype | None,
) -> Tensor:
    """Add the axis of the batch if it is missing, and turn autocast off, because it does not handle complex numbers."""
    batched = x if x.dim() == n + 2 else x.unsqueeze(0)
    if dtype is None:
        y = spectral_convolve(batched, weight, bias, geometry, spectra)
    else:
        with torch.autocast(x.device.type, enabled=False):
            y = spectral_convolve(batched, weight, bias, geometry, spectra)
    return y if x.dim() == n + 2 else y.squeeze(0)


def _autocast(
    x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, torch.dtype | None]:
    """The tensors as autocast would cast them, and its dtype; the tensors as they are, and None, if autocast is off."""
    if not torch.is_autocast_enabled(x.device.type):
        return x, weight, bias, None
    dtype = torch.get_autocast_dtype(x.device.type)

    def cast(tensor: Tensor) -> Tensor:
        eligible = tensor.is_floating_point() and tensor.dtype is not torch.float64
        return tensor.to(dtype) if eligible else tensor

    return cast(x), cast(weight), None if bias is None else cast(bias), dtype


def _agree(n: int, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """True if all tensors have the same supported dtype and the same device, their ranks match, and none is empty."""
    dtype, device = x.dtype, x.device
    if dtype not in DTYPES or weight.dtype != dtype or weight.device != device:
        return False
    if bias is not None and (bias.dtype != dtype or bias.device != device or bias.dim() != 1 or not bias.shape[0]):
        return False
    return x.dim() in (n + 1, n + 2) and weight.dim() == n + 2 and 0 not in x.shape and 0 not in weight.shape


def _each(value: Any, n: int, least: int = 1) -> Shape | None:
    """One integer for each axis, none below `least`. None if the value is wrong; torch then raises the error."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    for v in values:
        if not isinstance(v, int) or v < least:
            return None
    if len(values) == n:
        return values
    return values * n if len(values) == 1 else None


def _pairs(padding: Any, window: Sequence[int], stride: Shape, dilation: Shape) -> Pairs | None:
    """(low, high) for each axis. If 'same' needs an odd number of zeros, the high side gets one more."""
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * len(window)
        if padding != "same" or any(s != 1 for s in stride):
            return None
        totals = (d * (k - 1) for d, k in zip(dilation, window, strict=True))
        return tuple((total // 2, total - total // 2) for total in totals)
    amounts = _each(padding, len(window), least=0)
    return None if amounts is None else tuple((amount, amount) for amount in amounts)


def _fft_conv(
    n: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.nn.functional.conv1d` by FFT, or conv2d, conv3d: the same arguments, results up to rounding and errors.

    Shapes: input [(N,) C, *S], weight [out, C / groups, *window], bias [out]; y [(N,) out, *S']. dtypes: float16 to
    complex128, the same for all; half precision is computed in float32. `stride`, `padding`, `dilation` and `groups` as
    torch's. RuntimeError where torch raises.
    """
    options: Any = (input, weight, bias, stride, padding, dilation, groups)
    if has_torch_function(options[:3]):
        return handle_torch_function(FFT_CONV[n], options[:3], *options)
    return convolve(n, *options)


def _fft_conv_transpose(
    n: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """`torch.nn.functional.conv_transpose1d` by FFT, or 2d, 3d: the same arguments, results up to rounding and errors.

    Shapes: input [(N,) C, *S], weight [C, out / groups, *window], bias [out]; y [(N,) out, *S']. dtypes as of
    `fft_conv1d`; `stride`, `padding`, `output_padding`, `groups` and `dilation` as torch's. RuntimeError where torch
    raises.
    """
    options: Any = (input, weight, bias, stride, padding, output_padding, groups, dilation)
    if has_torch_function(options[:3]):
        return handle_torch_function(FFT_CONV_TRANSPOSE[n], options[:3], *options)
    return convolve_transposed(n, *options)


fft_conv1d = over_axes(_fft_conv, 1, "fft_conv1d")
fft_conv2d = over_axes(_fft_conv, 2, "fft_conv2d")
fft_conv3d = over_axes(_fft_conv, 3, "fft_conv3d")
fft_conv_transpose1d = over_axes(_fft_conv_transpose, 1, "fft_conv_transpose1d")
fft_conv_transpose2d = over_axes(_fft_conv_transpose, 2, "fft_conv_transpose2d")
fft_conv_transpose3d = over_axes(_fft_conv_transpose, 3, "fft_conv_transpose3d")

FFT_CONV: Operators = {1: fft_conv1d, 2: fft_conv2d, 3: fft_conv3d}
FFT_CONV_TRANSPOSE: Operators = {1: fft_conv_transpose1d, 2: fft_conv_transpose2d, 3: fft_conv_transpose3d}
