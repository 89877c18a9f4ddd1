"""Ordinary and awkward networks, written after their published descriptions, for tests and benchmarks."""

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """The residual block of ResNet-50 (He et al., 2015), with the stride on the 3x3 convolution."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        result: Tensor = self.relu(y)
        return result


class ResNet50(nn.Module):
    """ResNet-50: 53 convolutions, 53 batch norms."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        blocks: list[nn.Module] = []
        inputs = 64
        for width, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
            for index in range(depth):
                blocks.append(Bottleneck(inputs, width, 2 if index == 0 and width > 64 else 1))
                inputs = 4 * width
        self.layers = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        result: Tensor = self.fc(torch.flatten(self.pool(self.layers(x)), 1))
        return result


def conv_chain(length: int, width: int = 4) -> nn.Sequential:
    """conv -> batch norm -> ReLU, repeated until there are `length` layers."""
    layers: list[nn.Module] = []
    while len(layers) < length:
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers[:length])


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms statistics and weights of their own, as after training. Returns the model in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight, module.bias, module.running_mean):
                if tensor is not None:
                    tensor.data.normal_(generator=generator)
            if module.running_var is not None:
                module.running_var.uniform_(0.5, 2.0, generator=generator)
            if module.weight is not None:
                module.weight.data.mul_(0.5).add_(1.0)
    return model.eval()
