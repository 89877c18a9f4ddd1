"""Models to compare with each other: a residual network, and copies of it in which one thing is another."""

import copy
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import fusekit


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


def write_files(folder: Path) -> dict[str, Path]:
    """The residual network as files: as it is and folded; both with weights of 2.b that are twice as large ("wrong");
    and as torch's exporter writes it by itself, with the lines of the model's source noted ("noted")."""
    found = {name: folder / f"{name}.onnx" for name in ("plain", "folded", "wrong", "wrong folded", "noted")}
    fusekit.export(residual(), found["plain"], pictures(), optimize=False, measure=False)
    wrong, noted = (onnx.load(found["plain"]) for _ in range(2))
    weight = next(tensor for tensor in wrong.graph.initializer if tensor.name == "2.b.weight")
    weight.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weight), weight.name))
    frames = f'File "/net.py", line 12, in forward\nFile "{torch.__file__}", line 1, in torch/nn'
    for node in noted.graph.node:
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=frames)
    onnx.save(wrong, found["wrong"])
    onnx.save(noted, found["noted"])
    for name in ("folded", "wrong folded"):
        source = found["wrong" if "wrong" in name else "plain"]
        assert fusekit.optimize_onnx(source, found[name], measure=False).ok
    return found
