"""Blocks in their training form, as plain torch.onnx writes them: as few convolutions as from PyTorch, and no norm."""

import copy
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
from tests.support.onnx_files import operators

C = 8


def norm(channels: int = C) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(channels)
    for tensor, low in ((made.weight, 0.5), (made.bias, -1.0), (made.running_mean, -1.0), (made.running_var, 0.5)):
        assert tensor is not None
        nn.init.uniform_(tensor, low, 2.0)
    return made


def conv_norm(window: int | tuple[int, int], groups: int = 1) -> nn.Sequential:
    size = (window, window) if isinstance(window, int) else window
    padding = (size[0] // 2, size[1] // 2)
    return nn.Sequential(nn.Conv2d(C, C, size, padding=padding, groups=groups, bias=False), norm())


class RepVgg(nn.Module):
    """Ding et al., 2021."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.point, self.skip = conv_norm(3), conv_norm(1), norm()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.dense(x) + self.point(x) + self.skip(x))


class MobileOne(nn.Module):
    """Vasu et al., 2023: several branches of each kind, depthwise and then pointwise."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.ModuleList([conv_norm(3, C), conv_norm(3, C), conv_norm(1, C), norm()])
        self.wide = nn.ModuleList([conv_norm(1), conv_norm(1), conv_norm(1), norm()])

    def forward(self, x: Tensor) -> Tensor:
        for branches in (self.deep, self.wide):
            total = branches[0](x)
            for branch in list(branches)[1:]:
                total = total + branch(x)
            x = F.relu(total)
        return x


class Acnet(nn.Module):
    """Ding et al., 2019: a square window, a row and a column."""

    def __init__(self) -> None:
        super().__init__()
        self.square, self.column, self.row = conv_norm(3), conv_norm((3, 1)), conv_norm((1, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.square(x) + self.column(x) + self.row(x))


class DiverseBranch(nn.Module):
    """Ding et al., 2021: a 3x3 after a 1x1 and a pool after a 1x1 as branches, on an input that is padded already."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Conv2d(C, C, 3, bias=False), norm())
        self.deep = nn.Sequential(*conv_norm(1), nn.Conv2d(C, C, 3, bias=False), norm())
        self.pooled = nn.Sequential(*conv_norm(1), nn.AvgPool2d(3, 1), norm())

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 1, 1, 1))
        return F.relu(self.dense(x) + self.deep(x) + self.pooled(x))


class Ecbsr(nn.Module):
    """Zhang et al., 2021: a 1x1 before fixed edge filters, beside a 3x3 and the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Conv2d(C, C, 3, padding=1)
        self.before = nn.Conv2d(C, C, 1, bias=False)
        self.edges = nn.Conv2d(C, C, 3, padding=1, groups=C)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.dense(x) + self.edges(self.before(x)) + x)


class YoloStem(nn.Module):
    """A RepVGG block between plain ones, and a concatenation of two of its reductions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.rep, self.left, self.right = conv_norm(3), RepVgg(), conv_norm(1), conv_norm(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rep(F.silu(self.stem(x)))
        return torch.cat([F.silu(self.left(x)), F.silu(self.right(x))], 1)


BLOCKS = {block.__name__: block for block in (RepVgg, MobileOne, Acnet, DiverseBranch, Ecbsr, YoloStem)}


def counted(path: Path) -> tuple[int, int]:
    """Convolutions, and norms."""
    kinds = operators(onnx.load(path))
    return kinds.count("Conv"), kinds.count("BatchNormalization")


def counted_in(module: nn.Module) -> tuple[int, int]:
    """The same of a module that fusekit has made."""
    layers = list(module.modules())
    return sum(isinstance(x, nn.Conv2d) for x in layers), sum(isinstance(x, nn.BatchNorm2d) for x in layers)


def exported(block: nn.Module, path: Path, *, optimize: bool) -> Path:
    names = {0: "batch", 2: "height", 3: "width"}
    sizes = {"x": {axis: torch.export.Dim(name) for axis, name in names.items()}}
    options: dict[str, Any] = {"dynamo": True, "dynamic_shapes": sizes, "verbose": False, "external_data": False}
    torch.onnx.export(block, (torch.randn(2, C, 16, 18),), path, optimize=optimize, **options)
    return path


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_file_folds_as_far_as_its_source(name: str, optimize: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    block: nn.Module = BLOCKS[name]().eval()
    source = exported(copy.deepcopy(block), tmp_path / "source.onnx", optimize=optimize)
    x = torch.randn(2, C, 16, 18)
    verdict = fusekit.optimize_onnx(source, tmp_path / "small.onnx", x, measure=False)
    assert verdict.ok and verdict.dynamic_axes == {"x": (0, 2, 3)}, str(verdict)
    fast = fusekit.optimize(block, x, target="onnxruntime", measure=False)
    assert counted(tmp_path / "small.onnx") == counted_in(fast), str(verdict.report)
    assert counted(tmp_path / "small.onnx")[1] == 0
    assert counted(source)[0] > counted(tmp_path / "small.onnx")[0]
