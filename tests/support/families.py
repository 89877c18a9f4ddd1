"""Training-time blocks of re-parameterised families, written after their published descriptions.

Each class names its source. All compute a linear map before their activation, so each can become one convolution.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm(
    inputs: int, outputs: int, window: int, padding: int, groups: int = 1, dilation: int = 1
) -> nn.Sequential:
    """A convolution without bias, and a batch norm."""
    conv = nn.Conv2d(inputs, outputs, window, 1, padding, dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class RepVGG(nn.Module):
    """3x3, 1x1 and identity, each with a batch norm (Ding et al., CVPR 2021)."""

    def __init__(self, inputs: int, outputs: int, groups: int = 1) -> None:
        super().__init__()
        self.dense = conv_norm(inputs, outputs, 3, 1, groups)
        self.point = conv_norm(inputs, outputs, 1, 0, groups)
        self.identity = nn.BatchNorm2d(inputs) if inputs == outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dense(x) + self.point(x)
        return F.relu(y if self.identity is None else y + self.identity(x))


class ACNet(nn.Module):
    """3x3, 3x1 and 1x3 (Ding et al., ICCV 2019)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.square = conv_norm(inputs, outputs, 3, 1)
        self.vertical = nn.Conv2d(inputs, outputs, (3, 1), padding=(1, 0), bias=False)
        self.vertical_norm = nn.BatchNorm2d(outputs)
        self.horizontal = nn.Conv2d(inputs, outputs, (1, 3), padding=(0, 1), bias=False)
        self.horizontal_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.square(x) + self.vertical_norm(self.vertical(x)) + self.horizontal_norm(self.horizontal(x))
        return F.relu(y)


class DiverseBranch(nn.Module):
    """1x1, 1x1-KxK, 1x1-average and KxK (Ding et al., CVPR 2021). The inner 1x1 pads before its batch norm, which is
    what the published layer's border of bias values computes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.origin = conv_norm(inputs, outputs, 3, 1)
        self.point = conv_norm(inputs, outputs, 1, 0)
        self.squeeze = conv_norm(inputs, inputs, 1, 1)
        self.expand = conv_norm(inputs, outputs, 3, 0)
        self.average_point = conv_norm(inputs, outputs, 1, 1)
        self.average = nn.Sequential(nn.AvgPool2d(3, 1, 0), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.origin(x) + self.point(x) + self.expand(self.squeeze(x)) + self.average(self.average_point(x))
        return F.relu(y)


class EdgeOriented(nn.Module):
    """3x3, 1x1-3x3, and 1x1 before scaled Sobel and Laplacian masks (ECB: Zhang et al., ACM MM 2021)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.plain = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.expand = nn.Conv2d(inputs, 2 * outputs, 1, padding=1)
        self.reduce = nn.Conv2d(2 * outputs, outputs, 3)
        masks = {
            "sobel_x": [[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]],
            "sobel_y": [[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]],
            "laplace": [[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]],
        }
        self.points = nn.ModuleList(nn.Conv2d(inputs, outputs, 1, padding=1) for _ in masks)
        self.scales = nn.ParameterList(torch.randn(outputs, 1, 1, 1) for _ in masks)
        self.biases = nn.ParameterList(torch.randn(outputs) for _ in masks)
        self.masks = list(masks)
        for name, rows in masks.items():
            self.register_buffer(name, torch.tensor(rows).reshape(1, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.plain(x) + self.reduce(self.expand(x))
        for point, scale, bias, mask in zip(self.points, self.scales, self.biases, self.masks, strict=True):
            z = point(x)
            y = y + F.conv2d(z, scale * getattr(self, mask), bias, groups=len(bias))
        return F.relu(y)


class CollapsibleLinear(nn.Module):
    """KxK to many channels, then 1x1 back, with a shortcut (SESR: Bhardwaj et al., MLSys 2022)."""

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, width, 3, padding=1)
        self.project = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.project(self.expand(x)) + x)


class ExpandedConv(nn.Module):
    """1x1 - KxK - 1x1 in place of a KxK, the padding on the first (ExpandNets: Guo et al., NeurIPS 2020)."""

    def __init__(self, inputs: int, outputs: int, rate: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, rate * inputs, 1, padding=1)
        self.middle = nn.Conv2d(rate * inputs, rate * outputs, 3)
        self.last = nn.Conv2d(rate * outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.last(self.middle(self.first(x))))


class DepthwiseOver(nn.Module):
    """A kernel over-parameterised by a depthwise factor, multiplied out in `forward` (DO-Conv: Cao et al., 2020)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.kernel = nn.Parameter(torch.randn(outputs, inputs, 9))
        self.depth = nn.Parameter(torch.randn(inputs, 9, 9))
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        kernel = torch.einsum("ims,ois->oim", self.depth, self.kernel).reshape(self.outputs, -1, 3, 3)
        return F.relu(self.norm(F.conv2d(x, kernel, padding=1)))


class MobileOne(nn.Module):
    """k depthwise branches, a 1x1 scale branch and a batch-norm shortcut, then pointwise ones (Vasu et al., 2023)."""

    def __init__(self, inputs: int, outputs: int, branches: int = 3) -> None:
        super().__init__()
        self.depth = nn.ModuleList(conv_norm(inputs, inputs, 3, 1, inputs) for _ in range(branches))
        self.scale = conv_norm(inputs, inputs, 1, 0, inputs)
        self.skip = nn.BatchNorm2d(inputs)
        self.point = nn.ModuleList(conv_norm(inputs, outputs, 1, 0) for _ in range(branches))
        self.point_skip = nn.BatchNorm2d(inputs) if inputs == outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.scale(x) + self.skip(x)
        for branch in self.depth:
            y = y + branch(x)
        x = F.relu(y)
        y = 0 if self.point_skip is None else self.point_skip(x)
        for branch in self.point:
            y = y + branch(x)
        return F.relu(y)


class DilatedReparam(nn.Module):
    """A large depthwise kernel beside dilated small ones (UniRepLKNet: Ding et al., CVPR 2024)."""

    def __init__(self, channels: int, window: int = 13) -> None:
        super().__init__()
        self.large = conv_norm(channels, channels, window, window // 2, channels)
        self.small = nn.ModuleList(
            conv_norm(channels, channels, k, d * (k - 1) // 2, channels, d) for k, d in ((5, 1), (7, 2), (3, 3), (3, 5))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.large(x)
        for branch in self.small:
            y = y + branch(x)
        return F.relu(y)


class LinearGenerator(nn.Module):
    """Convolutions in a row without an activation (KernelGAN's linear generator, Bell-Kligler et al., 2019)."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        sizes = (7, 5, 3, 1, 1, 1)
        layers: list[nn.Module] = [nn.Conv2d(1, channels, sizes[0], bias=False)]
        layers += [nn.Conv2d(channels, channels, k, bias=False) for k in sizes[1:-1]]
        layers += [nn.Conv2d(channels, 1, sizes[-1], stride=2, bias=False)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y
