"""A place for tests of what is measured: a cache of its own, and clocks that know their answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fusekit.optimizing import promise_file, promise_module
from fusekit.optimizing.channels_last import NAME as CHANNELS_LAST
from fusekit.optimizing.promise import judged as plainly_judged
from fusekit.optimizing.race import Clock
from fusekit.optimizing.undo import chosen
from fusekit.report import Report
from tests.support.architectures import randomize


def one_axis() -> nn.Module:
    layers = (nn.Conv1d(2, 8, 1), nn.ReLU(), nn.Conv1d(8, 8, 31, padding=15, groups=8), nn.ReLU(), nn.Conv1d(8, 2, 1))
    return randomize(nn.Sequential(*layers)).eval()


X = torch.randn(2, 2, 200)


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


def decisions(report: Report) -> dict[str, str]:
    """What became of each realization."""
    names = {"use-spectral-conv", "use-planar-conv", "use-planar-channels-last", "use-channels-last", CHANNELS_LAST}
    return {event.rewrite: str(event.outcome) for event in report.events if event.rewrite in names}


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
