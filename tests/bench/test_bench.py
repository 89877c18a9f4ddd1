"""`fusekit bench`: what is measured beside what, what is left out and why, files, exit codes. No time is asserted."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import torch
from torch import nn

import fusekit
from fusekit.bench import Bench, competitors, versions
from fusekit.bench.contenders import ONNXRUNTIME, PYTORCH, Side, Version
from fusekit.bench.measure import measure, over, running_on
from fusekit.model import Inputs
from fusekit.onnx_export.plain_export import plain_export
from fusekit.runtimes import open_vino, timing
from fusekit.runtimes.timing import Times
from tests.support.cli_room import NET, ONNX, SIZES, inside, room, run

__all__ = ["inside", "room"]  # fixtures: pytest finds them by name in this module

pytestmark = pytest.mark.usefixtures("inside")

QUICK = ("--rounds", "1", "--seconds", "0")


def bench(*words: str) -> tuple[str, ...]:
    return ("bench", NET, *words, *QUICK)


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if these were not installed."""
    plain = competitors.installed
    monkeypatch.setattr(competitors, "installed", lambda package: package not in packages and plain(package))
    if open_vino.PACKAGE in packages:
        monkeypatch.setattr(open_vino, "find_spec", lambda package: None)


def built(model: nn.Module, inputs: Inputs, folder: Path, **words: Any) -> list[Version]:
    """The versions of a model, with itself in the place of what fusekit makes of it."""
    return versions(model, model, plain_export(model, folder / "ours.onnx", inputs), inputs, folder, **words)


def of(found: list[Version], runtime: str) -> dict[str, Version]:
    return {version.name: version for version in found if version.runtime == runtime}


# --- the command --------------------------------------------------------------------------------------------------


def test_the_json(inside: Path) -> None:
    told = json.loads(run(*bench("--input", "2x3x8x8", "--threads", "1", "--json")).stdout)
    assert (told["command"], told["ok"], told["file"]) == ("bench", True, None)
    assert told["report"]["target"] == "onnxruntime"
    measured = told["bench"]
    assert (measured["threads"], measured["batch"], measured["rounds"]) == (1, 2, 1)
    rows = {(row["runtime"], row["version"]): row for row in measured["rows"]}
    expected = {(PYTORCH, name) for name in ("original", "original, channels_last", "fusekit", "torch.fx fuse")}
    assert expected | {(ONNXRUNTIME, name) for name in ("plain export", "onnxscript", "fusekit")} <= set(rows)
    for row in rows.values():
        assert bool(row["failure"]) == (row["median"] is None), row
        assert row["median"] is None or (0 < row["median"] <= row["p95"] and row["speedup"] > 0)
    conv, norm = 4 * 3 * 9, 4 * 4 + 2  # num_batches_tracked takes eight bytes
    assert rows[PYTORCH, "original"]["bytes"] == 4 * (conv + norm)
    assert 4 * conv <= rows[PYTORCH, "fusekit"]["bytes"] < 4 * (conv + norm)
    assert rows[ONNXRUNTIME, "fusekit"]["bytes"] > 4 * conv
    assert all(measured["noise"][runtime] > 0 for runtime in (PYTORCH, ONNXRUNTIME))
    assert list(inside.iterdir()) == []


def test_the_file_is_the_one_that_export_writes(inside: Path) -> None:
    words = (*SIZES, "--weights", "good.pt", "--static", "--quiet")
    assert run(*bench(ONNX, *words)).code == 0
    assert [file.name for file in inside.iterdir()] == ["net.onnx"]
    ours = onnx.load(inside / "net.onnx").SerializeToString()
    assert run("export", NET, "out/again.onnx", *words).code == 0
    assert onnx.load(inside / "again.onnx").SerializeToString() == ours


