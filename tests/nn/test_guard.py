"""A guard refuses an input in words of its own, whatever its conditions do."""

import pickle

import pytest
import torch

from fusekit.nn.guard import ShapeGuard


@pytest.mark.parametrize("loaded", [False, True])
def test_a_condition_that_divides_by_a_size(loaded: bool) -> None:
    """torch.export states some conditions as remainders. A size of 0 is refused, it is no division by zero."""
    guard = ShapeGuard(["x"], ["8 % x.size()[0] == 0"])
    if loaded:
        guard = pickle.loads(pickle.dumps(guard))
    guard(torch.zeros(4, 3))
    for size in (3, 0):
        with pytest.raises(ValueError, match=r"captured for inputs with 8 % x.size\(\)\[0\] == 0"):
            guard(torch.zeros(size, 3))
