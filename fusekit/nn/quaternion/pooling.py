"""Max pooling by modulus. For average pooling use torch.nn.AvgPool: the mean of quaternions is that of the
components."""

from torch import Tensor, nn

from fusekit.nn.arguments import Size
from fusekit.nn.functional.quaternion import quaternion_max_pool


class _QuaternionMaxPool(nn.Module):
    axes: int

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        geometry = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return quaternion_max_pool(x, self.axes, *geometry)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"ceil_mode={self.ceil_mode}"
        )


class QuaternionMaxPool1d(_QuaternionMaxPool):
    """`functional.quaternion_max_pool` over one axis: the whole quaternion with the largest modulus in each window.

    Shapes: x [(N,) 4 C, L] in blocks r | i | j | k. Arguments as of `torch.nn.MaxPool1d`.
    """

    axes = 1


class QuaternionMaxPool2d(_QuaternionMaxPool):
    """`QuaternionMaxPool1d` over two axes."""

    axes = 2


class QuaternionMaxPool3d(_QuaternionMaxPool):
    """`QuaternionMaxPool1d` over three axes."""

    axes = 3
