"""A copy may share large weights as long as nothing writes to them; then it shares nothing."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

import fusekit
from fusekit.model import Inputs, evaluation_copy, export_program, lent, on_copy, run_float64
from fusekit.model.lent import lent_weights
from fusekit.validation import Reference
from tests.support.compare import call


@pytest.fixture(autouse=True)
def small_ones_are_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lent, "LARGE", 64)


class Writes(nn.Module):
    """Two layers, and a forward that does something to their weights."""

    def __init__(self, rule: Callable[[Any], object]) -> None:
        super().__init__()
        self.rule = rule
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.register_buffer("table", torch.rand(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        self.rule(self)
        y: Tensor = self.second(self.first(x)) @ self.table
        return y


def _half(weight: Tensor) -> None:
    with torch.no_grad():
        weight.mul_(0.5)


def _swallowed(module: Any) -> None:
    try:
        module.first.weight.data.add_(1.0)
    except RuntimeError:
        module.table.data.add_(1.0)


WRITES: dict[str, Callable[[Any], object]] = {
    "in place": lambda m: _half(m.first.weight),
    "data": lambda m: m.first.weight.data.mul_(0.5),
    "a view": lambda m: m.first.weight.data[1:].t().fill_(0.5),
    "a row": lambda m: m.table.__setitem__(0, 1.0),
    "out": lambda m: torch.add(m.table, 1.0, out=m.table),
    "foreach": lambda m: torch._foreach_mul_([m.first.weight.data, m.second.weight.data], 0.5),
    "numpy": lambda m: np.multiply(m.first.weight.detach().numpy(), 0.5, out=m.first.weight.detach().numpy()),
    "array": lambda m: np.asarray(m.table).fill(0.5),
    "dlpack": lambda m: torch.utils.dlpack.from_dlpack(m.table).mul_(0.5),
    "swallowed": _swallowed,
}


@pytest.mark.parametrize("how", WRITES)
def test_what_a_forward_writes_stays_in_the_copy(how: str) -> None:
    model = Writes(WRITES[how]).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(3, 6)
    expected = call(evaluation_copy(model), x)
    assert torch.equal(on_copy(model, lambda copied: call(copied, x)), expected)
    reference = Reference(model, x)
    assert torch.equal(reference.given.own[0][1], expected)
    assert torch.allclose(reference.given.exact[0][1].float(), expected, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_user_sees_no_change_of_weights_that_forward_scales() -> None:
    model = Writes(WRITES["data"]).eval()
    before = model.first.weight.detach().clone()
    with suppress(fusekit.FusekitError):  # every call gives another result
        fusekit.optimize(model, torch.rand(3, 6))
    assert torch.equal(model.first.weight, before)


@pytest.mark.parametrize("how", WRITES)
def test_a_trace_writes_to_no_memory(how: str) -> None:
    """Programs are traced on copies that share large weights without a watch."""
    model = Writes(WRITES[how]).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for dynamic in (True, False):
        with suppress(fusekit.FusekitError):
            export_program(model, Inputs.of(torch.rand(3, 6)), dynamic=dynamic)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_forward_that_only_reads_runs_on_the_same_memory() -> None:
    model = Writes(lambda m: m.first.weight.sum()).eval()
    large = [*(p for p in model.parameters() if p.nbytes >= lent.LARGE), *model.buffers()]
    addresses = {weight.data_ptr() for weight in large}
    seen: list[set[int]] = []

    def task(copied: nn.Module) -> Tensor:
        seen.append({t.data_ptr() for t in (*copied.parameters(), *copied.buffers())})
        y: Tensor = call(copied, torch.rand(3, 6))
        return y

    on_copy(model, task)
    assert len(seen) == 1 and addresses <= seen[0] and len(seen[0]) == 5
    assert seen[0].isdisjoint({model.first.bias.data_ptr(), model.second.bias.data_ptr()})


def test_weights_that_overlap_or_are_closed_are_not_lent() -> None:
    whole = torch.rand(8, 6)
    model = nn.Module()
    model.register_buffer("whole", whole)
    model.register_buffer("part", whole[:6])
    model.script = torch.jit.script(nn.Linear(6, 6))
    model.free = free = nn.Linear(6, 6)
    assert list(lent_weights(model)) == [id(free.weight)]


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    copied = evaluation_copy(model, lent_weights(model))
    first, second = (child.weight for child in copied.children())
    assert first is second is not model[0].weight
    assert first.data_ptr() == model[0].weight.data_ptr()  # type: ignore[operator]


class Products(nn.Module):
    """Products of weights alone, views of them, their dtype asked for, and a layer with a kernel of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(9, 9)), nn.Parameter(torch.randn(9, 9))
        self.steps = nn.LSTM(9, 9, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        merged = self.first @ self.second + self.first.t() @ self.first.view(9, 9)
        y: Tensor = self.steps(x.to(self.first.dtype) @ merged)[0]
        return y


def test_the_float64_run_with_passing_twins_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Products().eval(), torch.randn(2, 5, 9)
    with torch.no_grad():
        expected = evaluation_copy(model).double()(x.double())
    exact = run_float64(model, Inputs.of(x))
    assert exact.dtype is torch.float64 and torch.allclose(exact, expected, rtol=1e-13)
    monkeypatch.setattr(lent, "LARGE", 1 << 40)
    assert torch.equal(exact, run_float64(model, Inputs.of(x)))


def test_large_weights_are_widened_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the float64 twins of lent weights, one is alive at a time."""
    model = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(6))).eval()
    alive: list[StorageWeakRef] = []
    most = [0]
    also = lent.Watch.also

    def counting(watch: lent.Watch, tensor: Tensor) -> None:
        if tensor.dtype is torch.float64:
            alive.append(StorageWeakRef(tensor.untyped_storage()))
            most[0] = max(most[0], len({reference.cdata for reference in alive if not reference.expired()}))
        also(watch, tensor)

    monkeypatch.setattr(lent.Watch, "also", counting)
    run_float64(model, Inputs.of(torch.rand(2, 8)))
    assert len(alive) >= 6 and most == [1]