def test_numbers_that_differ_leave_the_old_file_and_are_not_timed(inside: Path) -> None:
    (inside / "net.onnx").write_text("old")
    result = run(*bench(ONNX, *SIZES, "--tolerance", "1e-30", "--json"))
    assert result.code == 1, result
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert told["bench"] is None
    assert "net.onnx was not written" in result.stderr
    assert [file.read_text() for file in inside.iterdir()] == ["old"]
    result = run(*bench(*SIZES, "--tolerance", "1e-30"))
    assert result.code == 1
    assert result.stderr.count("\n") == 1
    assert "None" not in result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "--input"),
        (("out/net.pt", *SIZES), ".onnx"),
        (("nowhere/net.onnx", *SIZES), "nowhere"),
        ((*SIZES, "--threads", "0"), "--threads"),
        ((*SIZES, "--rounds", "0"), "--rounds"),
        ((*SIZES, "--seconds", "-1"), "--seconds"),
        ((*SIZES, "--opset", "999"), "999"),
        ((*SIZES, "--pass", "fold-everything"), "fold-everything"),
        (("--input", "1x5x8x8"), "channels"),
    ],
)
def test_bad_input(words: tuple[str, ...], expected: str, inside: Path) -> None:
    # The last of an option counts: what is asked for here comes after the quick ones.
    result = run("bench", NET, *QUICK, *words)
    assert result.code == 2, result
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert expected in result.stderr
    assert list(inside.iterdir()) == []


def test_the_table_and_torch_compile_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[nn.Module] = []

    def way(model: nn.Module) -> nn.Module:
        asked.append(model)
        raise RuntimeError("there is no compiler\nat all")

    monkeypatch.setattr(competitors, "COMPILED", {"torch.compile": way})
    table = run(*bench(*SIZES, "--threads", "1"))
    for word in ("plain export", "torch.fx fuse", "onnxscript", "fusekit, channels_last", "1 thread, batch 1"):
        assert word in table.stdout
    assert "torch.compile" not in table.stdout
    assert asked == []
    told = json.loads(run(*bench(*SIZES, "--compile", "--json")).stdout)
    rows = [row for row in told["bench"]["rows"] if "torch.compile" in row["version"]]
    assert [row["version"] for row in rows] == ["torch.compile", "fusekit, torch.compile"]
    assert all(row["failure"] == "RuntimeError: there is no compiler" and row["median"] is None for row in rows)
    assert len(asked) == 2


def test_threads_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    with running_on(7):
        pass
    assert seen == [7, torch.get_num_threads()]


# --- versions -----------------------------------------------------------------------------------------------------


def test_packages_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "onnxsim", "onnxslim", "openvino")
    inputs = Inputs.of(torch.randn(1, 3, 8, 8))
    found = built(nn.Conv2d(3, 4, 3).eval(), inputs, tmp_path)
    assert set(of(found, ONNXRUNTIME)) == {"plain export", "onnxscript", "fusekit"}
    assert of(found, open_vino.OpenVino.title) == {}
    measured = measure(found, inputs, 1, 0.0)
    assert measured.missing == ("onnxsim", "onnxslim", "openvino")


def test_what_computes_something_else_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    without(monkeypatch, "onnxsim", "openvino")

    def scaled(source: Path, out: Path) -> None:
        model = onnx.load(source)
        (weight,) = (w for w in model.graph.initializer if len(w.dims) == 4)
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.5, weight.name))
        onnx.save(model, out)

    def failing(source: Path, out: Path) -> None:
        raise ValueError("not today")

    monkeypatch.setattr(competitors, "installed", lambda package: package in ("onnxscript", "onnxslim"))
    monkeypatch.setitem(competitors.FILES, "onnxscript", scaled)
    monkeypatch.setitem(competitors.FILES, "onnxslim", failing)
    ways: dict[str, Callable[[nn.Module], nn.Module]] = {
        "wrong": lambda model: nn.Sequential(model, nn.Hardtanh(-0.01, 0.01)),
        "other shape": lambda model: nn.Sequential(model, nn.MaxPool2d(2)),
        "right": lambda model: nn.Sequential(model),
    }
    inputs = Inputs.of(torch.randn(1, 3, 8, 8))
    found = built(nn.Conv2d(3, 4, 3).eval(), inputs, tmp_path, ways=ways)
    torch_ways, files = of(found, PYTORCH), of(found, ONNXRUNTIME)
    assert torch_ways["wrong"].failure == torch_ways["other shape"].failure == "computes other values"
    assert files["onnxscript"].failure == "computes other values"
    assert files["onnxslim"].failure == "ValueError: not today"
    assert files["plain export"].call is not None
    measured = measure(found, inputs, 1, 0.0)
    assert {row.version for row in measured.rows if row.median is None} == {
        *("wrong", "other shape", "onnxscript", "onnxslim")
    }
    assert {row.version for row in measured.of(PYTORCH, Side.OTHER)} >= {"right", "torch.fx fuse"}


