"""The measured choice: the clock decides, the cache remembers and cannot harm, the whole model is never slower."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fusekit
from fusekit.algebra import Conv, Map, Relaid, SpectralConv
from fusekit.algebra.layout import channels_last
from fusekit.errors import FusekitError, Inapplicable
from fusekit.nn import QuaternionConv2d
from fusekit.optimizing import promise_file, promise_module
from fusekit.optimizing.channels_last import NAME as CHANNELS_LAST
from fusekit.optimizing.channels_last import planes
from fusekit.optimizing.promise import judged as plainly_judged
from fusekit.optimizing.race import Clock
from fusekit.optimizing.undo import chosen
from fusekit.report import Event, Report
from fusekit.runtimes import runtime
from fusekit.runtimes.measurements import FILE, Measurements
from fusekit.testing.strategies import convs, inputs_of, relative_error
from tests.support.architectures import randomize
from tests.support.compare import assert_same, call, error_of
from tests.support.graphs import Calls, captured


def one_axis() -> nn.Module:
    layers = (nn.Conv1d(2, 8, 1), nn.ReLU(), nn.Conv1d(8, 8, 31, padding=15, groups=8), nn.ReLU(), nn.Conv1d(8, 2, 1))
    return randomize(nn.Sequential(*layers)).eval()


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


X, IMAGE = torch.randn(2, 2, 200), torch.randn(2, 3, 12, 12)


@pytest.fixture(autouse=True)
def measuring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUSEKIT_MEASURE", "1")
    monkeypatch.setenv("FUSEKIT_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A clock that knows: for labels that hold the word, so many milliseconds; 1 for the rest; a fair whole."""
    times: dict[str, float] = {"whole before": 1.0, "whole after": 1.0}

    def race(self: Clock, key: Any, modules: Any, inputs: Any) -> dict[str, float]:
        words = [word for word in times if not word.startswith("whole")]
        return {label: next((times[w] for w in words if label.startswith(w)), 1.0) for label in modules}

    def compare(self: Clock, before: Any, after: Any, loading: bool = False) -> tuple[float, float]:
        after()
        return times["whole before"], times["whole after"]

    monkeypatch.setattr(Clock, "race", race)
    monkeypatch.setattr(Clock, "compare", compare)
    return times


def report_of(result: Any) -> Report:
    report: Report = result.report
    return report


def decisions(report: Report) -> dict[str, str]:
    """What became of each realization."""
    names = {"use-spectral-conv", "use-planar-conv", "use-planar-channels-last", "use-channels-last", CHANNELS_LAST}
    return {event.rewrite: str(event.outcome) for event in report.events if event.rewrite in names}


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


# --- the whole model is never slower -----------------------------------------------------------------------------


def slower_with(monkeypatch: pytest.MonkeyPatch, harmful: Sequence[str]) -> None:
    """A whole that takes twice as long while one of these realizations is in it."""

    def compare(self: Clock, before: Any, after: Any, loading: bool = False) -> tuple[float, float]:
        return 1.0, 2.0 if set(harmful) & LAST else 0.9

    def judged(*arguments: Any) -> Any:
        result, pipeline, reason = plainly_judged(*arguments)
        LAST.clear()
        LAST.update(event.rewrite for event in chosen(pipeline.events))
        return result, pipeline, reason

    for half in (promise_module, promise_file):
        monkeypatch.setattr(half, "judged", judged)
    monkeypatch.setattr(promise_file.Export, "_plainer", lambda *_: None)
    monkeypatch.setattr(Clock, "compare", compare)


LAST: set[str] = set()


