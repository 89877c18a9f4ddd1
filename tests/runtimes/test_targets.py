"""Runtimes as objects: what each answers, how another package brings one, and what is said of one that is absent."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fusekit
from fusekit.algebra import Conv, SpectralConv
from fusekit.errors import FusekitError
from fusekit.model import Inputs
from fusekit.onnx_export.plain_export import plain_export
from fusekit.optimizing.race import Clock
from fusekit.runtimes import RUNTIMES, available, known, open_vino, runtime, runtimes
from fusekit.runtimes.measurements import FILE, Measurements
from fusekit.runtimes.protocol import Runtime
from tests.support.architectures import randomize
from tests.support.cli_room import run

FILES = [each for each in runtimes() if each.reads_files]
PLAIN = {each.name: type(each).load for each in FILES}


@pytest.fixture
def anew() -> Iterator[None]:
    """The runtimes are looked up once: here, before and after."""
    RUNTIMES.forget()
    yield
    RUNTIMES.forget()


def network() -> nn.Module:
    torch.manual_seed(0)
    return randomize(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)))


def test_all_are_ready_here() -> None:
    assert known()[:3] == ("torch", "onnxruntime", "openvino")
    assert [each.name for each in available()][:3] == ["torch", "onnxruntime", "openvino"]


@pytest.mark.parametrize("where", FILES, ids=lambda each: str(each.name))
def test_a_file_runs_and_knows_its_free_sizes(where: Runtime, tmp_path: Path) -> None:
    model, x = network(), torch.randn(2, 3, 9, 8)
    path = plain_export(model, tmp_path / "m.onnx", Inputs.of(x), runtime=where)
    file = where.load(path)
    assert [port.dtype for port in file.inputs] == [torch.float32]
    assert set(*file.free_axes().values()) >= {0, 2, 3}
    for shape in ((2, 3, 9, 8), (1, 3, 12, 7)):
        given = torch.randn(shape)
        ((_, found),) = file.run(Inputs.of(given), [file.input_names[0]])
        torch.testing.assert_close(found, model(given), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("where", FILES, ids=lambda each: str(each.name))
def test_export_optimizes_for_it_and_is_judged_by_it(
    where: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    for each in FILES:

        def load(self: Runtime, path: Path, *, spinning: bool = True, plain: Any = PLAIN[each.name]) -> Any:
            loaded.append(self.name)
            return plain(self, path, spinning=spinning)

        monkeypatch.setattr(type(each), "load", load)
    verdict = fusekit.export(network(), tmp_path / "m.onnx", torch.randn(1, 3, 8, 8), target=where.name)
    assert verdict.ok and verdict.report is not None
    assert verdict.report.target == where.name
    assert [event.rewrite for event in verdict.report.applied] == ["fold-affine"]
    assert set(loaded) == {where.name}


def test_validate_runs_the_file_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 3, 8, 8)
    path = plain_export(network(), tmp_path / "m.onnx", Inputs.of(x))
    asked: list[str] = []
    for each in FILES:

        def load(self: Runtime, path: Path, *, spinning: bool = True, plain: Any = PLAIN[each.name]) -> Any:
            asked.append(self.name)
            return plain(self, path, spinning=spinning)

        monkeypatch.setattr(type(each), "load", load)
        asked.clear()
        assert fusekit.validate(network(), path, x, target=each.name).ok
        assert set(asked) == {each.name}
    with pytest.raises(FusekitError, match="target must be one of torch, onnxruntime, openvino"):
        fusekit.validate(network(), path, x, target="tensorrt")


@pytest.mark.parametrize("where", available(), ids=lambda each: str(each.name))
def test_the_clock_times_and_remembers_on_each(where: Runtime, tmp_path: Path) -> None:
    conv = Conv.from_torch(torch.randn(4, 1, 31), None, groups=4, padding=((15, 15),))
    maps, shape = [conv, SpectralConv.of(conv)], (1, 4, 500)
    first = Clock(where, known=Measurements(tmp_path / FILE))
    times = first.times(maps, shape, torch.float32)
    assert times is not None and all(t > 0 for t in times)
    again = Clock(where, budget=0.0, known=Measurements(tmp_path / FILE))
    assert again.times(maps, shape, torch.float32) == times
    assert all(m.work(shape, 4, where.rates).price > 0 for m in maps)
    others = [other for other in available() if other is not where]
    for other in others:  # a time belongs to its runtime
        assert Clock(other, budget=0.0, known=Measurements(tmp_path / FILE)).times(maps, shape, torch.float32) is None


def test_an_absent_package_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(open_vino, "find_spec", lambda package: None)
    with pytest.raises(FusekitError, match=r"OpenVINO is not installed: pip install openvino \(or .*\)"):
        fusekit.export(network(), tmp_path / "m.onnx", torch.randn(1, 3, 8, 8), target="openvino")
    assert list(tmp_path.iterdir()) == []
    assert "openvino" not in [each.name for each in available()]


def test_broken_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"<html>")
    for where in FILES:
        with pytest.raises(FusekitError, match=rf"{where.title} cannot load broken\.onnx"):
            where.load(tmp_path / "broken.onnx")
        with pytest.raises(FusekitError, match="no ONNX file at"):
            where.load(tmp_path / "missing.onnx")
    with pytest.raises(FusekitError, match="does not run ONNX files"):
        runtime("torch").load(tmp_path / "broken.onnx")


def installed(folder: Path, entries: str, code: str = "") -> None:
    """A package as pip leaves it: its entry points, and its module."""
    info = folder / "another-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fusekit.runtimes]\n{entries}\n")
    (folder / "another_runtime.py").write_text(code)


def test_a_package_brings_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None) -> None:
    code = "from fusekit.runtimes.onnx_runtime import OnnxRuntime\nclass Mine(OnnxRuntime):\n    name = 'mine'\n"
    installed(tmp_path, "mine = another_runtime:Mine\ntorch = another_runtime:Mine", code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="the runtime 'torch' of another 1.0 .* fusekit has a runtime of this name"):
        assert "mine" in known()
    assert runtime("torch").title == "PyTorch"  # nobody takes the name of one of ours
    verdict = fusekit.export(network(), tmp_path / "m.onnx", torch.randn(1, 3, 8, 8), target="mine")
    assert verdict.ok and verdict.report is not None and verdict.report.target == "mine"


def test_a_broken_one_is_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None) -> None:
    installed(tmp_path, "broken = another_runtime:Nothing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="the runtime 'broken' .* is left out: AttributeError"):
        assert {each.name for each in runtimes()} >= {"torch", "onnxruntime", "openvino"}
    with pytest.raises(FusekitError, match="'broken'.*is left out"):
        fusekit.optimize(network(), target="broken")
    assert fusekit.optimize(network()) is not None


def test_the_command_line_lists_them() -> None:
    told = json.loads(run("passes", "--json").stdout)
    assert [each["name"] for each in told["targets"]][:3] == ["torch", "onnxruntime", "openvino"]
    assert "target openvino: OpenVINO" in run("passes").stdout
