"""What cannot be loaded is refused in one line that names it, and nothing in it runs."""

import io
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors.torch
import torch
from torch import nn

from fusekit.checkpoint.load import load
from fusekit.errors import CheckpointError
from tests.support.checkpoint_room import Bomb, here, net, refused

__all__ = ["here", "net"]  # fixtures: pytest finds them by name in this module


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_nothing_in_a_pickle_runs_unasked(here: Path, legacy: bool) -> None:
    torch.save({"state_dict": Bomb(here / "crater")}, "bomb.pt", _use_new_zipfile_serialization=not legacy)
    refused("any code", source="nets_for_loading:Net", weights="bomb.pt")
    refused("any code", source="bomb.pt")
    assert not (here / "crater").exists()


def test_nothing_in_a_program_runs_unasked(here: Path) -> None:
    program = torch.export.export(nn.Conv2d(3, 4, 3), (torch.randn(1, 3, 8, 8),))
    torch.export.save(program, "good.pt2")
    buffer = io.BytesIO()
    torch.save((Bomb(here / "crater"),), buffer)
    _rewrite(Path("good.pt2"), Path("inputs.pt2"), "data/sample_inputs/model.pt", lambda _: buffer.getvalue())
    refused("sample_inputs", "any code", source="inputs.pt2")

    def plant(content: bytes) -> bytes:
        return content.replace(b'"as_int": 8', b'"as_expr": {"expr_str": "__import__(\'os\').mkdir(\'crater\')"}')

    _rewrite(Path("good.pt2"), Path("size.pt2"), "models/model.json", plant)
    refused("any code", source="size.pt2")
    _rewrite(
        Path("good.pt2"),
        Path("weights.pt2"),
        "data/weights/model_weights_config.json",
        lambda content: content.replace(b'"use_pickle": false', b'"use_pickle": true'),
    )
    refused("pickled tensors", source="weights.pt2")
    assert not (here / "crater").exists()
    load("good.pt2")


def _rewrite(source: Path, target: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        changed = 0
        for entry in old.namelist():
            content = old.read(entry)
            if entry.endswith(name):
                changed += change(content) != content
                content = change(content)
            new.writestr(entry, content)
        assert changed == 1


def test_training_mode_is_frozen_in_a_program(here: Path) -> None:
    dropout = torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout()), (torch.randn(1, 3, 8, 8),))
    torch.export.save(dropout, "dropout.pt2")
    refused("training mode", "eval()", source="dropout.pt2")
    norm = torch.export.export(nn.BatchNorm2d(3), (torch.randn(2, 3, 8, 8),))
    torch.export.save(norm, "norm.pt2")
    refused("training mode", "eval()", source="norm.pt2")
    free = torch.export.export(nn.BatchNorm2d(3, track_running_stats=False).eval(), (torch.randn(2, 3, 8, 8),))
    torch.export.save(free, "free.pt2")
    load("free.pt2")  # statistics of the batch, in evaluation too: what its author meant


def _scripted() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)), buffer)
    return buffer.getvalue()


def _saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _arrays() -> bytes:
    buffer = io.BytesIO()
    numpy.savez(buffer, a=numpy.zeros(3))
    return buffer.getvalue()


def _zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


