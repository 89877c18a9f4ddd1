"""nn.ConvNd and nn.ConvTransposeNd computed by FFT, with the same constructor, parameters and state_dict.

    layer = FFTConv2d.from_conv(conv)        the same parameters, the same outputs up to rounding

If no gradient of the weight is needed (in eval mode under no_grad, or frozen), its spectrum is computed once, in
float64, and kept as long as the weight does not change. `spectrum_bytes` says how much is kept, `max_spectrum_bytes`
bounds it. A spectrum has as many entries as the transform has points, whatever the size of the kernel: a 13x13 kernel
on 56x56 grows 23-fold. A spectrum above the bound is computed again at every call, in parts that are below it.
"""

from collections.abc import Mapping
from functools import wraps
from typing import Any, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.overrides import has_torch_function_unary

from fusekit.nn.functional import fft
from fusekit.nn.spectra import Spectra
from fusekit.nn.spectral import MAX_SPECTRUM_BYTES

Layer = TypeVar("Layer", bound="_FFTConvNd")

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class _FFTConvNd(nn.modules.conv._ConvNd):
    """Base class of the six layers: it holds the spectra of the weight, and discards them when the weight may
    change."""

    _plain: type[nn.modules.conv._ConvNd]
    _spectra: Spectra

    def __init_subclass__(cls) -> None:
        """Give the class the constructor of the plain layer, with its signature and documentation."""
        super().__init_subclass__()
        if "_plain" not in vars(cls):
            return
        plain = cls._plain

        @wraps(plain.__init__)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            plain.__init__(self, *args, **kwargs)
            self._spectra = Spectra(MAX_SPECTRUM_BYTES)

        cls.__init__ = __init__  # type: ignore[method-assign]

    @classmethod
    def from_conv(cls: type[Layer], conv: nn.Module) -> Layer:
        """The FFT form of the layer `conv`. It shares the parameters of `conv`, and has the same mode and hooks.

        Raises TypeError for another kind of layer or a parametrized weight, ValueError for a lazy layer that has not
        seen an input."""
        if not isinstance(conv, cls._plain):
            raise TypeError(f"{cls.__name__} is made from {cls._plain.__name__}, not from {type(conv).__name__}")
        if parametrize.is_parametrized(conv):
            raise TypeError("the layer's weight is parametrized: remove_parametrizations first")
        if is_lazy(conv.weight):
            raise ValueError("the lazy layer has no weight yet: call it once before")
        options: dict[str, Any] = {"output_padding": conv.output_padding} if conv.transposed else {}
        layer = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            bias=conv.bias is not None,
            padding_mode=conv.padding_mode,
            device="meta",
            **options,
        )
        layer.weight, layer.bias = conv.weight, conv.bias
        for hooks in _HOOKS:
            setattr(layer, hooks, getattr(conv, hooks).copy())
        return layer.train(conv.training)

    @property
    def spectrum_bytes(self) -> int:
        """Bytes of the spectra that are kept now: one for each size of input that needs its own."""
        return self._spectra.nbytes

    @property
    def max_spectrum_bytes(self) -> int:
        """The limit, in bytes, of the spectra that are kept, and of the part of a spectrum that is computed at once."""
        return self._spectra.limit

    @max_spectrum_bytes.setter
    def max_spectrum_bytes(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"max_spectrum_bytes must not be negative, got {limit}")
        self._spectra.limit = limit
        self._spectra.clear()

    def forget_spectra(self) -> None:
        """Discard all spectra. Call it after a write to `weight.data`, which torch does not count as a change."""
        self._spectra.clear()

    def train(self: Layer, mode: bool = True) -> Layer:
        self._spectra.clear()
        return super().train(mode)

    def _apply(self: Layer, *args: Any, **kwargs: Any) -> Layer:
        self._spectra.clear()
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        self._spectra.clear()
        super()._load_from_state_dict(state_dict, *args, **kwargs)

    def extra_repr(self) -> str:
        held = self.spectrum_bytes
        plain: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return plain + (f", spectrum_bytes={held:,}" if held else "")

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._reversed_padding_repeated_twice, self.padding_mode), 0
        call: tuple[Any, ...] = (input, weight, bias, self.stride, padding, self.dilation, self.groups)
        n = len(self.kernel_size)
        if has_torch_function_unary(input):
            return fft.FFT_CONV[n](*call)
        return fft.convolve(n, *call, spectra=self._spectra)


class _FFTConvTransposeNd(_FFTConvNd, nn.modules.conv._ConvTransposeNd):
    """Base class of the three transposed layers."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As for the plain layer. With a stride, several output sizes are possible; `output_size` selects one."""
        n = len(self.kernel_size)
        extra: Any = self.output_padding
        if output_size is not None:
            options: Any = (self.stride, self.padding, self.kernel_size, n, self.dilation)
            extra = self._output_padding(input, output_size, *options)
        call: Any = (input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)
        if has_torch_function_unary(input):
            return fft.FFT_CONV_TRANSPOSE[n](*call)
        return fft.convolve_transposed(n, *call, spectra=self._spectra)


class FFTConv1d(_FFTConvNd, nn.Conv1d):
    """`torch.nn.Conv1d` by FFT, with the same arguments and state; x [(N,) C, L]."""

    _plain = nn.Conv1d


class FFTConv2d(_FFTConvNd, nn.Conv2d):
    """`torch.nn.Conv2d` by FFT, with the same arguments and state; x [(N,) C, H, W]."""

    _plain = nn.Conv2d


class FFTConv3d(_FFTConvNd, nn.Conv3d):
    """`torch.nn.Conv3d` by FFT, with the same arguments and state; x [(N,) C, D, H, W]."""

    _plain = nn.Conv3d


class FFTConvTranspose1d(_FFTConvTransposeNd, nn.ConvTranspose1d):
    """`torch.nn.ConvTranspose1d` by FFT, with the same arguments and state; x [(N,) C, L]."""

    _plain = nn.ConvTranspose1d


class FFTConvTranspose2d(_FFTConvTransposeNd, nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d` by FFT, with the same arguments and state; x [(N,) C, H, W]."""

    _plain = nn.ConvTranspose2d


class FFTConvTranspose3d(_FFTConvTransposeNd, nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d` by FFT, with the same arguments and state; x [(N,) C, D, H, W]."""

    _plain = nn.ConvTranspose3d
