"""Models to compare with each other: a residual network, and copies of it in which one thing is another."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions, one with a batch norm, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.n = nn.BatchNorm2d(channels)
        self.b = nn.Conv2d(channels, channels, 1)
        self.act = nn.ReLU()
        self.n.running_mean, self.n.running_var = torch.randn(channels), torch.rand(channels) + 0.5

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.n(self.a(x)) + self.b(x) + x)
        return y


def residual(blocks: int = 3, channels: int = 6) -> nn.Module:
    """Convolution, blocks, pooling, linear layer; always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ends = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)
        middle = (Block(channels) for _ in range(blocks))
        return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), *middle, *ends).eval()


def pictures(size: int = 12) -> Tensor:
    """Two images, always the same."""
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def changed(model: nn.Module, change: Callable[[nn.Module], object]) -> nn.Module:
    """A copy of the model in which `change` did something."""
    own = copy.deepcopy(model)
    with torch.no_grad():
        change(own)
    return own