def test_nothing_is_changed_and_layouts_are_for_images(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4))  # in training mode
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(2, 2, 9)
    found = built(model, Inputs.of(x), tmp_path)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any("channels_last" in version.name for version in found)
    image = nn.Conv2d(3, 4, 3).eval()
    last = of(built(image, Inputs.of(torch.randn(1, 3, 8, 8)), tmp_path), PYTORCH)["original, channels_last"]
    assert last.call is not None
    result = last.call()
    assert isinstance(result, torch.Tensor)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert image.weight.is_contiguous()


def test_complex_inputs_and_several_outputs(tmp_path: Path) -> None:
    class Split(nn.Module):
        def forward(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sum": z.real + z.imag, "product": z.real * z.imag}

    z = torch.randn(2, 5, dtype=torch.complex64)
    assert fusekit.export(Split(), tmp_path / "ours.onnx", (z,)).ok
    found = versions(Split(), Split(), tmp_path / "ours.onnx", Inputs.of(z), tmp_path)
    assert of(found, PYTORCH)["fusekit"].call is not None
    assert of(found, ONNXRUNTIME)["fusekit"].call is not None
    measured = measure(found, Inputs.of(z), 1, 0.0)
    plain = of(found, ONNXRUNTIME)["plain export"]
    (ours,) = measured.of(ONNXRUNTIME, Side.FUSEKIT)
    assert (ours.speedup is None) == bool(plain.failure)  # without an original there is no ratio, and still a time


# --- figures ------------------------------------------------------------------------------------------------------


def test_ratios_are_taken_round_by_round() -> None:
    ratios = over(Times((1.0, 10.0, 3.0)), Times((0.5, 20.0, 1.0)))
    assert ratios.rounds == (2.0, 0.5, 3.0)


def test_the_faster_original_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: dict[str, int] = {}
    now = [0.0]  # a clock that only these calls move: a busy machine changes nothing
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def call(name: str, spin: int) -> Callable[[], object]:
        def run() -> None:
            clock[name] = clock.get(name, 0) + 1
            now[0] += spin * 1e-8

        return run

    found = [
        Version(PYTORCH, "original", Side.ORIGINAL, call("slow", 2_000_000)),
        Version(PYTORCH, "original, channels_last", Side.ORIGINAL, call("fast", 20_000)),
        Version(PYTORCH, "broken", Side.OTHER, failure="no"),
        Version(PYTORCH, "fusekit", Side.FUSEKIT, call("ours", 20_000)),
    ]
    measured = measure(found, Inputs.of(torch.zeros(7)), 3, math.inf)
    best, slow = measured.of(PYTORCH, Side.ORIGINAL)
    assert (best.version, best.speedup) == ("original, channels_last", 1.0)
    assert slow.speedup is not None and slow.speedup < 0.5
    assert measured.rounds == 3
    assert measured.batch == 7
    assert clock["fast"] > clock["slow"]  # short calls are made more often


def test_nothing_that_runs_is_an_empty_table() -> None:
    measured = measure([Version(PYTORCH, "original", Side.ORIGINAL, failure="no")], Inputs.of(torch.tensor(1.0)))
    assert isinstance(measured, Bench)
    assert (measured.rounds, measured.batch, measured.noise) == (0, None, {})
    assert [row.failure for row in measured.rows] == ["no"]
