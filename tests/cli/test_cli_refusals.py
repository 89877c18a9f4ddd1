"""Bad input of every kind: exit code 2, one line that says what is wrong, no traceback, and no file left."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.cli_room import NET, ONNX, SIZES, export, inside, room, run

__all__ = ["inside", "room"]  # fixtures: pytest finds them by name in this module

pytestmark = pytest.mark.usefixtures("inside")

# What is typed, and a word that the answer must contain.
BAD: dict[str, tuple[tuple[str, ...], str]] = {
    # the source
    "missing file": (export("missing.pt", ONNX, *SIZES), "no such file"),
    "empty source": (export("", ONNX, *SIZES), "empty"),
    "directory": (export("out", ONNX, *SIZES), "directory"),
    "empty file": (export("empty.pt", ONNX, *SIZES), "empty file"),
    "truncated archive": (export("cut.pt", ONNX, "--factory", NET, *SIZES), "truncated"),
    "truncated program": (export("cut.pt2", ONNX, *SIZES), "truncated"),
    "html": (export("page.pt", ONNX, *SIZES), "HTML"),
    "lfs pointer": (export("pointer.pt", ONNX, *SIZES), "LFS"),
    "torchscript": (export("script.pt", ONNX, *SIZES), "TorchScript"),
    "pickled model": (export("whole.pt", ONNX, *SIZES), "--unsafe-pickle"),
    "no tensors": (export("epoch.pt", ONNX, *SIZES), "epoch"),
    "onnx as source": (export("broken.onnx", ONNX, *SIZES), "ONNX"),
    "state dict alone": (export("good.pt", ONNX, *SIZES), "--factory"),
    "python file": (export("nets_for_cli.py", ONNX, *SIZES), "colon"),
    # factories and weights
    "unknown module": (export("nets_for_none:Net", ONNX, *SIZES), "no module"),
    "unknown attribute": (export("nets_for_cli:Nut", ONNX, *SIZES), "Nut"),
    "no callable": (export("nets_for_cli:constant", ONNX, *SIZES), "int"),
    "factory raises": (export("nets_for_cli:make_fail", ONNX, *SIZES), "no such preset"),
    "factory of a dict": (export("nets_for_cli:make_dict", ONNX, *SIZES), "dict"),
    "factory without colon": (export("good.pt", ONNX, "--factory", "Net", *SIZES), "--factory"),
    "unknown factory": (export("good.pt", ONNX, "--factory", "nets_for_none:Net", *SIZES), "no module"),
    "two factories": (export(NET, ONNX, "--factory", NET, *SIZES), "two factories"),
    "unknown argument": (export(NET, ONNX, "--arg", "depth=3", *SIZES), "depth"),
    "argument of a program": (export("program.pt2", ONNX, "--arg", "width=3", *SIZES), "arguments"),
    "malformed argument": (export(NET, ONNX, "--arg", "width", *SIZES), "name=value"),
    "argument twice": (export(NET, ONNX, "--arg", "width=3", "--arg", "width=4", *SIZES), "twice"),
    "bad argument value": (export(NET, ONNX, "--arg", "width=wide", *SIZES), "TypeError"),
    "missing weights": (export(NET, ONNX, "--weights", "missing.pt", *SIZES), "missing.pt"),
    "wrong keys": (export(NET, ONNX, "--weights", "keys.pt", *SIZES), "conv.weight"),
    "wrong shapes": (export(NET, ONNX, "--weights", "shapes.pt", *SIZES), "8x3x3x3"),
    "truncated safetensors": (export(NET, ONNX, "--weights", "bad.safetensors", *SIZES), "truncated"),
    "no such entry": (export(NET, ONNX, "--weights", "good.pt#ema", *SIZES), "ema"),
    "weights of a program": (export("program.pt2", ONNX, "--weights", "good.pt", *SIZES), "own weights"),
    # inputs
    "no input": (export(NET, ONNX), "--input"),
    "size abc": (export(NET, ONNX, "--input", "1x3xabc"), "abc"),
    "size zero": (export(NET, ONNX, "--input", "0x3"), "'0'"),
    "size negative": (export(NET, ONNX, "--input", "-1x3"), "-1"),
    "size fraction": (export(NET, ONNX, "--input", "1x3x8.5x8"), "8.5"),
    "size huge": (export(NET, ONNX, "--input", "99999x99999x99999"), "too many"),
    "sizes by semicolons": (export(NET, ONNX, "--input", "1;3;8;8"), "joined by x"),
    "trailing x": (export(NET, ONNX, "--input", "1x3x"), "size"),
    "empty input": (export(NET, ONNX, "--input", ""), "--input"),
    "only a dtype": (export(NET, ONNX, "--input", ":uint8"), "sizes"),
    "unknown dtype": (export(NET, ONNX, "--input", "1x3x8x8:float12"), "float12"),
    "empty dtype": (export(NET, ONNX, "--input", "1x3x8x8:"), "dtype"),
    "no parameter name": (export(NET, ONNX, "--input", "2x=1x3x8x8"), "2x"),
    "name twice": (export(NET, ONNX, "--input", "x=1x3x8x8", "--input", "x=1x3x8x8"), "twice"),
    "unknown name": (export(NET, ONNX, "--input", "image=1x3x8x8"), "image"),
    "too many inputs": (export(NET, ONNX, *SIZES, *SIZES), "inputs is 2"),
    "too few inputs": (export("nets_for_cli:Two", ONNX, *SIZES), "(x, y)"),
    "missing array": (export(NET, ONNX, "--input", "missing.npy"), "no such file"),
    "array of text": (export(NET, ONNX, "--input", "words.npy"), "words.npy"),
    "no array": (export(NET, ONNX, "--input", "text.npy"), "text.npy"),
    "archive for one": (export(NET, ONNX, "--input", "x=pair.npz"), "2 arrays"),
    "wrong channels": (export(NET, ONNX, "--input", "1x5x8x8"), "channels"),
    "wrong rank": (export(NET, ONNX, "--input", "8"), "does not run"),
    "wrong dtype": (export(NET, ONNX, "--input", "1x3x8x8:int64"), "does not run"),
    "too small": (export(NET, ONNX, "--input", "1x3x2x2"), "does not run"),
    "fixed size": (export("program.pt2", ONNX, "--input", "1x3x9x9"), "does not run"),
    "negative seed": (export(NET, ONNX, *SIZES, "--seed", "-1"), "--seed"),
    # preprocessing
    "mean of words": (export(NET, ONNX, *SIZES, "--mean", "grey"), "'grey' is no number"),
    "division by zero": (export(NET, ONNX, *SIZES, "--scale", "1/0"), "--scale"),
    "std zero": (export(NET, ONNX, *SIZES, "--std", "0"), "std must not be 0"),
    "unknown order": (export(NET, ONNX, *SIZES, "--order", "GBR"), "RGB, BGR"),
    "unknown layout": (export(NET, ONNX, *SIZES, "--layout", "HWC"), "NCHW, NHWC"),
    "no scale": (export(NET, ONNX, *SIZES, "--mean", "0.5", "--dtype", "uint8"), "scale=1 / 255"),
    "front of two inputs": (export("nets_for_cli:Two", ONNX, *SIZES, *SIZES, "--mean", "1"), "one input"),
    "images of another layout": (export(NET, ONNX, *SIZES, "--layout", "NHWC"), "channels"),
    # the output
    "no such folder": (export(NET, "nowhere/net.onnx", *SIZES), "nowhere"),
    "output a directory": (export(NET, "taken.onnx", *SIZES), "it is a folder"),
    "wrong suffix": (export(NET, "out/net.pt", *SIZES), ".onnx"),
    "no suffix": (export(NET, "out/net", *SIZES), ".onnx"),
    "output is the source": (export("broken.onnx", "broken.onnx", *SIZES), "also read"),
    "program over itself": (("optimize", "program.pt2", "program.pt2", *SIZES), "also read"),
    "program suffix": (("optimize", NET, "out/net.onnx", *SIZES), ".pt2"),
    # choices
    "unknown pass": (export(NET, ONNX, *SIZES, "--pass", "fold-everything"), "fold-everything"),
    "unknown target": (export(NET, ONNX, *SIZES, "--target", "abacus"), "abacus"),
    "equalize on noise": (export(NET, ONNX, *SIZES, "--equalize"), "expected real inputs in a .npy or .npz file"),
    "equalize and realize": (
        export(NET, ONNX, "--input", "photo.npy", "--equalize", "--pass", "use-channels-last"),
        "use-channels-last is a realization",
    ),
    "opset zero": (export(NET, ONNX, *SIZES, "--opset", "0"), "--opset"),
    "budget below zero": (export(NET, ONNX, *SIZES, "--budget", "-1"), "--budget"),
    "budget text": (export(NET, ONNX, *SIZES, "--budget", "much"), "--budget"),
    "opset text": (export(NET, ONNX, *SIZES, "--opset", "latest"), "--opset"),
    "opset of the future": (export(NET, ONNX, *SIZES, "--opset", "999"), "999"),
    "tolerance negative": (export(NET, ONNX, *SIZES, "--tolerance", "-1"), "--tolerance"),
    "tolerance nan": (export(NET, ONNX, *SIZES, "--tolerance", "nan"), "--tolerance"),
    "tolerance zero": (export(NET, ONNX, *SIZES, "--tolerance", "0"), "--tolerance"),
    "tolerance text": (export(NET, ONNX, *SIZES, "--tolerance", "small"), "--tolerance"),
    # the other commands, and no command
    "validate missing": (("validate", NET, "missing.onnx", *SIZES), "no such file"),
    "validate noise": (("validate", NET, "noise.onnx", *SIZES), "expected an ONNX model"),
    "validate broken": (("validate", NET, "broken.onnx", *SIZES), "broken.onnx"),
    "validate a page": (("validate", NET, "page.pt", *SIZES), "HTML"),
    "inspect missing": (("inspect", "missing.pt"), "no such file"),
    "inspect html": (("inspect", "page.pt"), "HTML"),
    "unknown command": (("explode", NET), "explode"),
    "unknown option": (export(NET, ONNX, *SIZES, "--fast"), "--fast"),
    "no output": (export(NET, *SIZES), "OUT"),
    "no arguments": (("export",), "SOURCE"),
    "one too many": (export(NET, ONNX, "extra", *SIZES), "extra"),
    # models that fail
    "model fails": (export("nets_for_cli:Failing", ONNX, *SIZES), "camera"),
    "model exits": (export("nets_for_cli:Exiting", ONNX, *SIZES), "SystemExit"),
}
assert len(BAD) >= 50


@pytest.mark.parametrize(("words", "expected"), BAD.values(), ids=BAD)
def test_bad_input(words: tuple[str, ...], expected: str, room: Path) -> None:
    before = sorted(room.rglob("*"))
    result = run(*words)
    assert result.code == 2, result
    errors = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(errors) == 1, result.stderr
    assert errors[0].startswith("error: ")
    assert expected in errors[0]
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert list((room / "out").iterdir()) == []
    assert [path for path in sorted(room.rglob("*")) if "__pycache__" not in path.parts] == [
        path for path in before if "__pycache__" not in path.parts
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_unwritable_output() -> None:
    result = run(*export(NET, "/proc/net.onnx", *SIZES))
    assert result.code == 2
    assert "cannot write" in result.stderr


def test_a_read_only_file_is_not_replaced(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and allowed(path, mode))  # root may all
    result = run(*export(NET, "broken.onnx", *SIZES))
    assert result.code == 2
    assert "write-protected" in result.stderr


def test_debug_shows_where(room: Path) -> None:
    for words in (("--debug",), ("-vv",)):
        result = run(*export("nets_for_cli:Failing", ONNX, *SIZES, *words))
        assert result.code == 2
        assert "Traceback" in result.stderr
