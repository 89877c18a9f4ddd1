"""Convolution by transforms as an operator of torch: dtypes, gradients, compilation.

    y = conv(x; w)      ∂x = convᵀ(ȳ; w̄)      ∂w[u] = Σ_m ȳ[m] x̄[s m + d u - p]

The gradients of a convolution are convolutions, and are computed by this operator too, so they have gradients in turn.
For ∂w, the batch takes the place of the input channels, ȳ that of the kernel, and stride and dilation are exchanged.
Half precision is computed in float32.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fusekit.algebra import Conv
from fusekit.algebra.map import Shape
from fusekit.algebra.transforms.spectral_conv import Geometry, Realization, realize
from fusekit.nn.matrix_fft import matrix_fft_conv
from fusekit.nn.spectra import Spectra, spectra_of, wide_spectrum

MAX_SPECTRUM_BYTES = 1 << 29
WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128)

Apply = Callable[[Tensor, Tensor, Tensor | None, Geometry], Tensor]


def spectral_convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, spectra: Spectra | None = None
) -> Tensor:
    """The convolution of x [B, C, *size] with a weight in torch's layout; all tensors have one dtype. The output must
    not be empty.

    `spectra`: where the weight's spectrum is kept, if no gradient of the weight is needed.
    """
    if torch.compiler.is_exporting() or (torch._C._get_tracing_state() is not None and torch.onnx.is_in_onnx_export()):
        return _exported(x, weight, bias, geometry)
    recorded = torch.is_grad_enabled()
    if spectra is not None and recorded and weight.requires_grad:
        spectra = None
    if torch.compiler.is_compiling():
        packed = (*_pack(geometry), 0 if spectra is None else spectra.number)
        return torch.ops.fusekit.spectral_conv(x, weight, bias, *packed)  # type: ignore[no-any-return]
    if recorded and (x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)):
        return _Convolve.apply(x, weight, bias, geometry, spectra)  # type: ignore[no-any-return, no-untyped-call]
    return _computed(x, weight, bias, geometry, spectra)


def _exported(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """The form for exported programs: constant matrix products."""
    if x.is_complex():
        raise NotImplementedError("a complex convolution by FFT cannot be exported; export real and imaginary parts")
    dtype = WIDER.get(x.dtype, x.dtype)
    y = matrix_fft_conv(
        x.to(dtype),
        weight.to(dtype),
        None if bias is None else bias.to(dtype),
        **vars(geometry),
    )
    return y.to(x.dtype)


def _computed(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, spectra: Spectra | None) -> Tensor:
    """The result, without gradients."""
    dtype = WIDER.get(x.dtype, x.dtype)
    if dtype is not x.dtype:
        shift = None if bias is None else bias.to(dtype)
        return _computed(x.to(dtype), weight, shift, geometry, spectra).to(x.dtype)
    if spectra is None:
        return _in_parts(x, _kernel(weight, geometry).to(dtype), bias, geometry, _spectrum, MAX_SPECTRUM_BYTES)
    rows, columns, *window = weight.shape
    outputs, inputs = (columns, rows) if geometry.transposed else (rows, columns)
    each = (outputs, inputs // geometry.groups) if geometry.transposed else (outputs // geometry.groups, inputs)
    realized = realize(geometry, tuple(window), each, tuple(x.shape[2:]), x.shape[0])
    if realized.spectrum_bytes(dtype) <= spectra.limit:
        return realized(x, spectra.of(realized, weight, partial(_kernel, weight, geometry), dtype), bias)
    wide = partial(wide_spectrum, dtype=dtype)
    return _in_parts(x, _kernel(weight, geometry), bias, geometry, wide, spectra.limit)


def _kernel(weight: Tensor, geometry: Geometry) -> Tensor:
    """The weight as [group, out, in, *window]."""
    if geometry.transposed:
        return Conv.from_torch(weight, None, groups=geometry.groups, transposed=True).kernel
    return weight.reshape(geometry.groups, -1, *weight.shape[1:])


def _spectrum(realized: Realization, kernel: Tensor) -> Tensor:
    return realized.spectrum(kernel)


def _in_parts(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    spectrum: Callable[[Realization, Tensor], Tensor],
    limit: int,
) -> Tensor:
    """The convolution in parts. Groups, or else outputs, are halved until the spectrum of a part is below the limit."""
    groups, outputs, inputs, *window = kernel.shape
    realized = realize(geometry, tuple(window), (outputs, inputs), tuple(x.shape[2:]), x.shape[0])
    if realized.spectrum_bytes(x.dtype) <= limit or groups * outputs == 1:
        return realized(x, spectrum(realized, kernel), bias)
    parts = []
    if groups > 1:
        for first, last in ((0, groups // 2), (groups // 2, groups)):
            some = x[:, first * inputs : last * inputs]
            shift = None if bias is None else bias[first * outputs : last * outputs]
            fewer = replace(geometry, groups=last - first)
            parts.append(_in_parts(some, kernel[first:last], shift, fewer, spectrum, limit))
    else:
        for first, last in ((0, outputs // 2), (outputs // 2, outputs)):
            shift = None if bias is None else bias[first:last]
            parts.append(_in_parts(x, kernel[:, first:last], shift, geometry, spectrum, limit))
    return torch.cat(parts, 1)


class _Convolve(torch.autograd.Function):
    """The operator in eager mode, with gradients of any order."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, spectra: Spectra | None) -> Tensor:
        return _computed(x, weight, bias, geometry, spectra)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.geometry, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return (*gradients(spectral_convolve, grad, x, weight, ctx.geometry, ctx.needs_input_grad[:3]), None, None)


