"""Padding that repeats what is there: exact at every size that the original takes, refused where it would not be."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.algebra import EdgePad
from fusekit.report import Outcome
from tests.support.architectures import randomize
from tests.support.compare import assert_same, normal, report_of


def circular(inputs: int, outputs: int, window: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, window, padding=window // 2, padding_mode="circular", **options)


def test_stages_continue_the_period() -> None:
    """Exhaustively on small sizes: each stage takes at most one period of what was there first."""
    for size in range(1, 5):
        x = torch.arange(float(size)).reshape(1, 1, size)
        for a, b, c, d in itertools.product(range(size + 1), repeat=4):
            expected = x[..., torch.arange(-a - c, size + b + d) % size]
            assert torch.equal(EdgePad("circular", (((a, b),), ((c, d),)))(x), expected)
    with pytest.raises((RuntimeError, IndexError)):
        EdgePad("circular", (((1, 1),), ((3, 0),)))(torch.zeros(1, 1, 2))


def sizes() -> list[Tensor]:
    return [normal(2, 3, h, w) for h, w in ((12, 9), (3, 3), (1, 1), (2, 5), (1, 4))]


def test_a_circular_row_folds_at_every_size() -> None:
    """Down to one by one, where a pad by the sum would be refused."""
    model = nn.Sequential(circular(3, 64), circular(64, 64), nn.BatchNorm2d(64), circular(64, 3))
    randomize(model).double()
    fast = fusekit.optimize(model, sizes()[0])
    assert sum(isinstance(module, nn.Conv2d) for module in fast.modules()) == 1
    assert [event.rewrite for event in report_of(fast).applied].count("fold-circular") == 2
    for x in sizes():
        assert_same(fast, model, x)


@pytest.mark.parametrize(
    "inner",
    [
        circular(3, 64, stride=2),
        circular(3, 64, 4),
        nn.Conv2d(3, 64, 3, padding=1),
        nn.Conv2d(3, 64, 3, padding=1, padding_mode="reflect"),
    ],
    ids=["stride", "another size", "zeros", "reflect"],
)
def test_no_circle(inner: nn.Module) -> None:
    model = randomize(nn.Sequential(inner, circular(64, 3))).double()
    fast = fusekit.optimize(model, sizes()[0], passes=["fold-circular", "fold-conv-edge"], strict=True)
    assert not report_of(fast).applied
    assert_same(fast, model, sizes()[0])


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
def test_what_acts_on_each_entry_passes_through(mode: Any) -> None:
    """A batch norm with its shift, and a pointwise convolution with its bias."""
    outer = nn.Conv2d(32, 4, 3, padding=1, padding_mode=mode)
    model = randomize(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 32, 1), nn.BatchNorm2d(32), outer)).double()
    fast = fusekit.optimize(model, sizes()[0])
    assert {event.rewrite for event in report_of(fast).applied} >= {"fold-conv-edge"}
    assert len(list(fast.children())) == 1
    for x in sizes()[:2]:
        assert_same(fast, model, x)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_a_window_before_reflected_rows_is_refused_with_the_reason(mode: Any) -> None:
    outer = nn.Conv2d(64, 3, 3, padding=1, padding_mode=mode)
    model = randomize(nn.Sequential(nn.Conv2d(3, 64, 3), outer)).double()
    report = report_of(fusekit.optimize(model, sizes()[0]))
    (event,) = (event for event in report.events if event.outcome is Outcome.REFUSED)
    assert event.rewrite == "fold-conv-edge" and event.reason == (
        f"{mode} padding repeats the inner convolution's output, not its input"
    )


def test_a_circular_row_in_onnx(tmp_path: Any) -> None:
    model = randomize(nn.Sequential(circular(3, 32), circular(32, 3)))
    verdict = fusekit.export(model, tmp_path / "circular.onnx", (torch.randn(1, 3, 10, 9),))
    assert verdict.ok and "dynamic axes: input[0, 2, 3]" in str(verdict)
