"""The command line at work: results, files, stdout and stderr."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
import torch
from torch import nn

import fusekit
from fusekit.checkpoint.load import load
from fusekit.cli import commands
from fusekit.sampling.draw import draw
from fusekit.sampling.grammar import parse_arguments, parse_input
from tests.support.cli_room import NET, ONNX, SIZES, export, inside, room, run

__all__ = ["inside", "room"]  # fixtures: pytest finds them by name in this module

pytestmark = pytest.mark.usefixtures("inside")


# --- as a process -------------------------------------------------------------------------------------------------


def process(*words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "fusekit.cli.main", *words]
    root = str(Path(fusekit.__file__).parents[1])
    return subprocess.run(
        [sys.executable, *start], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}, check=False
    )


def test_a_usage_error_as_a_process() -> None:
    result = process(*export(NET, ONNX, "--input", "1x3xabc"))
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: Invalid value for '--input': '1x3xabc'")


def test_help_does_not_wait_for_torch() -> None:
    """The command line's own files, under an empty package: what `import fusekit` itself brings in is not theirs."""
    lines = (
        "import sys, types",
        "package = sys.modules['fusekit'] = types.ModuleType('fusekit')",
        f"package.__path__, package.__version__ = {list(fusekit.__path__)!r}, '0'",
        "from fusekit.cli.main import app",
        "codes = []",
        "for words in (['--help'], ['export', '--help'], ['export', 'a', 'b'], ['--version'], ['export', '-i', 'x']):",
        "    try: app(words)",
        "    except SystemExit as stop: codes.append(stop.code)",
        "assert codes == [0, 0, 2, 0, 2], codes",
        "assert 'torch' not in sys.modules",
        "assert 'numpy' not in sys.modules",
    )
    result = process(code="\n".join(lines))
    assert result.returncode == 0, result.stderr


def test_no_words_show_the_help() -> None:
    result = run()
    assert result.code == 2
    assert "export" in result.stdout + result.stderr
    assert "error" not in result.stderr


def test_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "load", interrupt)
    result = run(*export(NET, ONNX, *SIZES))
    assert result.code == 130
    assert result.stderr == "error: interrupted\n"


# --- what works ---------------------------------------------------------------------------------------------------


def test_export_and_validate(inside: Path) -> None:
    result = run(*export(NET, ONNX, "--weights", "good.pt", *SIZES))
    assert result.code == 0, result
    assert "wrote" in result.stdout
    assert [file.name for file in inside.iterdir()] == ["net.onnx"]
    result = run("validate", NET, ONNX, "--weights", "good.pt", *SIZES, "--json")
    assert result.code == 0, result
    assert json.loads(result.stdout)["ok"] is True
    torch.save({name: value * 1.01 for name, value in torch.load("good.pt").items()}, "out/other.pt")
    result = run("validate", NET, ONNX, "--weights", "out/other.pt", *SIZES)
    assert result.code == 1, result
    assert result.stderr.startswith("error: the numbers differ")


def test_numbers_that_differ_leave_the_old_file(inside: Path) -> None:
    (inside / "net.onnx").write_text("old")
    result = run(*export(NET, ONNX, "--weights", "good.pt", *SIZES, "--tolerance", "1e-30", "--json"))
    assert result.code == 1, result
    assert json.loads(result.stdout)["ok"] is False
    assert [file.read_text() for file in inside.iterdir()] == ["old"]


def test_export_of_a_photograph_with_choices(inside: Path) -> None:
    words = ("--weights", "good.pt", "--input", "x=photo.npy", "--pass", "fold-affine", "--strict", "--json")
    result = run(*export("nets_for_cli:Talking", ONNX, *words))
    assert result.code == 0, result
    told = json.loads(result.stdout)  # what the model prints stays off stdout
    assert "nobody asked" in result.stderr
    assert told["ok"] is True
    assert {event["rewrite"] for event in told["report"]["events"]} == {"fold-affine"}
    assert [file.name for file in inside.iterdir()] == ["net.onnx"]


