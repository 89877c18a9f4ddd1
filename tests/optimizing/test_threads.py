"""Several threads that optimize and export at once get what each would get alone, and disturb no other."""

import random
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import fusekit

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Branching(nn.Module):
    """Needs torch.export: what it does depends on a size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x if x.shape[0] == 1 else x / len(x)


class Typed(nn.Module):
    """Asks for a type, makes numbers in the default dtype, and is run in float64 beside others that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(x)) * torch.tensor(0.1) + torch.arange(4).view(4, 1, 1) / 3
        return x if isinstance(x, Tensor) else torch.zeros(1)


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 2, 1))


def trained(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0, 0.3)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return model.eval()


MODELS = [trained(make, seed) for seed, make in enumerate((plain, Branching, Typed, plain))]


def optimized(model: nn.Module) -> Any:
    """The result, what was done, and how the model was captured."""
    result: Any = fusekit.optimize(model, X, measure=False)
    done = [(event.rewrite, event.where, event.outcome) for event in result.report.events]
    with torch.no_grad():
        return result(X).tolist(), done, result.report.capture


def exported(model: nn.Module, path: Path) -> Any:
    verdict = fusekit.export(model, path, X, measure=False)
    assert verdict.ok and verdict.report is not None
    done = [(event.rewrite, event.where, event.outcome) for event in verdict.report.events]
    return [node.op_type for node in onnx.load(path).graph.node], done, verdict.error


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """In a thread each, begun together."""
    barrier = Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        barrier.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))


@pytest.mark.parametrize("models", [MODELS[1:2] * 4, [*MODELS, *MODELS]], ids=["the same", "eight"])
def test_each_thread_gets_what_it_would_get_alone(models: list[nn.Module]) -> None:
    alone = {id(model): optimized(model) for model in dict.fromkeys(models)}
    found = at_once([partial(optimized, model) for model in models])
    assert found == [alone[id(model)] for model in models]


def test_each_thread_exports_what_it_would_export_alone(tmp_path: Path) -> None:
    models = MODELS[:2] * 2
    alone = {id(model): exported(model, tmp_path / "alone.onnx") for model in dict.fromkeys(models)}
    paths = [tmp_path / f"{number}.onnx" for number in range(len(models))]
    calls = [partial(exported, model, path) for model, path in zip(models, paths, strict=True)]
    assert at_once(calls) == [alone[id(model)] for model in models]


def test_a_thread_that_measures_and_one_that_waits_both_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEKIT_MEASURE", "1")
    first, second = at_once([lambda: fusekit.optimize(MODELS[0], X), lambda: fusekit.optimize(MODELS[1], X)])
    assert all(result.report.times is not None for result in (first, second))


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_thread_at_work_of_its_own_is_not_disturbed() -> None:
    """It runs, trains, warns, draws and counts as if nobody optimized beside it."""
    done = Event()
    fusekit.optimize(MODELS[0], X, measure=False)  # libraries may draw when they are first imported
    model = trained(plain, 7)
    with torch.no_grad():
        expected = model(X)

    def work() -> tuple[int, list[str]]:
        torch.manual_seed(9)
        random.seed(9)
        drawn: list[float] = []
        pythons: list[float] = []
        wrong: list[str] = []
        rounds = 0
        while not done.is_set() or rounds < 3:
            rounds += 1
            with torch.no_grad():
                # not bit by bit: torch.export itself takes oneDNN from the whole process for a moment
                wrong += [] if torch.allclose(model(X), expected, atol=1e-5) else ["the model's output"]
            wrong += [] if (torch.arange(3) / 2 + torch.zeros(3)).dtype == torch.float32 else ["the default dtype"]
            wrong += [] if isinstance(len(X), int) else ["len"]
            wrong += [] if torch.is_grad_enabled() else ["gradients"]
            try:
                warnings.warn("mine", UserWarning, stacklevel=1)
                wrong.append("warnings")
            except UserWarning:
                pass
            drawn += torch.rand(1).tolist()
            pythons.append(random.random())
        torch.manual_seed(9)
        random.seed(9)
        wrong += [] if drawn == [float(torch.rand(1)) for _ in range(rounds)] else ["torch's random numbers"]
        wrong += [] if pythons == [random.random() for _ in range(rounds)] else ["Python's random numbers"]
        return rounds, wrong

    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(work)
        try:
            for each in MODELS[:3]:
                fusekit.optimize(each, X, measure=False)
        finally:
            done.set()
        rounds, wrong = beside.result()
    assert rounds >= 3 and sorted(set(wrong)) == []
