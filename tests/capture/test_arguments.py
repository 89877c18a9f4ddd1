"""Arguments that a forward iterates over, and state that it computes once: followed, callers held to the example's."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fusekit
from tests.support.capture_room import Pair, folds, prepared
from tests.support.compare import assert_same, normal, report_of

X, Y = normal(2, 3, 6, 6), normal(1, 3, 5, 7)


class Several(Pair):
    def forward(self, *xs: Tensor) -> Any:
        return [super(Several, self).forward(x) for x in xs]


class Named(Pair):
    def forward(self, x: Tensor, *xs: Tensor, **named: Tensor) -> Any:
        parts = {name: super(Named, self).forward(y) for name, y in named.items()}
        return sum((super(Named, self).forward(y).sum() for y in xs), super().forward(x)), parts


class Scaled(Pair):
    def forward(self, x: Tensor, *xs: Tensor, scale: float = 1.5) -> Any:
        return [super(Scaled, self).forward(y) * scale for y in (x, *xs)]


class Listed(Pair):
    def forward(self, xs: Any) -> Any:
        return [super(Listed, self).forward(x) * len(xs) for x in xs]


class Keyed(Pair):
    def forward(self, xs: Any) -> Any:
        return {name: super(Keyed, self).forward(x) for name, x in xs.items()} | {"keys": sum(len(k) for k in xs)}


class Nested(Pair):
    def forward(self, xs: Any) -> Any:
        return sum(super(Nested, self).forward(x) + y for x, y in xs)


CALLS: list[tuple[type[Pair], Any]] = [
    (Several, (X, Y, X)),
    (Named, (X, Y, Y)),
    (Scaled, (X, Y)),
    (Named, {"x": X, "other": Y, "third": X}),
    (Listed, ([X, Y],)),
    (Listed, ((X, Y, X),)),
    (Keyed, ({"one": X, "two": Y},)),
    (Nested, ([(X, X), (X, 2 * X)],)),
]


@pytest.mark.parametrize(("kind", "given"), CALLS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_passed_in_is_iterated_over(kind: type[Pair], given: Any) -> None:
    model = prepared(kind())
    result = fusekit.optimize(model, given, measure=False)
    assert report_of(result).capture == "symbolic trace" and folds(result) >= 1
    args, kwargs = ((), given) if isinstance(given, dict) else (given, {})
    expected, got = model(*args, **kwargs), result(*args, **kwargs)
    assert pytree.tree_structure(expected) == pytree.tree_structure(got)
    for one, other in zip(pytree.tree_leaves(expected), pytree.tree_leaves(got), strict=True):
        assert torch.allclose(torch.as_tensor(one), torch.as_tensor(other), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "given", "other"), [(Listed, [X, Y], [X]), (Keyed, {"a": X}, {"b": X}), (Nested, [(X, X)], [])]
)
def test_callers_are_held_to_the_example(kind: type[Pair], given: Any, other: Any) -> None:
    result = fusekit.optimize(prepared(kind()), (given,), measure=False)
    with pytest.raises(ValueError, match=r"captured for inputs with (len|list)\(xs\) == "):
        result(other)


class Merging(nn.Module):
    """Weights merged of others and stored, at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.three, self.merged = (
            nn.Conv2d(3, 3, 1),
            nn.Conv2d(3, 3, 3, padding=1),
            nn.Conv2d(3, 3, 3, padding=1),
        )
        self.weight: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.weight = self.three.weight.data + F.pad(self.one.weight.data, (1, 1, 1, 1))
        self.merged.weight.data, self.merged.bias.data = self.weight, self.three.bias.data + self.one.bias.data  # type: ignore
        return self.merged(x)  # type: ignore[no-any-return]


class Keeping(nn.Module):
    """A table that is made at the first call and kept for each device."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.table, self.kept = Pair(), nn.Parameter(normal(3, 1, 1)), {}  # type: ignore[var-annotated]

    def forward(self, x: Tensor) -> Tensor:
        key = str(x.device)
        if key not in self.kept:
            self.kept[key] = self.table[[2, 0, 1]]
        return self.pair(x) + self.kept[key]  # type: ignore[no-any-return]


class Counting(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * self.calls


def test_weights_that_forward_stores_are_computed_once() -> None:
    model = prepared(nn.Sequential(Merging(), nn.BatchNorm2d(3), nn.ReLU(), Merging()))
    for given in ((), (X,)):
        result = fusekit.optimize(model, *given, measure=False)
        assert report_of(result).capture == "symbolic trace" and folds(result) == 1
        assert_same(result, model, Y)


def test_a_table_that_is_kept_is_computed_once() -> None:
    model = prepared(Keeping())
    result = fusekit.optimize(model, X, measure=False)
    assert report_of(result).capture == "symbolic trace" and folds(result) >= 1 and not model.kept
    assert_same(result, model, Y)


def test_state_that_never_settles_is_left() -> None:
    """What is another at each call is no state to be computed once and for all."""
    model = prepared(Counting())
    result: Any = fusekit.optimize(model, X, measure=False)
    assert model.calls == 0 and not hasattr(result, "graph")
