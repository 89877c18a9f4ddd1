"""Calls of one recurrent layer on several inputs, batched: naive complex layers, and what must stay apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fusekit
from tests.support.compare import report_of

C64 = torch.complex64
LAYERS = (nn.LSTM, nn.GRU, nn.RNN)


class Naive(nn.Module):
    """re = L_r(x_re) - L_i(x_im), im = L_r(x_im) + L_i(x_re), each from zero states."""

    def __init__(self, kind: Callable[..., nn.Module] = nn.LSTM, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.real, self.imag = (kind(4, 5, **options) for _ in range(2))

    def forward(self, z: Tensor) -> Any:
        re = self.real(z.real)[0] - self.imag(z.imag)[0]
        im = self.real(z.imag)[0] + self.imag(z.real)[0]
        return torch.complex(re, im)


class Branching(Naive):
    """What only torch.export follows."""

    def forward(self, z: Tensor) -> Any:
        return super().forward(z * 2 if z.shape[0] > 1000 else z)


class WithStates(Naive):
    """Hands out the last states of both parts, and starts from given ones."""

    def forward(self, z: Tensor) -> Any:
        start = z.real.new_ones(1, z.shape[1], 5)
        pairs = isinstance(self.real, nn.LSTM)
        (a, last), (b, other) = (self.real(p, (start, -start) if pairs else start) for p in (z.real, z.imag))
        return (a - b, *(last if pairs else (last,)), other[1] if pairs else other)


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"batch_first": True},
    {"bidirectional": True, "num_layers": 2},
    {"bias": False, "batch_first": True, "dropout": 0.5, "num_layers": 2},
)


def applied(model: nn.Module, x: Tensor, target: str = "torch") -> tuple[nn.Module, list[str]]:
    """The result, equal to the model at three sizes, and where calls were batched."""
    model = model.eval()
    result = fusekit.optimize(model, x, measure=False, target=target)
    for given in (x, x[:1], torch.cat([x, x], 1)):
        for ours, theirs in zip(*map(pytree.tree_leaves, (result(given), model(given))), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
    report = report_of(result)
    assert not report.of("rejected")
    return result, [event.where for event in report.applied if event.rewrite == "batch-calls"]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    ("model", "kind"),
    [*((Naive, kind) for kind in LAYERS), *((Branching, kind) for kind in LAYERS[:2])],  # torch fixes an RNN's steps
)
def test_naive_complex_layers_take_two_calls(
    model: Callable[..., nn.Module], kind: type[nn.Module], options: dict[str, Any]
) -> None:
    _, places = applied(model(kind, **options), torch.randn(7, 2, 4, dtype=C64))
    assert len(places) == 2


@pytest.mark.parametrize("kind", LAYERS)
def test_states_go_in_and_come_out(kind: type[nn.Module]) -> None:
    _, places = applied(WithStates(kind), torch.randn(6, 3, 4, dtype=C64))
    assert len(places) == 1


def test_single_rows_and_steps() -> None:
    for shape in [(1, 1, 4), (1, 3, 4), (5, 1, 4)]:
        assert len(applied(Naive(), torch.randn(shape, dtype=C64))[1]) == 2


def test_in_a_file_of_any_length(tmp_path: Path) -> None:
    model, path = Naive().eval(), tmp_path / "naive.onnx"
    assert fusekit.export(model, path, torch.randn(7, 2, 4, dtype=C64), measure=False).ok
    assert [node.op_type for node in onnx.load(path).graph.node].count("LSTM") == 2
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in [(7, 1, 4), (11, 3, 4)]:
        z = torch.randn(shape, dtype=C64)
        (found,) = session.run(None, {session.get_inputs()[0].name: torch.view_as_real(z).numpy()})
        assert torch.allclose(torch.from_numpy(found), torch.view_as_real(model(z)), atol=1e-5)


def test_large_batches_stay_apart_in_files() -> None:
    report = report_of(fusekit.optimize(Naive().eval(), torch.randn(5, 8, 4, dtype=C64), target="onnxruntime"))
    assert [event.reason for event in report.refused if event.rewrite == "batch-calls"] == [
        "with 8 rows in each call, separate calls are as fast as one"
    ] * 2


class Calls(nn.Module):
    """A function of a layer, of another, and of x."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.GRU(4, 4), nn.GRU(4, 4)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.a, self.b, x)


def hooked(a: nn.Module, b: nn.Module, x: Tensor) -> Any:
    return a(x)[0] + a(-x)[0]


APART: dict[str, Callable[..., Any]] = {
    "one after the other": lambda a, b, x: a(a(x)[0])[0],
    "other weights": lambda a, b, x: a(x)[0] + b(-x)[0],
    "one call": lambda a, b, x: a(x)[0],
    "other numbers of steps": lambda a, b, x: a(x)[0][:2] + a(x[:2])[0],
    "with states and without": lambda a, b, x: a(x)[0] + a(x, torch.ones_like(x[:1]))[0],
    "unbatched": lambda a, b, x: a(x[:, 0])[0] + a(-x[:, 0])[0],
    "handed out whole": lambda a, b, x: (a(x), a(-x)),
}


@pytest.mark.parametrize("name", APART)
def test_others_stay_apart(name: str) -> None:
    assert not applied(Calls(APART[name]), torch.randn(6, 2, 4))[1]


def test_calls_whose_steps_are_equal_by_chance() -> None:
    """Halves of an even number of steps; of an odd one they differ."""
    model = Calls(lambda a, b, x: sum(a(part)[0].sum(1) for part in (x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :])))
    model.a = nn.GRU(4, 4, batch_first=True)
    result = fusekit.optimize(model.eval(), torch.randn(2, 6, 4), measure=False)
    assert [event.rewrite for event in report_of(result).of("rejected")] == ["batch-calls"]
    x = torch.randn(2, 7, 4)
    assert torch.equal(result(x), model(x))


def test_hooks_see_every_call() -> None:
    model, seen = Calls(hooked), []
    model.a.register_forward_hook(lambda *_: seen.append(1))
    result = fusekit.optimize(model.eval(), torch.randn(6, 2, 4), measure=False)
    seen.clear()
    result(torch.randn(6, 2, 4))
    assert len(seen) == 2


def test_three_calls_and_what_is_computed_between_them() -> None:
    def mixed(a: nn.Module, b: nn.Module, x: Tensor) -> Any:
        first = a(x)[0]
        between = torch.tanh(b(x * 2)[0] + x)
        second, last = a(between)
        return first * second, last, a(x - between)[0].mean() + first

    _, places = applied(Calls(mixed), torch.randn(6, 2, 4))
    assert places == ["a + a + a"]
