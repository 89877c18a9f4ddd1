"""The same source gives the same bytes of the ONNX file, in any process: other hash seeds, another worker, again."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import hashlib, sys
from pathlib import Path
import torch
from torch import nn
import fusekit
import fusekit.nn as fnn

class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(8, 8, k, padding=k // 2) for k in (1, 3, 5))
        self.down, self.norm = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16)
        self.left, self.right = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        y = self.norm(self.down((self.a(x) + self.b(x) + self.c(x)).relu()))
        return {"cat": torch.cat([self.left(y), self.right(y)], 1), "mean": y.mean((2, 3))}

class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = fnn.ComplexConv2d(2, 4, 3), fnn.ComplexBatchNorm2d(4)
        self.last = fnn.ComplexConv2d(4, 2, 1)

    def forward(self, x):
        return self.last(self.norm(self.first(torch.complex(x, x * 0.5)))).abs()

def up():
    return nn.ConvTranspose2d(3, 4, 2, 2)

def nets():
    for name, make, size in (
        ("branches", Branches, (1, 8, 16, 16)),
        ("complex", Complex, (1, 2, 12, 12)),
        ("rows", lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), up()), (2, 3, 20, 20)),
    ):
        torch.manual_seed(0)
        yield name, make().eval(), torch.randn(size)

room = Path(sys.argv[1])
order = list(nets())
for name, model, x in order[:: -1 if sys.argv[2] == "backwards" else 1]:
    assert fusekit.export(model, room / f"{name}.onnx", (x,), measure=False).ok
    torch.onnx.export(model, (x,), room / "plain.onnx", verbose=False)
    assert fusekit.optimize_onnx(room / "plain.onnx", room / f"{name}-file.onnx", measure=False).ok
"""


def digests(room: Path, seed: str, order: str) -> dict[str, str]:
    room.mkdir()
    words = [sys.executable, "-c", SCRIPT, str(room), order]
    own = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=os.environ | own, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(room.glob("*.onnx*"))}


@pytest.mark.slow
def test_the_bytes_of_a_file_depend_on_its_source_alone(tmp_path: Path) -> None:
    """Two processes with other hash seeds, in folders of other names, which export the nets in another order."""
    first = digests(tmp_path / "first", "1", "forwards")
    second = digests(tmp_path / "other", "4242", "backwards")
    first, second = ({k: v for k, v in found.items() if not k.startswith("plain")} for found in (first, second))
    assert first == second
    assert sum(name.endswith(".onnx") for name in first) == 6