def spread(file: Path) -> float:
    """The largest range of an output channel over the smallest, of the first convolution in a file."""
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in onnx.load(file).graph.initializer}
    ranges = next(abs(w).max(axis=(1, 2, 3)) for w in weights.values() if w.shape == (4, 3, 3, 3))
    return float(ranges.max() / ranges.min())


def test_ranges_become_narrow_if_asked(inside: Path) -> None:
    words = ("--input", "photo.npy", "--no-measure", "--json")
    result = run(*export("nets_for_cli:Deep", "out/wide.onnx", *words))
    assert result.code == 0 and "equalize-channels" not in {e["rewrite"] for e in applied(result.stdout)}, result
    result = run(*export("nets_for_cli:Deep", ONNX, *words, "--equalize"))
    assert result.code == 0, result
    assert [e["where"] for e in applied(result.stdout) if e["rewrite"] == "equalize-channels"] == ["conv", "last"]
    assert spread(inside / "wide.onnx") > 1000 and spread(inside / "net.onnx") < 100
    result = run(*export("nets_for_cli:Deep", ONNX, *words[:-1], "--equalize"))
    assert "largest range" in result.stdout, result
    assert run("validate", "nets_for_cli:Deep", ONNX, "--input", "photo.npy").code == 0


def applied(printed: str) -> list[dict[str, Any]]:
    return [event for event in json.loads(printed)["report"]["events"] if event["outcome"] == "applied"]


def test_images_as_they_come() -> None:
    front = ("--mean", "0.5,0.4,0.3", "--std", "1/4", "--scale", "1/255", "--dtype", "uint8", "--layout", "NHWC")
    images = ("--input", "1x8x8x3", *front, "--order", "BGR", "--no-measure")
    weights = ("--weights", "good.pt")
    result = run(*export(NET, ONNX, *weights, *images))
    assert result.code == 0, result
    assert run("validate", NET, ONNX, *weights, *images[:-1]).code == 0
    result = run("validate", NET, ONNX, *weights, *images[:2], *front)  # the channels the other way round
    assert result.code == 1 and "differ" in result.stderr, result


def test_optimize_writes_a_program(inside: Path) -> None:
    result = run("optimize", NET, "out/net.pt2", "--weights", "good.pt", "--input", "2x3x8x8")
    assert result.code == 0, result
    fast = torch.export.load(inside / "net.pt2").module()
    slow = load(NET, weights="good.pt")
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(fast(x), slow(x))
    assert run("inspect", "out/net.pt2", "--quiet").stdout == ""


def test_inspect_and_passes() -> None:
    assert run("inspect", NET).code == 0
    assert run("inspect", NET, *SIZES).stdout
    json.loads(run("inspect", NET, *SIZES, "--json").stdout)
    assert "fold-affine" in run("passes").stdout
    rows = json.loads(run("passes", "--json").stdout)["passes"]
    assert all(row["law"] and row["stage"] for row in rows)


# --- words --------------------------------------------------------------------------------------------------------


def test_inputs_are_read_as_they_are_written() -> None:
    assert parse_input("1x3x224x224").sizes == (1, 3, 224, 224)
    sample = parse_input("clip=1x100x27x48x3:uint8")
    assert (sample.name, sample.sizes, sample.dtype) == ("clip", (1, 100, 27, 48, 3), "uint8")
    assert parse_input("photo.npy:float64").dtype == "float64"
    assert parse_arguments(["a=3", "b=0.5", "c=true", "d=None", "e=(1, 2)", "f=resnet", "g=", "h=a=b"]) == {
        "a": 3,
        "b": 0.5,
        "c": True,
        "d": None,
        "e": (1, 2),
        "f": "resnet",
        "g": "",
        "h": "a=b",
    }


