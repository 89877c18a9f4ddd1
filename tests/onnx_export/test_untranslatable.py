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
        out: Tensor = torch.special.bessel_j0(self.conv(x))
        return out


class Spectrum(nn.Module):
    """Complex inside; torch.onnx makes no file of it, fusekit does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 3, padding=1, dtype=torch.complex64)
        self.pair = nn.Sequential(nn.Conv1d(2, 8, 3), nn.Conv1d(8, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pair(self.conv(torch.fft.fft(x)[:, 0][:, None]).real.relu())
        return out


def test_it_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, plain = [], torch.onnx.export

    def counted(*given: Any, **words: Any) -> Any:
        calls.append(given)
        return plain(*given, **words)

    monkeypatch.setattr(torch.onnx, "export", counted)
    x = torch.rand(2, 3, 8, 8)
    with pytest.raises(ExportError, match="bessel_j0"):
        plain_export(Bessel(), tmp_path / "a.onnx", Inputs.of(x))
    assert len(calls) == 1
    with pytest.raises(ExportError, match="bessel_j0"):
        fusekit.export(Bessel(), tmp_path / "a.onnx", x, measure=False)
    assert len(calls) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_complex_model_is_exported_as_it_is_with_fixed_sizes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With free sizes it takes 50 times as long to find out that there is no file."""
    tried: list[bool] = []

    def noted(*given: Any, dynamic: bool, **words: Any) -> Path:
        tried.append(dynamic)
        return plain_export(*given, dynamic=dynamic, **words)

    monkeypatch.setattr("fusekit.optimizing.promise_file.plain_export", noted)
    monkeypatch.setenv("FUSEKIT_MEASURE", "1")
    monkeypatch.setenv("FUSEKIT_CACHE_DIR", str(tmp_path / "cache"))
    assert fusekit.export(Spectrum().eval(), tmp_path / "a.onnx", torch.rand(2, 1, 16)).ok
    assert tried == [False]
    tried.clear()
    pair = nn.Sequential(nn.Conv1d(2, 8, 3), nn.Conv1d(8, 2, 3))
    assert fusekit.export(pair, tmp_path / "b.onnx", torch.rand(2, 2, 16)).ok
    assert tried == [True]
