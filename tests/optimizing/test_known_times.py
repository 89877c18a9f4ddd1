"""Times that were measured before: the cache remembers, for its own place only, and cannot harm."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fusekit
from fusekit.algebra import Conv, Map, Relaid, SpectralConv
from fusekit.errors import FusekitError
from fusekit.optimizing.race import Clock
from fusekit.optimizing.undo import chosen
from fusekit.report import Event, Report
from fusekit.runtimes import runtime
from fusekit.runtimes.measurements import FILE, Measurements
from tests.support.compare import report_of
from tests.support.measured_room import X, decisions, measuring, one_axis, slower_with

__all__ = ["measuring"]


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