def test_inputs_are_drawn_for_the_model() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, x: torch.Tensor, *, mask: torch.Tensor) -> torch.Tensor:
            return x * mask

    one, two = parse_input("4x5"), parse_input("mask=4x5:bool")
    drawn = draw([one, two], Pair())
    assert isinstance(drawn, dict)
    assert list(drawn) == ["x", "mask"]
    assert drawn["x"].dtype is torch.float64
    assert drawn["mask"].dtype is torch.bool
    again = draw([one, two], Pair())
    assert isinstance(again, dict)
    assert torch.equal(drawn["x"], again["x"])
    (image,) = draw([parse_input("50x50:uint8")], nn.Identity())
    assert isinstance(image, torch.Tensor)
    assert image.dtype is torch.uint8
    assert (int(image.min()), int(image.max())) == (0, 255)


@pytest.mark.parametrize("text", ["photo.npy", "x=photo.npy", "photo.npy:float64"])
def test_inputs_are_read_from_files(text: str) -> None:
    drawn = draw([parse_input(text)], load("nets_for_cli:Net"))
    (value,) = drawn.values() if isinstance(drawn, dict) else drawn
    torch.testing.assert_close(value.float().numpy(), numpy.load("photo.npy"))


def test_archives_of_arrays(tmp_path: Path) -> None:
    module = load("nets_for_cli:Two")
    named = draw([parse_input("pair.npz")], module)
    assert isinstance(named, dict)
    assert list(named) == ["x", "y"]
    numpy.savez(tmp_path / "plain.npz", numpy.ones(3), numpy.zeros(3))
    plain = draw([parse_input(str(tmp_path / "plain.npz"))], module)
    assert isinstance(plain, tuple)
    assert [float(value.sum()) for value in plain] == [3, 0]


def test_a_choice_made_for_the_user_is_told(room: Path) -> None:
    state = torch.load("good.pt")
    torch.save({"params": state, "params_ema": state}, "two.pt")
    result = run("inspect", NET, "--weights", "two.pt")
    (room / "two.pt").unlink()
    assert result.code == 0, result
    assert result.stderr.startswith("warning: two.pt holds 'params' and 'params_ema'; took 'params'")


def test_the_report_as_a_page(inside: Path) -> None:
    words = ("--weights", "good.pt", *SIZES, "--report", "out/report.html", "--no-measure")
    result = run(*export(NET, ONNX, *words))
    assert result.code == 0, result
    assert "wrote out/report.html" in result.stdout.replace(str(inside), "out")
    page = (inside / "report.html").read_text(encoding="utf-8")
    assert "fold-affine" in page and "1 convolution + 1 batch norm → 1 convolution" in page
    assert sorted(file.name for file in inside.iterdir()) == ["net.onnx", "report.html"]


def test_numbers_that_differ_have_a_page_too(inside: Path) -> None:
    words = ("--weights", "good.pt", *SIZES, "--tolerance", "1e-30", "--report", "out/report.html", "--no-measure")
    assert run(*export(NET, ONNX, *words)).code == 1
    assert "Not valid" in (inside / "report.html").read_text(encoding="utf-8")


def test_the_page_needs_a_name_of_a_page() -> None:
    result = run(*export(NET, ONNX, *SIZES, "--report", "out/report.txt"))
    assert result.code == 2 and "'--report'" in result.stderr and ".html" in result.stderr, result
    result = run(*export(NET, ONNX, *SIZES, "--report", "nowhere/report.html"))
    assert result.code == 2 and "no folder" in result.stderr, result


def test_a_layer_is_explained() -> None:
    words = ("--weights", "good.pt", *SIZES, "--no-measure")
    result = run("explain", NET, "conv", *words)
    assert result.code == 0 and "conv was rewritten: 1 operator -> 1 operator" in result.stdout, result
    result = run("explain", NET, "conv", *words, "--json")
    assert [event["rewrite"] for event in json.loads(result.stdout)["events"]] == ["fold-affine"]
    result = run("explain", NET, "convolution", *words)
    assert result.code == 2 and "no layer 'convolution'" in result.stderr and result.stderr.count("\n") == 1
