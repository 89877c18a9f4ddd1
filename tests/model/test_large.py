"""Copies of large models that only cycles hold are freed at once."""

import gc
import weakref

import pytest
import torch
from torch import nn

from fusekit.model import large


class Cycle:
    def __init__(self, weight: torch.Tensor) -> None:
        self.weight, self.own = weight, self


@pytest.mark.parametrize(("bytes_above", "freed"), [(0, True), (1 << 20, False)])
def test_only_large_ones_are_freed(bytes_above: int, freed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "_LARGE", bytes_above)
    gc.disable()
    try:
        cycle = weakref.ref(Cycle(torch.zeros(3)))
        large.free_copies(large.bytes_of(nn.Linear(2, 2)))
        assert (cycle() is None) == freed
    finally:
        gc.enable()
