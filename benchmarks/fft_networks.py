"""Networks with long kernels, written after their published descriptions, with random weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LargeKernel(nn.Module):
    """The sum of a depthwise convolution of k x k and one of 5 x 5, each with its batch norm (RepLKNet: Ding and
    others, "Scaling Up Your Kernels to 31x31", 2022); `decomposed`: k x 5 and 5 x k in place of k x k (SLaK: Liu and
    others, "More ConvNets in the 2020s", 2022)."""

    def __init__(self, channels: int, kernel: int, decomposed: bool) -> None:
        super().__init__()
        windows = [(kernel, 5), (5, kernel), (5, 5)] if decomposed else [(kernel, kernel), (5, 5)]
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, (h, w), padding=(h // 2, w // 2), groups=channels, bias=False),
                nn.BatchNorm2d(channels),
            )
            for h, w in windows
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.branches[0](x)
        for branch in self.branches[1:]:
            y = y + branch(x)
        return y


class Block(nn.Module):
    """x + pw(relu(large(relu(pw(bn(x))))), then x + ffn(x), as in RepLKNet."""

    def __init__(self, channels: int, kernel: int, decomposed: bool) -> None:
        super().__init__()
        point = nn.Conv2d
        self.mix = nn.Sequential(
            nn.BatchNorm2d(channels),
            point(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            LargeKernel(channels, kernel, decomposed),
            nn.ReLU(),
            point(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.feed = nn.Sequential(
            nn.BatchNorm2d(channels),
            point(channels, 4 * channels, 1, bias=False),
            nn.BatchNorm2d(4 * channels),
            nn.GELU(),
            point(4 * channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(x)
        return x + self.feed(x)


def large_kernel_network(kernels: tuple[int, int], decomposed: bool = False) -> nn.Module:
    """A stem to a quarter of the size, two stages of two blocks, 64 and 128 channels, a head."""
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())]
    stages.append(nn.Sequential(nn.Conv2d(64, 64, 3, 2, 1, groups=64, bias=False), nn.BatchNorm2d(64), nn.ReLU()))
    stages += [Block(64, kernels[0], decomposed) for _ in range(2)]
    stages.append(nn.Sequential(nn.Conv2d(64, 128, 3, 2, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU()))
    stages += [Block(128, kernels[1], decomposed) for _ in range(2)]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 1000))
    model = nn.Sequential(*stages, head)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
    return model.eval()


class LongConvolution(nn.Module):
    """out(v ⊙ conv(u)), (u, v) = in(x): causal, depthwise, a kernel as long as the input (Poli and others, "Hyena
    Hierarchy", 2023; the kernel as a weight in place of a network)."""

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.project = nn.Conv1d(channels, 2 * channels, 1)
        self.conv = nn.Conv1d(channels, channels, length, groups=channels, bias=False)
        decay = torch.exp(-torch.linspace(5.0, 0.0, length))  # as a correlation: the latest sample last
        self.conv.weight.data = torch.randn(channels, 1, length) * decay / length**0.5
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.project(x).chunk(2, 1)
        mixed: Tensor = self.out(v * self.conv(F.pad(u, (self.length - 1, 0))))
        return mixed


class Reverb(nn.Module):
    """Convolution with the impulse response of a room: one channel, causal."""

    def __init__(self, taps: int) -> None:
        super().__init__()
        self.taps = taps
        self.conv = nn.Conv1d(1, 1, taps, bias=False)
        generator = torch.Generator().manual_seed(0)
        decay = torch.exp(-torch.linspace(7.0, 0.0, taps))
        self.conv.weight.data = torch.randn(1, 1, taps, generator=generator) * decay / 50

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.pad(x, (self.taps - 1, 0)))
        return y
