"""A folder of good and bad files for the command line, and a function that runs a command in this process."""

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from fusekit.cli.main import app

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return self.norm(self.conv(x)).relu()

class Deep(Net):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.last = nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            self.conv.weight.mul_(torch.logspace(-2, 2, 4)[:, None, None, None])

    def forward(self, x):
        return self.last(super().forward(x))

class Two(nn.Module):
    def forward(self, x, y):
        return x + y

class Failing(Net):
    def forward(self, x):
        raise RuntimeError("the camera is not connected\\nreally")

class Exiting(Net):
    def forward(self, x):
        raise SystemExit(0)

class Talking(Net):
    def forward(self, x):
        print("a line nobody asked for")
        return super().forward(x)

def make_fail(): raise ValueError("no such preset")
def make_dict(): return {"conv": 1}
constant = 3
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str


def run(*words: str) -> Outcome:
    """Run one command in this process. Torch is already loaded, so each command takes milliseconds."""
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good and bad files. Results are written to its folder `out`."""
    room = tmp_path_factory.mktemp("room")
    (room / "out").mkdir()
    (room / "taken.onnx").mkdir()
    (room / "nets_for_cli.py").write_text(CODE)
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4).eval()
    state = {f"conv.{k}": v for k, v in conv.state_dict().items()} | {
        f"norm.{k}": v for k, v in norm.state_dict().items()
    }
    torch.save(state, room / "good.pt")
    torch.save({k: v for k, v in state.items() if "norm" in k}, room / "keys.pt")
    torch.save({**state, "conv.weight": torch.zeros(8, 3, 3, 3)}, room / "shapes.pt")
    torch.save(nn.Sequential(conv, norm), room / "whole.pt")
    torch.save({"epoch": 3}, room / "epoch.pt")
    torch.export.save(torch.export.export(conv, (torch.randn(1, 3, 8, 8),)), room / "program.pt2")
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(conv, torch.randn(1, 3, 8, 8)), buffer)
    (room / "script.pt").write_bytes(buffer.getvalue())
    (room / "cut.pt").write_bytes((room / "good.pt").read_bytes()[:900])
    (room / "cut.pt2").write_bytes((room / "program.pt2").read_bytes()[:-100])
    (room / "empty.pt").touch()
    (room / "page.pt").write_text("<!DOCTYPE html><html><title>404</title></html>")
    (room / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    (room / "noise.onnx").write_bytes(b"\x93\x00\x17" * 40)
    (room / "broken.onnx").write_bytes(b"\x08\x08\x12\x07pytorch" + b"\xff" * 50)
    (room / "bad.safetensors").write_bytes((1000).to_bytes(8, "little") + b'{"a": ')
    numpy.save(room / "photo.npy", numpy.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype("float32"))
    numpy.save(room / "words.npy", numpy.array(["a", "b"]))
    (room / "text.npy").write_text("not an array")
    numpy.savez(room / "pair.npz", x=numpy.ones((2, 3)), y=numpy.ones((2, 3)))
    return room


@pytest.fixture
def inside(room: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make `room` the working directory. Its folder `out` is empty before and after."""
    monkeypatch.chdir(room)
    sys.modules.pop("nets_for_cli", None)
    yield room / "out"
    for file in (room / "out").iterdir():
        file.unlink()


NET = "nets_for_cli:Net"
ONNX = "out/net.onnx"
SIZES = ("--input", "1x3x8x8")


def export(*words: str) -> tuple[str, ...]:
    """The arguments of an export command."""
    return ("export", *words)
