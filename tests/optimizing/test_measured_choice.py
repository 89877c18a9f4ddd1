"""The measured choice: the clock decides between realizations; without a clock, prices do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fusekit
from fusekit.algebra import Conv, Relaid
from fusekit.algebra.layout import channels_last
from fusekit.errors import FusekitError, Inapplicable
from fusekit.nn import QuaternionConv2d
from fusekit.optimizing.channels_last import NAME as CHANNELS_LAST
from fusekit.optimizing.channels_last import planes
from fusekit.optimizing.race import Clock
from fusekit.testing.strategies import convs, inputs_of, relative_error
from tests.support.architectures import randomize
from tests.support.compare import assert_same, call, error_of, report_of
from tests.support.graphs import Calls, captured
from tests.support.measured_room import X, decisions, known, measuring, one_axis

__all__ = ["known", "measuring"]
IMAGE = torch.randn(2, 3, 12, 12)


def plane() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
            self.left, self.right = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
            self.pool, self.head = nn.MaxPool2d(2), nn.Linear(8 * 6 * 6, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = torch.relu(self.norm(self.stem(x)))
            z = torch.relu(torch.cat([self.left(y), y * 2], 1)[:, :8] + self.right(y))
            z = self.pool(z)
            return self.head(z.view(z.shape[0], -1)), z

    return randomize(Net()).eval()


# --- the law -----------------------------------------------------------------------------------------------------


@given(st.data(), st.booleans())
def test_a_plane_one_row_high(data: st.DataObject, last: bool) -> None:
    conv = data.draw(convs(n=1, transposed=None))
    x = data.draw(inputs_of(conv))
    relaid = Relaid(conv, planar=True, channels_last=last)
    assert relative_error(relaid(x), conv(x)) <= 1e-13
    assert relaid.output_shape(tuple(x.shape)) == tuple(conv(x).shape)
    assert relaid.macs(tuple(x.shape)) == conv.macs(tuple(x.shape))


def test_only_one_axis_becomes_a_plane() -> None:
    conv = Conv.from_torch(torch.randn(3, 2, 5, 5), None)
    with pytest.raises(Inapplicable, match="one axis"):
        Relaid(conv, planar=True)


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_channels_last_keeps_the_numbers(rank: int) -> None:
    x = torch.randn(2, 3, 4, 5, 6)[(0,) * (5 - rank)]
    assert torch.equal(channels_last(x), x)


# --- the clock decides -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["planar conv", "planar channels last conv"])
def test_the_fastest_wins(known: dict[str, float], word: str) -> None:
    known[word] = 0.5
    model = one_axis()
    result = fusekit.optimize(model, X, strict=True)
    name = {"planar conv": "use-planar-conv", "planar channels last conv": "use-planar-channels-last"}[word]
    (event,) = [event for event in report_of(result).applied if event.rewrite == name]
    assert event.times == (1.0, 0.5) and "1 -> 0.5 ms" in str(report_of(result))
    assert_same(result, model, X)
    assert_same(result, model, torch.randn(1, 2, 77))


def test_what_is_not_clearly_faster_stays_out(known: dict[str, float]) -> None:
    known["planar"] = 0.95
    assert "applied" not in decisions(report_of(fusekit.optimize(one_axis(), X))).values()


def test_the_clock_overrules_the_price(known: dict[str, float]) -> None:
    """By price alone a long depthwise kernel is computed by FFT."""
    model = nn.Sequential(nn.Conv1d(4, 4, 1025, padding=512, groups=4)).eval()
    x = torch.randn(1, 4, 6000)
    assert decisions(report_of(fusekit.optimize(model, x, measure=False)))["use-spectral-conv"] == "applied"
    known["spectral"], known["planar"] = 2.0, 2.0
    refused = report_of(fusekit.optimize(model, x))
    assert decisions(refused)["use-spectral-conv"] == "refused"
    assert [e.times for e in refused.events if e.rewrite == "use-spectral-conv"] == [(1.0, 2.0)]


@pytest.mark.parametrize("faster", [True, False])
def test_regions_with_channels_last(known: dict[str, float], faster: bool) -> None:
    known["channels last"] = 0.5 if faster else 1.5
    model = plane()
    result: Any = fusekit.optimize(model, IMAGE, strict=True)
    assert decisions(report_of(result))[CHANNELS_LAST] == ("applied" if faster else "refused")
    for x in (IMAGE, torch.randn(1, 3, 12, 12)):
        with torch.no_grad():
            for ours, theirs in zip(result(x), model(x), strict=True):
                assert relative_error(ours.double(), theirs.double()) < 1e-6
                assert ours.stride() == theirs.stride(), "seen from outside nothing has changed"
    kernel = result.left.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last) is faster
    assert result.left.weight.requires_grad and kernel.is_leaf


def test_regions_stop_at_what_needs_the_layout() -> None:
    graph = captured(plane(), IMAGE)
    found = planes(graph)
    names = {str(node.target) for plane in found for node in plane.nodes}
    assert {"aten.conv2d.default", "aten.cat.default", "aten.add.Tensor"} <= names
    assert not {"aten.view.default", "aten.linear.default", "aten.slice.Tensor"} & names


def test_who_asks_for_sizes_gets_no_copy(known: dict[str, float]) -> None:
    known["channels last"] = 0.5

    def forward(m: Any, x: Tensor) -> Tensor:
        y = torch.relu(m.a(x))
        torch._assert(y.shape[1] == 4, "four channels")
        return m.b(y) * y.size(1) + y.ndim  # type: ignore[no-any-return]

    model = Calls(forward, a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(4, 4, 1)).eval()
    result: Any = fusekit.optimize(model, IMAGE, strict=True)
    assert decisions(report_of(result))[CHANNELS_LAST] == "applied"
    assert sum("channels_" in str(node.target) for node in result.graph.nodes) == 2
    with torch.no_grad():
        assert relative_error(result(IMAGE), model(IMAGE)) < 1e-6


def test_single_convolutions_inside_a_region_are_not_converted_twice(known: dict[str, float]) -> None:
    known["channels last"] = 0.5
    layers = (nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 11, padding=5, groups=8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    model = nn.Sequential(*layers).eval()
    result: Any = fusekit.optimize(model, IMAGE, strict=True)
    conversions = [node for node in result.graph.nodes if "channels_" in str(node.target)]
    assert decisions(report_of(result))["use-channels-last"] == "applied" and len(conversions) == 2
    with torch.no_grad():
        assert relative_error(result(IMAGE), model(IMAGE)) < 1e-6


def test_the_same_random_numbers_afterwards() -> None:
    model = one_axis()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fusekit.optimize(model, X)
    assert torch.equal(torch.rand(2), expected) and torch.get_num_threads() >= 1


# --- without a clock, without time, without sizes ----------------------------------------------------------------


def test_nothing_is_measured_where_nothing_may_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def race(*_: Any) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(Clock, "race", race)
    monkeypatch.setattr(Clock, "compare", race)
    for result in (fusekit.optimize(one_axis()), fusekit.optimize(one_axis(), X, measure=False)):
        assert report_of(result).times is None and "applied" not in decisions(report_of(result)).values()
    monkeypatch.setenv("FUSEKIT_MEASURE", "0")
    assert report_of(fusekit.optimize(one_axis(), X)).times is None
    verdict = fusekit.export(one_axis(), tmp_path / "m.onnx", X)
    assert verdict.ok and verdict.report is not None
    assert decisions(verdict.report)["use-planar-conv"] == "applied", "by price, in ONNX Runtime"


def test_no_budget() -> None:
    """What cannot be measured any more is judged by price, and said so; the whole is raced all the same."""
    report = report_of(fusekit.optimize(one_axis(), X, budget=0))
    assert "applied" not in decisions(report).values() and report.times is not None
    assert any("could not be measured" in event.reason for event in report.refused)


@pytest.mark.parametrize("budget", [-1, float("nan")])
def test_a_budget_is_a_time(budget: float) -> None:
    with pytest.raises(FusekitError, match="budget must be a number of seconds"):
        fusekit.optimize(one_axis(), X, budget=budget)


@pytest.mark.parametrize("label", ["mixing 4x8 after conv 8x8x8x3x3", "conv 1x32x32x3x3"])
def test_products_compete(known: dict[str, float], label: str) -> None:
    """Whatever their price says of so narrow a layer."""
    known[label] = 0.5
    model, x = randomize(QuaternionConv2d(32, 32, 3)).eval(), torch.randn(1, 32, 28, 28)
    result = fusekit.optimize(model, x, strict=True)
    fast = label.startswith("mixing")
    events = {event.rewrite: event for event in report_of(result).events}
    assert str(events["use-product"].outcome) == ("applied" if fast else "refused")
    assert events["use-product"].times == ((1.0, 0.5) if fast else (0.5, 1.0))
    assert error_of(call(result, x), call(model, x)) <= 1e-6
