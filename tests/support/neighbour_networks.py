"""A small network with everything that fusekit folds, and how its results are compared."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

FOLDED = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.Linear)
Told = Callable[[str], None]


class Block(nn.Module):
    """relu(norm(conv 3x3) + norm(conv 1x1)), as RepVGG is trained."""

    def __init__(self, width: int, stride: int = 1) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width))
        self.narrow = nn.Sequential(nn.Conv2d(width, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.wide(x) + self.narrow(x))  # type: ignore[no-any-return]


class Net(nn.Module):
    """11 layers that compute, of which 4 are left when folded."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(Block(width), Block(width, 2))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


LAYERS, FEWEST = 11, 4


def images(size: int = 32, seed: int = 1) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def lively(model: nn.Module, seed: int = 3) -> Any:
    """The model in eval mode, with statistics in its batch norms that are not those of a fresh one."""
    generator = torch.Generator().manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            assert part.running_mean is not None and part.running_var is not None
            part.running_mean.copy_(torch.randn(part.num_features, generator=generator) * 0.1)
            part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
    return model.eval()


def net() -> Any:
    torch.manual_seed(0)
    return lively(Net())


def layers(model: nn.Module) -> int:
    """Convolutions, norms and linear layers in a model."""
    return sum(isinstance(part, FOLDED) for part in model.modules())


def error(given: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    assert expected.abs().max() > 0 and given.shape == expected.shape
    return ((given - expected).abs().max() / expected.abs().max()).item()


def folded(before: nn.Module, after: nn.Module, given: Tensor, expected: Tensor) -> str:
    """The figures of an optimization for the table, once they are right."""
    wrong = error(given, expected)
    assert wrong < 1e-5
    return f"{layers(before)} layers before, {layers(after)} after; error {wrong:.1e}"
