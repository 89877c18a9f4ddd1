"""A convolution before a flattened linear layer, and convolutions of a concatenation: whole models."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.algebra import Combination, Composition, Conv
from fusekit.algebra.combination import Term
from fusekit.report import Outcome
from fusekit.testing.strategies import relative_error
from tests.support.architectures import randomize
from tests.support.compare import assert_same, call, normal, report_of


def head(stride: int, padding: int) -> nn.Module:
    conv = nn.Conv2d(8, 32, 3, padding=padding, stride=stride)
    size = conv(torch.zeros(1, 8, 7, 7)).shape[-1]
    layers = (nn.AdaptiveAvgPool2d(7), conv, nn.BatchNorm2d(32), nn.Flatten(), nn.Linear(32 * size**2, 5))
    return randomize(nn.Sequential(*layers)).double()


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (3, 0), (2, 0)])
def test_a_window_as_large_as_the_map(stride: int, padding: int, tmp_path: Any) -> None:
    model = head(stride, padding)
    fast = fusekit.optimize(model, normal(2, 8, 20, 17))
    assert [event.rewrite for event in report_of(fast).applied] == ["fold-affine", "fold-flattened"]
    for shape in ((2, 8, 20, 17), (1, 8, 7, 7), (0, 8, 9, 9)):
        assert_same(fast, model, normal(*shape))
    assert fusekit.export(model.float(), tmp_path / "m.onnx", (torch.randn(1, 8, 20, 17),)).ok


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_pointwise_convolution_before_prime_many_positions(n: int) -> None:
    """On one axis there is one way to lay them out, and the check must not try another."""
    pool = (nn.AdaptiveAvgPool1d(3), nn.AdaptiveAvgPool2d((3, 1)), nn.AdaptiveAvgPool3d((1, 3, 1)))[n - 1]
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1](4, 64, 1)
    model = randomize(nn.Sequential(pool, conv, nn.Flatten(), nn.Linear(192, 3))).double()
    fast = fusekit.optimize(model, strict=True)
    assert [event.rewrite for event in report_of(fast).applied] == ["fold-flattened"]
    assert_same(fast, model, normal(2, 4, *(9, 5, 4)[:n]))


def test_where_the_size_is_not_fixed_it_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(8, 32, 3), nn.Flatten(), nn.Linear(32 * 9, 5)).double().eval()
    (event,) = report_of(fusekit.optimize(model)).events
    assert event.outcome is Outcome.REFUSED and "whose size is not fixed" in event.reason


def test_another_layout_of_as_many_positions_does_not_run() -> None:
    """4 x 4 positions are not 2 x 8: an error, never another answer."""
    model = nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.Flatten(), nn.Linear(32 * 16, 5)).double().eval()
    fast = fusekit.optimize(model, normal(2, 8, 4, 4))
    assert report_of(fast).applied
    assert_same(fast, model, normal(3, 8, 4, 4))
    with pytest.raises(RuntimeError):
        call(fast, normal(1, 8, 2, 8))


class Inception(nn.Module):
    """Branches of one input, concatenated for a convolution; perhaps the input too, perhaps a function on one."""

    def __init__(self, kind: str, window: Any = 3) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b = nn.Conv2d(8, 64, 1), nn.Conv2d(8, 64, 3, padding=1)
        self.c = nn.Conv2d(128 + 8 * (kind == "input"), 8, window)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.a(x), self.b(x)]
        if self.kind == "input":
            parts.insert(1, x)
        if self.kind == "function":
            parts[0] = parts[0].relu()
        result: Tensor = self.c(torch.cat(parts, 1))
        return result


@pytest.mark.parametrize(("kind", "left"), [("plain", 1), ("input", 1), ("function", 3)])
def test_a_convolution_of_a_concatenation(kind: str, left: int) -> None:
    model = randomize(Inception(kind)).double()
    x = normal(2, 8, 20, 19)
    fast = fusekit.optimize(model, x)
    assert [event.rewrite for event in report_of(fast).applied] == ["fold-concat"]
    assert sum(isinstance(module, nn.Conv2d) for module in fast.modules()) == left
    assert_same(fast, model, x)
    assert_same(fast, model, normal(1, 8, 5, 4))


@pytest.mark.parametrize("windows", [(1, 9), (9, 1), (7, 7)])
def test_a_window_behind_the_concatenation_is_larger_than_any_in_it(windows: tuple[int, int]) -> None:
    """The check needs sizes at which the outer convolution is defined too."""
    model = randomize(Inception("function", windows)).double()
    fast = fusekit.optimize(model, strict=True)
    assert [event.rewrite for event in report_of(fast).applied] == ["fold-concat"]
    assert_same(fast, model, normal(2, 8, 11, 9))


@pytest.mark.parametrize("widths", [(64, 24), (8, 64), (64, 64)])
@pytest.mark.parametrize("given", [False, True])
def test_a_part_that_no_map_describes_has_the_channels_that_are_left(widths: tuple[int, int], given: bool) -> None:
    """Behind a function, wider or narrower than its neighbour."""

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (
                nn.Conv2d(8, widths[0], 1),
                nn.Conv2d(8, widths[1], 3),
                nn.Conv2d(sum(widths), 4, 1),
            )

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.c(torch.cat([self.a(x).relu()[..., 1:-1, 1:-1], self.b(x)], 1))
            return result

    model = randomize(Parts()).double()
    x = normal(2, 8, 20, 19)
    fast = fusekit.optimize(model, x if given else None, strict=True)
    assert "fold-concat" in [event.rewrite for event in report_of(fast).applied] or widths[1] < 64
    assert_same(fast, model, x)


class TwoInputs(nn.Module):
    """Parts of one tensor beside parts of another of other sizes, concatenated; perhaps for a convolution."""

    def __init__(self, stride: int, *, outer: bool) -> None:
        super().__init__()
        self.a, self.d = nn.Conv2d(4, 64, 3, stride=stride, padding=1), nn.Conv2d(4, 6, 3, stride=stride, padding=1)
        self.b, self.c = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(4, 64, 3, padding=1)
        self.outer = nn.Conv2d(140, 4, 2) if outer else nn.Identity()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        result: Tensor = self.outer(torch.cat([self.d(x), self.b(y), self.c(y), self.a(x)], 1))
        return result


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_parts_of_two_inputs(stride: int, outer: bool) -> None:
    """Only neighbours of one input are stacked; the sizes of the two inputs need not be equal."""
    model = randomize(TwoInputs(stride, outer=outer)).double()
    fast = fusekit.optimize(model, strict=True)
    assert ("fold-concat" if outer else "merge-concat") in [event.rewrite for event in report_of(fast).applied]
    for size in (5, 6, 9):
        small = (size - 1) // stride + 1
        assert_same(fast, model, normal(2, 4, size, size + stride), normal(2, 4, small, small + 1))


def test_neighbours_of_two_sources_are_not_stacked() -> None:
    """The law itself, whatever pattern finds the terms."""
    convs = [Conv.from_torch(normal(k, 2, 3, seed=k), None) for k in (1, 2, 3)]
    whole = Combination(tuple(Term(s, Composition((c,))) for s, c in zip((0, 1, 1), convs, strict=True)), -2)
    sources = normal(2, 2, 7), normal(2, 2, 7, seed=1)
    merged = whole.merged_concat()
    assert [term.source for term in merged.terms] == [0, 1]
    assert relative_error(merged(*sources), whole(*sources)) < 1e-14


def test_a_sum_with_a_factor() -> None:
    """alpha is no plain sum: nothing wrong is even tried."""

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.ops.aten.add.Tensor(self.a(x), self.b(x), alpha=2)  # type: ignore[no-any-return]

    model = randomize(Weighted()).double()
    fast = fusekit.optimize(model, strict=True)
    assert_same(fast, model, normal(2, 8, 9, 9))


@pytest.mark.parametrize("size", [6, 8])
def test_a_norm_behind_a_concatenation_of_rows_is_not_split(size: int) -> None:
    """As many rows as there are channels, and they are no channels."""

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.norm = nn.Conv2d(3, 16, 1), nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.norm(torch.cat([self.a(x), self.b(x)], 2))
            return result

    model = randomize(Rows()).double()
    x = normal(2, 3, size, 5)
    fast = fusekit.optimize(model, x)
    assert not [event for event in report_of(fast).events if event.rewrite == "split-affine"]
    assert_same(fast, model, x)


def test_wide_branches_of_different_inputs_stay_concatenated() -> None:
    """Nothing would become smaller: an upsampled map beside a skipped one, as in a U-Net."""

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.skip, self.c = nn.Conv2d(64, 32, 1), nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(64, 32, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            result: Tensor = self.c(torch.cat([self.up(x), self.skip(y).relu()], 1))
            return result

    model = randomize(Skip())
    fast = fusekit.optimize(model, (torch.randn(1, 64, 28, 28), torch.randn(1, 32, 28, 28)))
    assert not report_of(fast).applied


class _Times(nn.Module):
    """All of it by one number, and one added."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2.0 + 1.0


class _Along(nn.Module):
    """Two convolutions of one tensor, put together along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.first, self.second, self.axis = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), axis

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x), self.second(x)], self.axis)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Linear(4, 16), nn.Flatten(), nn.Linear(48, 2)), (2, 3, 4)),  # channels last, then flattened
        (nn.Sequential(nn.Linear(7, 2), nn.Conv1d(3, 4, 1), nn.Conv1d(4, 3, 1)), (2, 3, 7)),  # of two kinds of channels
        (nn.Sequential(nn.Conv1d(3, 4, 1), nn.Conv1d(4, 3, 1), nn.Linear(7, 2)), (2, 3, 7)),
        (nn.Sequential(_Times(), nn.ReplicationPad1d(1), nn.Linear(6, 3)), (2, 3, 4)),  # a pad of features
        (_Along(0), (2, 4, 5, 5)),  # a batch of both
        (_Along(3), (2, 4, 5, 5)),
    ],
)
def test_what_looks_like_a_row_and_is_none(model: nn.Module, shape: tuple[int, ...]) -> None:
    model = randomize(model).double()
    fast = fusekit.optimize(model, normal(*shape))
    assert not report_of(fast).rejected
    assert_same(fast, model, normal(*shape))
