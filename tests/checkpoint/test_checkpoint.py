"""What can be loaded is loaded into the same numbers, however it was saved."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from fusekit.checkpoint.load import load
from tests.support.checkpoint_room import CODE, here, net, refused, same

__all__ = ["here", "net"]  # fixtures: pytest finds them by name in this module

WRAPS: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "net": lambda state: {"net": state},
    "params_ema": lambda state: {"params_ema": state},
    "nested": lambda state: {"state_dict": {"model": state}},
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "_orig_mod.": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "lightning": lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}, "epoch": 1},
    "two prefixes": lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
    "no counters": lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
    "counters of float": lambda state: {k: v.float() if "num_batches" in k else v for k, v in state.items()},
    "float64": lambda state: {key: value.double() for key, value in state.items()},
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_state_dicts_load_however_they_are_wrapped(here: Path, net: nn.Module, wrap: Any, legacy: bool) -> None:
    torch.save(wrap(net.state_dict()), "weights.pt", _use_new_zipfile_serialization=not legacy)
    assert same(load("nets_for_loading:Net", weights="weights.pt"), net)
    assert same(load("weights.pt", factory="nets_for_loading:make_net"), net)


def test_the_prefix_may_also_be_the_models(here: Path, net: nn.Module) -> None:
    torch.save(net.state_dict(), "weights.pt")
    assert same(load("nets_for_loading:Wrapped", weights="weights.pt"), net)


def test_safetensors_load(here: Path, net: nn.Module) -> None:
    safetensors.torch.save_file(net.state_dict(), "weights.safetensors")
    (here / "weights.safetensors").rename("weights.bin")  # told by content, not by name
    assert same(load("nets_for_loading:Net", weights="weights.bin"), net)


def test_factories_of_every_spelling(here: Path, net: nn.Module) -> None:
    torch.save(net.state_dict(), "weights.pt")
    maker = type(net)
    for source in ("nets_for_loading:Net", "nets_for_loading.py:Net", str(here / "nets_for_loading.py") + ":make_net"):
        assert same(load(source, weights="weights.pt"), net)
    assert same(load(maker, weights="weights.pt"), net)
    assert same(load("weights.pt", factory=maker), net)
    assert type(load("nets_for_loading:ready")).__name__ == "Net"
    assert type(load("nets_for_loading:parallel")).__name__ == "Net"
    assert load("nets_for_loading:Net", arguments={"width": 7}).conv.out_channels == 7  # type: ignore[union-attr]


def test_a_file_may_have_the_name_of_another_module(here: Path) -> None:
    (here / "json.py").write_text(CODE)
    assert type(load("json.py:Net")).__name__ == "Net"
    import json  # the name still means the library

    assert json.loads("1") == 1


def test_the_result_is_in_evaluation_mode_and_the_path_as_before(here: Path) -> None:
    before = list(sys.path)
    assert not any(module.training for module in load("nets_for_loading:Net").modules())
    assert sys.path == before


def test_one_of_several_entries_can_be_named(here: Path, net: nn.Module) -> None:
    other = {key: torch.zeros_like(value) for key, value in net.state_dict().items()}
    torch.save({"params": other, "params_ema": net.state_dict(), "discriminator": other}, "two.pth")
    with pytest.warns(UserWarning, match="took 'params'"):
        assert not same(load("nets_for_loading:Net", weights="two.pth"), net)
    assert same(load("nets_for_loading:Net", weights="two.pth#params_ema"), net)
    assert same(load("two.pth#params_ema", factory="nets_for_loading:Net"), net)
    refused("no entry 'generator'", "params", source="nets_for_loading:Net", weights="two.pth#generator")


def test_programs_load_and_can_be_set_to_evaluation(here: Path, net: nn.Module) -> None:
    sizes = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(net, (torch.randn(2, 3, 8, 8),), dynamic_shapes=(sizes,))
    torch.export.save(program, "net.pt2")
    (here / "net.pt2").rename("net.pt")
    model = load("net.pt")
    assert same(model.eval(), net)
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    with pytest.raises(AssertionError, match="Guard"):
        model(torch.randn(2, 3, 9, 9))  # the size that was fixed is still checked


def test_whole_models_load_on_demand(here: Path, net: nn.Module) -> None:
    for legacy in (False, True):
        torch.save(net, "whole.pt", _use_new_zipfile_serialization=not legacy)
        text = refused("pickle" if legacy else "pickled model", "any code", "state_dict", "unsafe", source="whole.pt")
        assert "nets_for_loading.Net" in text or "torch.nn" in text
        assert same(load("whole.pt", unsafe=True), net)
    torch.save({"model": net, "args": argparse.Namespace(lr=1)}, "yolo.pt")
    refused("any code", source="yolo.pt")
    assert same(load("yolo.pt", unsafe=True), net)


def test_a_state_dict_beside_objects_loads_on_demand(here: Path, net: nn.Module) -> None:
    torch.save({"state_dict": net.state_dict(), "args": argparse.Namespace(lr=1)}, "training.pt")
    refused("argparse.Namespace", "any code", source="nets_for_loading:Net", weights="training.pt")
    assert same(load("nets_for_loading:Net", weights="training.pt", unsafe=True), net)