FOREIGN: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "html": (lambda: b"\n<!DOCTYPE html><html><body>Not found</body></html>", "HTML"),
    "html with a preamble": (lambda: b"<!-- cached -->\n<HTML lang=en>", "HTML"),
    "xml": (lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
    "json": (lambda: b'{"error": "not found"}', "JSON"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n", "LFS"),
    "onnx": (lambda: b"\x08\x08\x12\x07pytorch", "ONNX"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3" + bytes(100), "TensorFlow Lite"),
    "npz": (_arrays, ".npz"),
    "npy": (lambda: b"\x93NUMPY\x01\0v\0", "NumPy"),
    "gzip": (lambda: b"\x1f\x8b\x08\0" + bytes(30), "compressed"),
    "png": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(30), "image"),
    "zeros": (lambda: bytes(5000), "zero bytes"),
    "text": (lambda: b"hello, this is not a checkpoint", "text"),
    "noise": (lambda: random.Random(0).randbytes(100), "unknown kind"),
    "bare pickle": (lambda: pickle.dumps({"a": 1}), "pickle"),
    "zip": (lambda: _zipped("readme.txt", "a.txt"), "readme.txt"),
    "torchscript": (_scripted, "TorchScript"),
    "truncated zip": (lambda: _saved({"a": torch.zeros(100)})[:400], "truncated"),
    "truncated legacy": (lambda: b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M", "truncated"),
    "truncated safetensors": (lambda: safetensors.torch.save({"a": torch.zeros(100)})[:200], "truncated"),
    "truncated header": (lambda: safetensors.torch.save({"a": torch.zeros(100)})[:20], "truncated"),
    "tensor": (lambda: _saved(torch.zeros(3)), "torch.Tensor"),
    "number": (lambda: _saved(3), "int"),
    "empty dict": (lambda: _saved({}), "empty dict"),
    "optimizer": (lambda: _saved({"optimizer": {"lr": 1}, "epoch": 2}), "optimizer"),
    "compiled": (lambda: _zipped("m/data/aotinductor/model/a.so", "m/archive_format"), "AOTInductor"),
    "broken program": (lambda: _zipped("m/models/model.json", "m/archive_format"), "torch.export"),
}


@pytest.mark.parametrize(("content", "word"), FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_are_named(here: Path, content: Callable[[], bytes], word: str) -> None:
    Path("file.pt").write_bytes(content())
    refused(word, source="file.pt")
    refused(word, source="nets_for_loading:Net", weights="file.pt", unsafe=True)


def test_a_state_dict_alone_is_no_model(here: Path, net: nn.Module) -> None:
    torch.save(net.state_dict(), "weights.pt")
    refused("7 tensors", "conv.weight", "factory", source="weights.pt")


def test_what_does_not_fit_is_named(here: Path, net: nn.Module) -> None:
    state = net.state_dict()

    def complaint(changed: dict[str, Any]) -> str:
        torch.save(changed, "weights.pt")
        return refused("does not fit Net", source="nets_for_loading:Net", weights="weights.pt")

    without = {key: value for key, value in state.items() if key != "conv.bias"}
    assert "1 of 7 keys missing (conv.bias)" in complaint(without)
    assert "unexpected (head.weight)" in complaint({**state, "head.weight": torch.zeros(3)})
    text = complaint({**state, "conv.weight": torch.zeros(4, 5, 3, 3)})
    assert "expected 4x3x3x3" in text
    assert "got 4x5x3x3" in text
    assert "expected float32, got int8" in complaint({**state, "conv.weight": state["conv.weight"].to(torch.int8)})
    assert "got complex64" in complaint({**state, "conv.weight": state["conv.weight"] + 0j})
    assert "missing" in complaint({f"ema.{key}": value for key, value in without.items()})
    assert "missing" in complaint({"a." + k if "conv" in k else k: v for k, v in state.items()})  # on some keys only


NO_MODEL: dict[str, tuple[str, dict[str, Any], str]] = {
    "module": ("no_such_package.net:Net", {}, "no module"),
    "attribute": ("nets_for_loading:Nett", {}, "Net"),
    "file": ("missing.py:Net", {}, "no such file"),
    "no colon": ("nets_for_loading", {}, "colon"),
    "python file": ("nets_for_loading.py", {}, "colon"),
    "missing": ("missing.pt", {}, "no such file"),
    "directory": (".", {}, "directory"),
    "nothing": ("", {}, "empty"),
    "raises": ("nets_for_loading:fails", {}, "RuntimeError: no disk left"),
    "exits": ("nets_for_loading:leaves", {}, "SystemExit"),
    "dict": ("nets_for_loading:makes_dict", {}, "returned a dict"),
    "no callable": ("math:pi", {}, "float"),
    "no model": ("math:sqrt", {}, "math:sqrt"),
    "argument": ("nets_for_loading:Net", {"arguments": {"depth": 3}}, "depth"),
    "argument value": ("nets_for_loading:Net", {"arguments": {"width": "wide"}}, "raised"),
    "argument missing": ("torch.nn:Conv2d", {}, "in_channels"),
    "argument of a model": ("nets_for_loading:ready", {"arguments": {"width": 3}}, "already built"),
    "two factories": ("nets_for_loading:Net", {"factory": "nets_for_loading:Net"}, "two factories"),
    "no weights": ("nets_for_loading:Net", {"weights": "missing.pt"}, "no such file"),
    "syntax": ("broken_for_loading:Net", {}, "SyntaxError"),
    "needs another": ("needing_for_loading:Net", {}, "no_such_package"),
}


@pytest.mark.parametrize(("source", "options", "word"), NO_MODEL.values(), ids=NO_MODEL)
def test_sources_that_are_no_model(here: Path, source: str, options: dict[str, Any], word: str) -> None:
    (here / "broken_for_loading.py").write_text("def Net(:\n")
    (here / "needing_for_loading.py").write_text("import no_such_package\n")
    refused(word, source=source, **options)


def test_weights_for_what_has_its_own(here: Path, net: nn.Module) -> None:
    torch.save(net.state_dict(), "weights.pt")
    torch.export.save(torch.export.export(net, (torch.randn(1, 3, 8, 8),)), "net.pt2")
    refused("its own weights", source="net.pt2", weights="weights.pt")
    refused("no factory", source="net.pt2", factory="nets_for_loading:Net")


def test_damage_anywhere_never_comes_through_raw(here: Path, net: nn.Module) -> None:
    """Flip bytes and cut, all over each format: a model or a CheckpointError, and nothing else."""
    torch.save(net.state_dict(), "a.pt")
    torch.save(net.state_dict(), "b.pt", _use_new_zipfile_serialization=False)
    torch.export.save(torch.export.export(net, (torch.randn(1, 3, 8, 8),)), "c.pt2")
    safetensors.torch.save_file(net.state_dict(), "d.safetensors")
    source = random.Random(7)
    refusals = 0
    for name in ("a.pt", "b.pt", "c.pt2", "d.safetensors"):
        whole = Path(name).read_bytes()
        for trial in range(40):
            damaged = bytearray(whole)
            if trial % 4 == 0:
                del damaged[source.randrange(len(whole)) :]
            else:
                for _ in range(trial):
                    damaged[source.randrange(len(whole))] = source.randrange(256)
            Path("damaged").write_bytes(damaged)
            try:
                load("damaged", factory=None if name == "c.pt2" else "nets_for_loading:Net")
            except CheckpointError as error:
                refusals += 1
                assert "\n" not in str(error)
    assert refusals > 80
