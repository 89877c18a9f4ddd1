"""Activations in place again: where the model had them so, and where nobody can tell."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusekit
from tests.support.compare import assert_same, normal
from tests.support.graphs import Calls

X = normal(2, 3, 6, 6)
RELU = nn.ReLU(inplace=True)


def conv(inputs: int = 3) -> nn.Module:
    return nn.Conv2d(inputs, 3, 3, padding=1)


def both(body: Callable[[Any, Any], Any], relu: nn.Module = RELU, target: str = "torch") -> tuple[nn.Module, Any]:
    model = Calls(body, a=conv(), b=conv(), n=nn.BatchNorm2d(3), relu=relu).double().eval()
    return model, fusekit.optimize(model, X, target=target, strict=True)


def in_place(result: nn.Module) -> list[bool]:
    return [m.inplace for m in result.modules() if isinstance(m, nn.ReLU | nn.Hardtanh)]


RESTORED: dict[str, Callable[[Any, Any], Any]] = {
    "behind a convolution": lambda m, x: m.b(m.relu(m.a(x))),
    "behind a norm": lambda m, x: m.a(m.relu(m.n(torch.tanh(x)))),
    "behind a sum": lambda m, x: m.relu(torch.tanh(m.a(x)) + x),
    "behind a concatenation": lambda m, x: m.relu(torch.cat([torch.tanh(m.a(x)), x], 1)),
    "called twice": lambda m, x: m.relu(m.b(m.relu(m.a(x)))),
}
KEPT: dict[str, Callable[[Any, Any], Any]] = {
    "read by another, earlier": lambda m, x: (y := m.a(x)).exp() + m.relu(y),
    "one call of two on what another reads": lambda m, x: (y := m.b(m.relu(m.a(x)))).exp() + m.relu(y),
    "behind what may be a view": lambda m, x: m.relu(torch.tanh(m.a(x))),
}


@pytest.mark.parametrize("case", RESTORED)
@pytest.mark.parametrize("relu", [RELU, nn.ReLU6(inplace=True)], ids=["relu", "relu6"])
def test_where_nobody_can_tell(case: str, relu: nn.Module) -> None:
    model, result = both(RESTORED[case], relu)
    assert all(in_place(result)) and in_place(result)
    x = X.clone()
    assert_same(result, model, x)
    assert torch.equal(x, X), "the input is not written to"
    again: Any = fusekit.optimize(result, X, strict=True)
    assert_same(again, model, X)


@pytest.mark.parametrize("case", KEPT)
def test_where_somebody_could(case: str) -> None:
    model, result = both(KEPT[case])
    assert not any(in_place(result))
    assert_same(result, model, X)


def test_not_what_was_plain_and_not_for_files() -> None:
    body = RESTORED["behind a convolution"]
    assert in_place(both(body, nn.ReLU())[1]) == [False]
    assert in_place(both(body, target="onnxruntime")[1]) == [False]


def test_the_model_keeps_its_own_layer() -> None:
    relu = nn.ReLU(inplace=True)
    both(RESTORED["behind a convolution"], relu)
    assert relu.inplace


@pytest.mark.parametrize("case", RESTORED)
def test_gradients_flow(case: str) -> None:
    model, result = both(RESTORED[case])
    x, same = (X.clone().requires_grad_() for _ in range(2))

    def gradient(module: nn.Module, at: Tensor) -> Tensor:
        (given,) = torch.autograd.grad(module(at).square().sum(), at)
        return given

    assert torch.allclose(gradient(result, x), gradient(model, same), rtol=1e-10, atol=1e-10)