def test_a_wrong_choice_is_undone_and_reported(known: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock says a plane is faster, and the whole model shows that it is not."""
    known["planar conv"] = 0.5
    slower_with(monkeypatch, ["use-planar-conv"])
    model = one_axis()
    result = fusekit.optimize(model, X)
    report = report_of(result)
    (event,) = [event for event in report.rejected if event.rewrite == "use-planar-conv"]
    assert "2.00 times" in event.reason and not chosen(report.events)
    assert report.times == (1.0, 0.9)
    assert_same(result, model, X)


def test_worst_first_and_the_rest_is_kept(known: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two realizations the one that gained less goes; the other stays."""
    layers = (nn.Conv1d(8, 8, 31, padding=15, groups=8), nn.ReLU(), nn.Conv1d(8, 8, 9, padding=4), nn.ReLU())
    model = randomize(nn.Sequential(*layers)).eval()
    known["planar channels last conv 8x1x1x31"] = 0.2
    known["planar conv 1x8x8x9"] = 0.7
    slower_with(monkeypatch, ["use-planar-conv"])
    report = report_of(fusekit.optimize(model, torch.randn(1, 8, 64)))
    assert [(event.rewrite, event.where) for event in chosen(report.events)] == [("use-planar-channels-last", "0")]
    assert [event.where for event in report.rejected] == ["2"]


def test_a_model_that_is_slower_whatever_is_undone_is_returned_as_it_was(known: dict[str, float]) -> None:
    known["whole after"] = 1.5
    model = randomize(nn.Sequential(nn.Conv1d(2, 8, 1), nn.BatchNorm1d(8), nn.ReLU())).eval()
    result = fusekit.optimize(model, X)
    assert not report_of(result).applied and "1.50 times" in str(report_of(result).rejected)
    assert [type(m) for m in result.children()] == [type(m) for m in model.children()]


@pytest.mark.parametrize("harmful", [True, False])
def test_exported_files_are_raced_too(
    known: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, harmful: bool
) -> None:
    known["planar conv"] = 0.5
    slower_with(monkeypatch, ["use-planar-conv"] if harmful else [])
    verdict = fusekit.export(one_axis(), tmp_path / "m.onnx", X)
    assert verdict.ok and verdict.report is not None
    assert decisions(verdict.report)["use-planar-conv"] == ("rejected" if harmful else "applied")
    assert verdict.report.times == (1.0, 0.9)


@pytest.mark.parametrize("exports", [True, False])
def test_exported_files_are_raced_without_their_realizations_too(
    known: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exports: bool
) -> None:
    """Faster alone, slower among others: faster than the model, which need have no file of its own, is not enough."""
    known["planar conv"] = 0.5
    plainer, raced = promise_file.Export._plainer, []

    def marked(self: promise_file.Export, room: Path, verdict: fusekit.Validation) -> Any:
        return "plainer" if plainer(self, room, verdict) is not None else None

    def compare(self: Clock, before: Any, after: Any, loading: bool = False) -> tuple[float, float]:
        raced.append(before)
        return (0.5, 0.9) if before == "plainer" else (1.0, 0.9)

    monkeypatch.setattr(promise_file.Export, "_plainer", marked)
    monkeypatch.setattr(Clock, "compare", compare)
    if not exports:
        monkeypatch.setattr(promise_file.Export, "_own", lambda *_: None)
    verdict = fusekit.export(one_axis(), tmp_path / "m.onnx", X)
    assert verdict.ok and verdict.report is not None
    (event,) = [event for event in verdict.report.rejected if event.rewrite == "use-planar-conv"]
    assert event.reason == "with it, the file took 1.80 times as long as the file without realizations"
    assert not chosen(verdict.report.events)
    assert verdict.report.times == ((1.0, 0.9) if exports else None)
    assert raced.count("plainer") == 1, "there is nothing left to race"


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


# --- what is known from earlier ----------------------------------------------------------------------------------


def depthwise(taps: int = 9) -> Conv:
    return Conv.from_torch(torch.randn(4, 1, taps), None, padding=((taps // 2, taps // 2),), groups=4)


def test_measured_once(tmp_path: Path) -> None:
    conv = depthwise()
    maps: list[Map] = [conv, Relaid(conv, planar=True), SpectralConv.of(conv)]
    first = Clock(runtime("torch"), known=Measurements(tmp_path / FILE))
    times = first.times(maps, (1, 4, 50), torch.float32)
    assert times is not None and first.spent > 0 and all(time > 0 for time in times)
    again = Clock(runtime("torch"), known=Measurements(tmp_path / FILE))
    assert again.times(maps, (1, 4, 50), torch.float32) == times and again.spent == 0
    assert again.times(maps[:2], (1, 4, 50), torch.float32) is not None and again.spent > 0, "another contest"


@pytest.mark.parametrize("what", ["threads", "processor", "runtime", "fusekit"])
def test_of_another_place_nothing_is_known(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(runtime("torch"), known=Measurements(tmp_path / FILE))
    maps: list[Map] = [depthwise(), Relaid(depthwise(), planar=True)]
    clock.times(maps, (1, 4, 50), torch.float32)
    plain = Clock._place
    monkeypatch.setattr(Clock, "_place", lambda self, inputs: {**plain(self, inputs), what: "another"})
    other = Clock(runtime("torch"), known=Measurements(tmp_path / FILE))
    other.times(maps, (1, 4, 50), torch.float32)
    assert other.spent > 0


def test_an_entry_that_lies_is_caught_by_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that a plane takes no time at all."""
    plain = Measurements.get

    def get(self: Measurements, key: Any) -> dict[str, float] | None:
        labels = key.get("maps", [])
        return {label: 1e-6 if label.startswith("planar conv") else 1.0 for label in labels} or plain(self, key)

    monkeypatch.setattr(Measurements, "get", get)
    slower_with(monkeypatch, ["use-planar-conv"])
    report = report_of(fusekit.optimize(one_axis(), X))
    assert decisions(report)["use-planar-conv"] == "rejected" and report.times == (1.0, 0.9)


def test_events_tell_their_times() -> None:
    event = Event("x", "y", fusekit.report.Outcome.APPLIED, 1.0, 2.0, times=(1.5, 0.5))
    assert "1.5 -> 0.5 ms" in str(Report((event,)))


def test_the_cache_alone_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """With measure="cached", times that were measured before count, and nothing is timed, the whole neither."""

    def measured(self: Clock, modules: Any, inputs: Any) -> dict[str, float]:
        return dict(zip(modules, (1.0, *(0.1 for _ in modules)), strict=False))

    def timed(*_: Any) -> Any:
        raise AssertionError("it was timed")

    model = one_axis()
    monkeypatch.setattr(Clock, "compare", timed)
    monkeypatch.setattr(Clock, "_measured", timed)
    assert not chosen(report_of(fusekit.optimize(model, (X,), measure="cached")).applied), "the cache is empty"
    monkeypatch.setattr(Clock, "_measured", measured)
    monkeypatch.setattr(Clock, "compare", lambda *_: (1.0, 1.0))
    before = chosen(report_of(fusekit.optimize(model, (X,))).applied)
    monkeypatch.setattr(Clock, "compare", timed)
    monkeypatch.setattr(Clock, "_measured", timed)
    after = chosen(report_of(fusekit.optimize(model, (X,), measure="cached")).applied)
    assert before and [(e.rewrite, e.where) for e in before] == [(e.rewrite, e.where) for e in after]


def test_a_third_answer_that_is_unknown() -> None:
    with pytest.raises(FusekitError, match="measure must be True, False or 'cached', got 'no'"):
        fusekit.optimize(one_axis(), (X,), measure="no")
