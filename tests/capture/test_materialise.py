"""Layers that compute their weight in ways nothing traces."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
from fusekit.capture.materialise import materialise
from fusekit.model import Inputs
from tests.support.compare import report_of


class Kronecker(nn.Module):
    """W = Σ A_i ⊗ S_i (Zhang et al., Beyond fully-connected layers with quaternions, 2021), its size a tensor."""

    def __init__(self, n: int, inputs: int, outputs: int, *window: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(n, n, n))
        self.s = nn.Parameter(torch.randn(n, outputs // n, inputs // n, *window))
        self.bias = nn.Parameter(torch.randn(outputs))

    def weight(self) -> Tensor:
        blocks = torch.einsum("iab,icd...->iacbd...", self.a, self.s).sum(0)
        sizes = torch.tensor(blocks.shape)
        rows = int(torch.prod(sizes[:2]))
        if rows != int(sizes[0] * sizes[1]):
            raise AssertionError("never")
        return blocks.reshape(torch.Size((rows, int(torch.prod(sizes[2:4])), *blocks.shape[4:])))

    def forward(self, x: Tensor) -> Any:
        if self.s.dim() == 3:
            return F.linear(x, self.weight(), self.bias)
        return F.conv1d(x, weight=self.weight(), bias=self.bias, padding=1, stride=2)


class Renormalised(nn.Module):
    """Writes its weight in place where it is too large, and asks whether it trains."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.randn(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        if self.v.data.norm().item() > 1.0 and self.v.requires_grad:
            self.v.data.div_(self.v.data.norm())
        return F.linear(x, self.v * 2.0)


class Halves(nn.Module):
    """What no symbolic trace follows, and an export does."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([half * 1.0 for half in x.chunk(2, 1)], 1)


class OfInput(nn.Module):
    """A weight that hangs on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        if x.sum().item() > 1e30:
            return x
        return F.linear(x, self.v * x.mean())


class More(OfInput):
    """Something else beside the layer."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum().item() > 1e30:
            return x
        return F.linear(x, self.v * 2.0) + 1.0


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "a linear layer": (lambda: nn.Sequential(Halves(), Kronecker(2, 4, 6), nn.ReLU(), nn.Linear(6, 2)), (3, 4), ["1"]),
    "a convolution": (lambda: nn.Sequential(Halves(), Kronecker(2, 4, 6, 3), nn.BatchNorm1d(6)), (3, 4, 9), ["1"]),
    "in place": (lambda: nn.Sequential(nn.Linear(3, 4), Halves(), Renormalised(4, 5)), (2, 3), ["2"]),
    "used twice": (lambda: nn.Sequential(Halves(), *[Renormalised(4, 4)] * 2), (2, 4), ["1", "2"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_computed_weights_become_constants(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, shape, paths = MODELS[name]
    model, x = make().eval(), torch.randn(shape)
    expected = model(x)
    result = fusekit.optimize(model, x, measure=False)
    assert torch.allclose(result(x), expected, atol=1e-6)
    said = [event.reason for event in report_of(result).of("refused") if event.rewrite == "capture"]
    assert any(f"computed once and for all: {', '.join(paths)}" in reason for reason in said)
    assert fusekit.export(model, tmp_path / "m.onnx", x, measure=False).ok
    operators = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert operators & {"Gemm", "Conv"} and not operators & {"Einsum", "ReduceSum", "ReduceL2", "Reshape"}


@pytest.mark.parametrize("layer", [OfInput, More])
def test_what_is_more_than_a_layer_stays(layer: Callable[[], nn.Module]) -> None:
    model, x = nn.Sequential(layer(), nn.Linear(4, 2)).eval(), torch.randn(3, 4)
    assert materialise(model, Inputs.of(x)) == []
    result = fusekit.optimize(model, x, measure=False)
    assert torch.equal(result(x), model(x))


def test_a_model_that_other_inputs_break_shows_nothing() -> None:
    class Strict(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if (x != 1).any():
                raise ValueError("ones only")
            return x

    assert materialise(nn.Sequential(Strict(), Renormalised(2, 2)), Inputs.of(torch.ones(1, 2))) == []
