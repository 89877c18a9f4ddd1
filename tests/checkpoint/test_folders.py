"""Weights in folders, as save_pretrained writes them, and what may stand beside the weights of a model."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from fusekit.checkpoint.load import load
from fusekit.validation import validate
from tests.support.checkpoint_room import here, net, refused, same
from tests.support.cli_room import run

__all__ = ["here", "net"]
FACTORY = "nets_for_loading:Net"
INDEX = "model.safetensors.index.json"


def shards(folder: Path, net: nn.Module, **places: Any) -> Path:
    """Two shards and their index, of which some entries are others."""
    folder.mkdir()
    files: dict[str, dict[str, torch.Tensor]] = {"a.safetensors": {}, "b.safetensors": {}}
    index = {}
    for number, (name, value) in enumerate(net.state_dict().items()):
        index[name] = sorted(files)[number % 2]
        files[index[name]][name] = value
    for name, state in files.items():
        safetensors.torch.save_file(state, folder / name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {**index, **places}}))
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_one_file(net: nn.Module, here: Path, name: str) -> None:
    (here / "folder").mkdir()
    if name.endswith(".bin"):
        torch.save(net.state_dict(), here / "folder" / name)
    else:
        safetensors.torch.save_file(net.state_dict(), here / "folder" / name)
    assert same(load(FACTORY, weights="folder"), net)
    assert same(load("folder", factory=FACTORY), net)


def test_a_folder_on_the_command_line(net: nn.Module, here: Path) -> None:
    (here / "folder").mkdir()
    words = ("export", FACTORY, "out.onnx", "--weights", "folder", "--input", "2x3x8x8", "--no-measure")
    outcome = run(*words)  # the folder is empty
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: ") and outcome.stderr.count("\n") == 1
    assert "expected a checkpoint file, or a folder with model.safetensors" in outcome.stderr
    assert not (here / "out.onnx").exists()
    safetensors.torch.save_file(net.state_dict(), here / "folder" / "model.safetensors")
    outcome = run(*words)
    assert outcome.code == 0, outcome.stderr
    assert validate(net.eval(), "out.onnx", torch.randn(2, 3, 8, 8)).ok  # with the weights of the folder


def test_shards(net: nn.Module, here: Path) -> None:
    assert same(load(FACTORY, weights=shards(here / "folder", net)), net)


@pytest.mark.parametrize("name", ["../a.safetensors", "/etc/passwd", "", "..", "sub/a.safetensors", "sub\\a", 3, None])
def test_an_index_names_files_beside_it_only(net: nn.Module, here: Path, name: object) -> None:
    folder = shards(here / "folder", net, extra=name)
    (here / "a.safetensors").write_bytes((folder / "a.safetensors").read_bytes())
    refused(INDEX, source=FACTORY, weights=folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "[" * 100_000])
def test_what_is_no_index(net: nn.Module, here: Path, text: str) -> None:
    folder = shards(here / "folder", net)
    (folder / INDEX).write_text(text)
    refused(INDEX, source=FACTORY, weights=folder)


def test_shards_that_are_missing_or_hold_a_tensor_twice(net: nn.Module, here: Path) -> None:
    folder = shards(here / "folder", net)
    both = safetensors.torch.load_file(folder / "a.safetensors") | safetensors.torch.load_file(folder / "b.safetensors")
    safetensors.torch.save_file(both, folder / "b.safetensors")
    refused("holds too", source=FACTORY, weights=folder)
    (folder / "b.safetensors").unlink()
    refused("b.safetensors", "not there", source=FACTORY, weights=folder)
    (folder / INDEX).unlink()
    refused("missing", source=FACTORY, weights=folder)  # one file may have any name


def test_what_stands_beside_the_only_prefix_is_left_out(net: nn.Module, here: Path) -> None:
    state = {f"model.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": {**state, "loss.weight": torch.ones(3)}}, "beside.pt")
    with pytest.warns(UserWarning, match=r"took model\.\*, and left out loss.weight"):
        assert same(load(FACTORY, weights="beside.pt"), net)


def test_two_prefixes_or_a_part_of_a_larger_model_are_refused(net: nn.Module, here: Path) -> None:
    state = net.state_dict()
    twice = {f"{prefix}.{name}": value for prefix in ("student", "teacher") for name, value in state.items()}
    torch.save(twice, "twice.pt")
    refused("unexpected", source=FACTORY, weights="twice.pt")
    larger = {f"model.{name}": value for name, value in state.items()} | {"model.head.weight": torch.ones(3)}
    torch.save({**larger, "n_averaged": torch.tensor(3)}, "larger.pt")
    refused("unexpected", source=FACTORY, weights="larger.pt")
