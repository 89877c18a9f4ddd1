"""Optional arguments, several inputs, and inputs by keyword: free where they decide nothing, else the example's."""

from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
from tests.support.capture_room import OTHER, Pair, X, folds, prepared, same_or_refused
from tests.support.compare import assert_same, normal


class Masked(nn.Module):
    """An optional mask, and one more output if it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.a = Pair()

    def forward(self, x: Tensor, mask: Tensor | None = None, twice: bool = False) -> Any:
        y = self.a(x)
        y = y * 2 if twice else y
        return y if mask is None else (y * mask, mask)


CALLS: list[tuple[Any, ...]] = [(X,), (X, X), (X, None, True), (X, X, True), (OTHER[0], OTHER[0])]


def test_optional_arguments_without_inputs() -> None:
    """The forward itself decides, at every call."""
    model = prepared(Masked())
    result = fusekit.optimize(model)
    assert all(same_or_refused(result, model, *arguments) for arguments in CALLS) and folds(result)


@pytest.mark.parametrize("example", CALLS[:4], ids=["alone", "mask", "flag", "both"])
def test_optional_arguments_with_inputs(example: tuple[Any, ...]) -> None:
    """The example decides, and calls of another kind are refused, not answered wrongly."""
    model = prepared(Masked())
    result = fusekit.optimize(model, example)
    accepted = [same_or_refused(result, model, *arguments) for arguments in CALLS]
    assert accepted[CALLS.index(example)] and not all(accepted) and folds(result)


def test_optional_arguments_that_change_nothing_stay_free() -> None:
    class Resized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = Pair()

        def forward(self, x: Tensor, size: Any = None, factor: Any = 2.0) -> Tensor:
            return F.interpolate(self.a(x), size=size) if factor is None else self.a(x) * factor

    model = prepared(Resized())
    for example in (None, (X,)):
        assert_same(fusekit.optimize(model, example), model, X, factor=3.0)


class Many(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = Pair(), Pair()

    def forward(self, input: Tensor, other: Tensor, scale: float = 2.0, *, shift: Tensor) -> dict[str, Any]:
        return {"sum": self.a(input) + self.b(other) * scale + shift, "other": other}


def test_several_inputs_by_position_and_keyword() -> None:
    model, shift = prepared(Many()), normal(3, 1, 1, seed=1)
    example = {"input": X, "other": X, "shift": shift}
    for result in (fusekit.optimize(model), fusekit.optimize(model, example)):
        assert_same(result, model, X, X, shift=shift)
        assert_same(result, model, other=OTHER[1], input=OTHER[1], shift=shift)
        assert folds(result) >= 2
    assert_same(fusekit.optimize(model), model, X, OTHER[0], 3.0, shift=shift)
