"""A folder with code that builds networks, and the two checks: loaded with the same numbers, or refused in one line."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fusekit.checkpoint.load import load
from fusekit.errors import CheckpointError

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return self.norm(self.conv(x))

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Net()

    def forward(self, x):
        return self.model(x)

ready = Net()

def make_net(width=4): return Net(width)
def parallel(): return nn.DataParallel(Net())
def fails(): raise RuntimeError("no disk left\\nsecond line")
def leaves(): raise SystemExit(3)
def makes_dict(): return {"conv": 1}
"""


class Bomb:
    """Unpickling an instance writes a file. The test checks that it does not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return _explode, (str(self.path),)


def _explode(path: str) -> dict[str, torch.Tensor]:
    Path(path).write_text("boom")
    return {"weight": torch.zeros(1)}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the module `nets_for_loading`. Afterwards the module is removed from sys.modules."""
    (tmp_path / "nets_for_loading.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "nets_for_loading", raising=False)
    return tmp_path


@pytest.fixture
def net(here: Path) -> nn.Module:
    torch.manual_seed(0)
    model = load("nets_for_loading:Net")
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.5)
    return model


def same(first: nn.Module, second: nn.Module) -> bool:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.equal(first(x), second(x))


def refused(*words: str, source: Any, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text
    return text
