"""The promise of the whole model asks the model itself no more than it must."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.errors import FusekitError
from fusekit.optimizing.race import Clock
from tests.support.architectures import randomize

X = torch.rand(2, 2, 200)
RUNS: Counter[str] = Counter()  # of the model itself on tensors, by dtype and probe


class Net(nn.Module):
    """Convolution, batch norm, activation; then rows that a clock may take for planes."""

    def __init__(self) -> None:
        super().__init__()
        stem = (nn.Conv1d(2, 8, 1), nn.BatchNorm1d(8), nn.ReLU())
        rows = (nn.Conv1d(8, 8, 31, padding=15, groups=8), nn.ReLU(), nn.Conv1d(8, 8, 9, padding=4), nn.ReLU())
        self.net = nn.Sequential(*stem, *rows, nn.Conv1d(8, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        if type(x) is Tensor:  # what traces it sends other things
            given = x.shape == X.shape and bool((x.double() == X.double()).all())
            probe = "given" if given else "wide range" if float(x.abs().max()) > 100 else str(tuple(x.shape))
            RUNS[f"{next(self.parameters()).dtype} {probe}"] += 1
        y: Tensor = self.net(x)
        return y


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A clock for which planes are faster, and the whole always slower; one entry for each race of wholes."""
    rounds: list[int] = []

    def race(self: Clock, key: Any, modules: Any, inputs: Any) -> dict[str, float]:
        return {label: 0.5 if label.startswith("planar conv") else 1.0 for label in modules}

    def compare(self: Clock, before: Any, after: Any, loading: bool = False) -> tuple[float, float]:
        rounds.append(1)
        return 1.0, 2.0

    monkeypatch.setenv("FUSEKIT_MEASURE", "1")
    monkeypatch.setattr(Clock, "race", race)
    monkeypatch.setattr(Clock, "compare", compare)
    RUNS.clear()
    return rounds


@pytest.mark.parametrize("measure", [True, False])
@pytest.mark.parametrize("tolerance", [None, 1e-3])
@pytest.mark.parametrize("file", [True, False])
def test_the_model_itself_runs_once_in_each_precision(
    races: list[int], tmp_path: Path, file: bool, tolerance: float | None, measure: bool
) -> None:
    """On the given inputs, and on each other probe where these are asked for, whatever the race takes."""
    model = randomize(Net()).eval()
    if file:
        assert fusekit.export(model, tmp_path / "m.onnx", X, tolerance=tolerance, measure=measure).ok
    else:
        fusekit.optimize(model, X, tolerance=tolerance, measure=measure)
    assert len(races) >= 3 if measure else not races
    assert set(RUNS.values()) == {1}, "the same is computed again"
    assert {"torch.float32 given", "torch.float64 given"} <= RUNS.keys()
    assert len(RUNS) == (2 * 6 if file or tolerance else 2)


def test_inputs_that_the_model_refuses_are_told_in_one_line(tmp_path: Path) -> None:
    model, wrong = nn.Conv2d(3, 4, 3), torch.rand(1, 5, 8, 8)
    for ask in (lambda: fusekit.optimize(model, wrong), lambda: fusekit.export(model, tmp_path / "m.onnx", wrong)):
        with pytest.raises(FusekitError, match="the reference itself fails on the example inputs: RuntimeError"):
            ask()
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_keeps_a_state_is_judged_in_one_state() -> None:
    """An untouched copy holds whatever the tolerance, though each call of it gives something else."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls: Tensor
            self.register_buffer("calls", torch.zeros(()))
            self.layer = nn.Conv1d(2, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            y: Tensor = self.layer(x) * self.calls
            return y

    report = fusekit.optimize(Counting().eval(), X, tolerance=1e-4, measure=False).report
    assert not report.rejected  # type: ignore[union-attr]