def gradients(
    apply: Apply, grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of x, weight and bias; None where not wanted. `apply` computes a convolution."""
    of_x = (
        apply(grad, weight.conj(), None, _adjoint(geometry, tuple(x.shape[2:]), weight.shape[2:]))
        if wanted[0]
        else None
    )
    of_weight = None
    if wanted[1]:
        long, short = (grad, x.conj()) if geometry.transposed else (x.conj(), grad)
        of_weight = _of_weight(apply, long, short, weight, geometry)
    return of_x, of_weight, grad.sum((0, *range(2, grad.ndim))) if wanted[2] else None


def _adjoint(geometry: Geometry, size: Shape, window: torch.Size) -> Geometry:
    """The convolution that maps the output's gradient to the input's gradient. `size`: of the input. It has the same
    weight."""
    if geometry.transposed:
        extra = geometry.output_padding or (0,) * len(size)
        padding = tuple((low, high - op) for (low, high), op in zip(geometry.padding, extra, strict=True))
        return replace(geometry, transposed=False, padding=padding, output_padding=())
    left = []
    for i, (low, high) in enumerate(geometry.padding):
        left.append((size[i] + low + high - geometry.dilation[i] * (window[i] - 1) - 1) % geometry.stride[i])
    return replace(geometry, transposed=True, output_padding=tuple(left))


def _of_weight(apply: Apply, long: Tensor, short: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Σ_m short[m] long[s m + d u - low]: a convolution with the batch in place of the input channels, in each group,
    and with stride and dilation exchanged."""
    groups, batch, n = geometry.groups, long.shape[0], long.ndim - 2
    padding = []
    for i in range(n):
        low, (s, d) = geometry.padding[i][0], (geometry.stride[i], geometry.dilation[i])
        reach = d * (weight.shape[2 + i] - 1)
        padding.append((low, reach + s * (short.shape[2 + i] - 1) + 1 - long.shape[2 + i] - low))
    # [B, g·i, *L] -> [i, g·B, *L] and [B, g·o, *m] -> [g·o, B, *m]
    images = long.unflatten(1, (groups, -1)).permute(2, 1, 0, *range(3, 3 + n)).flatten(1, 2)
    kernel = short.transpose(0, 1)
    turned = Geometry(geometry.dilation, tuple(padding), geometry.stride, groups)
    assert kernel.shape[1] == batch
    return apply(images, kernel, None, turned).transpose(0, 1).reshape(weight.shape)


Packed = tuple[list[int], list[int], list[int], list[int], int, bool, list[int]]


def _pack(geometry: Geometry) -> Packed:
    low, high = [pair[0] for pair in geometry.padding], [pair[1] for pair in geometry.padding]
    stride, dilation, extra = list(geometry.stride), list(geometry.dilation), list(geometry.output_padding)
    return stride, low, high, dilation, geometry.groups, geometry.transposed, extra


def _unpack(packed: Any) -> Geometry:
    stride, low, high, dilation, groups, transposed, extra = packed
    pairs = tuple(zip(low, high, strict=True))
    return Geometry(tuple(stride), pairs, tuple(dilation), groups, transposed, tuple(extra))


@torch.library.custom_op("fusekit::spectral_conv", mutates_args=())
def _operator(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    low: list[int],
    high: list[int],
    dilation: list[int],
    groups: int,
    transposed: bool,
    output_padding: list[int],
    spectra: int,
) -> Tensor:
    """The operator for compilers, which do not trace into it. `spectra`: the number of a layer's `Spectra`, or 0."""
    geometry = _unpack((stride, low, high, dilation, groups, transposed, output_padding))
    return _computed(x, weight, bias, geometry, spectra_of(spectra))


@_operator.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, *packed: Any) -> Tensor:
    geometry = _unpack(packed[:-1])
    conv = Conv.from_torch(
        weight,
        None,
        **vars(geometry),
    )
    return x.new_empty(conv.output_shape(tuple(x.shape)))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])
    ctx.geometry = _unpack(inputs[3:-1])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    def apply(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        return torch.ops.fusekit.spectral_conv(x, weight, bias, *_pack(geometry), 0)  # type: ignore[no-any-return]

    x, weight = ctx.saved_tensors
    return (*gradients(apply, grad, x, weight, ctx.geometry, ctx.needs_input_grad[:3]), *(None,) * 8)


_operator.register_autograd(_backward, setup_context=_setup)
