"""An operator that torch.onnx cannot translate: it is not tried again with other sizes or options."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit import ExportError
from fusekit.model import Inputs
from fusekit.onnx_export.plain_export import plain_export


class Bessel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.conv(x))


class Spectrum(nn.Module):
    """Complex inside; torch.onnx makes no file of it, fusekit does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 3, padding=1, dtype=torch.complex64)
        self.pair = nn.Sequential(nn.Conv1d(2, 8, 3), nn.Conv1d(8, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(self.conv(torch.fft.fft(x)).real.relu())


@pytest.fixture
def freedoms(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The `dynamic_shapes` of each translation that is tried: one entry for each call of torch.onnx.export."""
    tried: list[object] = []
    plain = torch.onnx.export

    def counted(program: Any, **words: Any) -> Any:
        tried.append(
            any(
                isinstance(s, torch.SymInt)
                for n in program.graph.nodes
                for s in getattr(n.meta.get("val"), "shape", ())
            )
        )
        return plain(program, **words)

    monkeypatch.setattr(torch.onnx, "export", counted)
    return tried


def test_it_is_tried_once(freedoms: list[object], tmp_path: Path) -> None:
    x = torch.rand(2, 3, 8, 8)
    with pytest.raises(ExportError, match="bessel_j0"):
        plain_export(Bessel(), tmp_path / "a.onnx", Inputs.of(x))
    assert freedoms == [True]
    with pytest.raises(ExportError, match="bessel_j0"):
        fusekit.export(Bessel(), tmp_path / "a.onnx", x, measure=False)
    assert freedoms == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_a_complex_model_is_exported_as_it_is_with_fixed_sizes_first(
    freedoms: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSEKIT_MEASURE", "1")
    monkeypatch.setenv("FUSEKIT_CACHE_DIR", str(tmp_path / "cache"))
    assert fusekit.export(Spectrum().eval(), tmp_path / "a.onnx", torch.rand(2, 1, 16)).ok
    assert False in freedoms  # the trial, which failed
    after = freedoms[freedoms.index(False) + 1 :]
    assert freedoms.count(False) == 1 and all(after)
