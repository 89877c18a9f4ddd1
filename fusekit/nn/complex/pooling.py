"""Pooling and upsampling of complex tensors, with the arguments and shapes of torch.nn's."""

from torch import Tensor, nn

from fusekit.nn.functional.complex.parts import on_channels
from fusekit.nn.functional.complex.pool import complex_max_pool


class ComplexAvgPool1d(nn.AvgPool1d):
    """The mean of each window, x [(N,) C, L] complex; arguments as of `torch.nn.AvgPool1d`."""

    def forward(self, x: Tensor) -> Tensor:
        return on_channels(super().forward, x, 1)


class ComplexAvgPool2d(nn.AvgPool2d):
    """The mean of each window, x [(N,) C, H, W] complex; arguments as of `torch.nn.AvgPool2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return on_channels(super().forward, x, 2)


class ComplexAvgPool3d(nn.AvgPool3d):
    """The mean of each window, x [(N,) C, D, H, W] complex; arguments as of `torch.nn.AvgPool3d`."""

    def forward(self, x: Tensor) -> Tensor:
        return on_channels(super().forward, x, 3)


class ComplexAdaptiveAvgPool1d(nn.AdaptiveAvgPool1d):
    """The mean of each of `output_size` windows, x [(N,) C, L] complex; as `torch.nn.AdaptiveAvgPool1d`."""

    def forward(self, x: Tensor) -> Tensor:
        return on_channels(super().forward, x, 1)


class ComplexAdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """The mean of each of `output_size` windows, x [(N,) C, H, W] complex; as `torch.nn.AdaptiveAvgPool2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return on_channels(super().forward, x, 2)


class ComplexAdaptiveAvgPool3d(nn.AdaptiveAvgPool3d):
    """The mean of each of `output_size` windows, x [(N,) C, D, H, W] complex; as `torch.nn.AdaptiveAvgPool3d`."""

    def forward(self, x: Tensor) -> Tensor:
        return on_channels(super().forward, x, 3)


class ComplexUpsample(nn.Upsample):
    """Interpolates both parts in the same way, x [N, C, *S] complex; arguments as of `torch.nn.Upsample`.

    To interpolate modulus and phase instead, use `functional.interpolate_polar`.
    """

    def forward(self, x: Tensor) -> Tensor:
        return on_channels(super().forward, x, x.ndim - 2)


class _ComplexMaxPool(nn.modules.pooling._MaxPoolNd):
    """The sample with the largest modulus in each window, with its phase (`functional.complex_max_pool`)."""

    _n: int

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        geometry = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)
        return complex_max_pool(x, self._n, *geometry)


class ComplexMaxPool1d(_ComplexMaxPool):
    """`functional.complex_max_pool`, x [(N,) C, L] complex; arguments as of `torch.nn.MaxPool1d`."""

    _n = 1


class ComplexMaxPool2d(_ComplexMaxPool):
    """`functional.complex_max_pool`, x [(N,) C, H, W] complex; arguments as of `torch.nn.MaxPool2d`."""

    _n = 2


class ComplexMaxPool3d(_ComplexMaxPool):
    """`functional.complex_max_pool`, x [(N,) C, D, H, W] complex; arguments as of `torch.nn.MaxPool3d`."""

    _n = 3
