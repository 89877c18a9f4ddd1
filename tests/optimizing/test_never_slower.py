"""The whole is raced: what made it slower is undone and reported, in PyTorch and in files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fusekit
from fusekit.optimizing import promise_file
from fusekit.optimizing.race import Clock
from fusekit.optimizing.undo import chosen
from tests.support.architectures import randomize
from tests.support.compare import assert_same, report_of
from tests.support.measured_room import X, decisions, known, measuring, one_axis, slower_with

__all__ = ["known", "measuring"]


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
