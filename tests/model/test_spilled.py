"""Weights on disk instead of in memory are the same weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from fusekit.model import large, spilled


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "_LARGE", 0)
    monkeypatch.setattr(spilled, "LARGE", 1)


def test_they_compute_the_same_and_can_be_written_to(tmp_path: Path) -> None:
    conv = nn.Conv2d(2, 3, 3)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    model = nn.Sequential(conv, nn.BatchNorm2d(3), nn.Linear(4, 5)).eval()
    before = {name: (tensor.clone(), tensor.stride()) for name, tensor in model.state_dict().items()}
    places = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    spilled.spill([*model.parameters(), *model.buffers()], tmp_path)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name][0], rtol=0, atol=0)
        assert tensor.stride() == before[name][1]
        assert tensor.data_ptr() != places[name]
    with torch.no_grad():
        conv.weight += 1
    torch.testing.assert_close(conv.weight.data, before["0.weight"][0] + 1)
    assert not list(tmp_path.iterdir()), "a mapped file needs no name"


def test_tensors_over_the_same_memory_stay_so(tmp_path: Path) -> None:
    whole = torch.arange(12.0)
    part = whole[2:8].view(2, 3)
    spilled.spill([whole, part], tmp_path)
    part += 100
    assert whole.tolist() == [0, 1, *range(102, 108), *range(8, 12)]


def test_without_room_on_the_disk_they_stay(tmp_path: Path) -> None:
    weight = torch.ones(3)
    place = weight.data_ptr()
    spilled.spill([weight], tmp_path / "no folder")
    assert weight.data_ptr() == place
