"""Random numbers that are drawn while fusekit works: set back, and no one else draws them twice."""

import random

import numpy as np
import pytest
import torch

from fusekit.model.random_numbers import draws_undone, watched
from tests.support.threads import elsewhere


def test_others_do_not_draw_the_same_numbers_twice() -> None:
    torch.manual_seed(5)
    expected = torch.rand(6)
    torch.manual_seed(5)
    found = []
    with draws_undone() as draws:
        for _ in range(3):
            torch.rand(7), torch.empty(3).normal_()
            found += elsewhere(lambda: torch.rand(2).tolist())
    assert draws.found and torch.equal(torch.tensor(found), expected)


def test_a_draw_of_another_thread_is_no_draw_of_the_attempt() -> None:
    tries: list[int] = []

    def attempt() -> int:
        if not tries:
            elsewhere(random.random)
        tries.append(0)
        return 7

    before = random.getstate()
    assert watched(attempt) == (7, False) and len(tries) == 2
    assert random.getstate() != before


def test_draws_of_an_attempt_are_set_back() -> None:
    before = random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    assert watched(lambda: (random.gauss(0, 1), np.random.randn()))[1]
    with pytest.raises(ZeroDivisionError):
        watched(lambda: random.randrange(9) // 0)
    assert random.getstate() == before[0] and (np.random.get_state()[1] == before[1]).all()  # type: ignore[index]
