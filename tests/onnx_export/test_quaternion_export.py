"""Quaternion and hypercomplex layers through `fusekit.export`: one real operator each, its weights constant, all sizes
free, the number of steps too."""

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

import fusekit
from fusekit import nn as fnn
from fusekit.algebra import OCTONION
from tests.nn.test_quaternion_layers import disturbed

ROWS, STEPS, SIGNAL = torch.randn(3, 8), torch.randn(5, 3, 8), torch.randn(2, 8, 9)
IMAGE, VOLUME = torch.randn(2, 8, 6, 7), torch.randn(2, 8, 3, 4, 5)


class Beside(nn.Module):
    """Several layers on one input: each is exported, at the price of one export."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Any, ...]:
        return tuple(layer(x) for layer in self.layers)


def exported(layer: nn.Module, inputs: Any, path: Path) -> tuple[Counter[str], list[list[str]]]:
    """The nodes of the file, and of each input the axes that are free."""
    verdict = fusekit.export(layer, path, inputs)
    assert verdict.ok, str(verdict)
    graph = onnx.load(path).graph
    free = [[dim.dim_param for dim in value.type.tensor_type.shape.dim] for value in graph.input]
    return Counter(node.op_type for node in graph.node), free


# nothing but the operators: no weight is assembled, no channel moved at run time
WHOLE: dict[str, tuple[Tensor, tuple[nn.Module, ...], dict[str, int]]] = {
    "rows": (
        ROWS,
        (
            fnn.QuaternionLinear(8, 12, lean=True, max_norm=0.5),
            fnn.QuaternionRotationLinear(8, 12, scale=True),
            fnn.HypercomplexLinear(8, 6, 2),
        ),
        {"Gemm": 1, "Split": 1},  # three products of one input are one
    ),
    "sequences": (STEPS, (fnn.QuaternionLinear(8, 12),), {"MatMul": 1, "Add": 1}),
    "signals": (
        SIGNAL,
        (
            fnn.QuaternionConv1d(8, 12, 3, padding="same"),
            fnn.QuaternionConvTranspose1d(8, 12, 3, 2),
            fnn.HypercomplexConvTranspose1d(8, 16, 3, OCTONION),
        ),
        {"Conv": 1, "ConvTranspose": 2},
    ),
    "images": (
        IMAGE,
        (
            fnn.QuaternionConv2d(8, 12, 3, 2, 1, max_norm=1.0),
            fnn.QuaternionConv2d(8, 8, 3, groups=2, groups_of="channels"),
            fnn.QuaternionRotationConv2d(8, 12, 3, scale=True),
            fnn.HypercomplexConv2d(8, 12, 3, 4),
            fnn.QuaternionConvTranspose2d(8, 12, 3, 2),
            fnn.QuaternionBatchNorm(8),
        ),
        {"Conv": 4, "ConvTranspose": 1, "BatchNormalization": 1},
    ),
    "volumes": (
        VOLUME,
        (fnn.QuaternionConv3d(8, 12, 2), fnn.QuaternionRotationConv3d(8, 4, 2), fnn.QuaternionConvTranspose3d(8, 4, 2)),
        {"Conv": 2, "ConvTranspose": 1},
    ),
}

# operators that do the work, with shapes to handle around them
PARTLY: dict[str, tuple[Tensor, tuple[nn.Module, ...], dict[str, int]]] = {
    "images": (
        IMAGE,
        (
            fnn.QuaternionConv2d(8, 8, 3, groups=2),
            fnn.QuaternionConv2d(8, 12, 3, padding=1, padding_mode="reflect"),
            fnn.QuaternionMaxPool2d(2),
        ),
        {"Conv": 2, "Pad": 1, "GatherElements": 4},
    ),
    "steps": (
        STEPS,
        (
            fnn.QuaternionLSTM(8, 12),
            fnn.QuaternionLSTM(8, 12, 2, bidirectional=True, gates="component"),
            fnn.QuaternionGRU(8, 12),
            fnn.QuaternionRNN(8, 12, bias=False),
            fnn.QuaternionRNN(8, 12, 2, nonlinearity="relu", bidirectional=True),
            fnn.QuaternionLiGRU(8, 12),
            fnn.QuaternionLiGRU(8, 12, nonlinearity="tanh"),
        ),
        {"LSTM": 3, "GRU": 3, "Scan": 5},
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_one_operator_each(name: str, tmp_path: Path) -> None:
    x, layers, nodes = WHOLE[name]
    found, [sizes] = exported(disturbed(Beside(*layers)).eval(), (x,), tmp_path / "model.onnx")
    assert found == nodes
    channels = 2 if x is STEPS else 1
    assert [axis for axis, size in enumerate(sizes) if not size] == [channels]


@pytest.mark.parametrize("name", PARTLY)
def test_one_operator_each_and_shapes(name: str, tmp_path: Path) -> None:
    x, layers, nodes = PARTLY[name]
    found, [sizes] = exported(disturbed(Beside(*layers)).eval(), (x,), tmp_path / "model.onnx")
    assert {kind: found[kind] for kind in nodes} == nodes
    assert not {"Sigmoid", "Tanh", "Relu", "If", "Loop"} & set(found), "unrolled, or a branch"
    assert all(size for axis, size in enumerate(sizes) if axis != (2 if x is STEPS else 1))


def test_states_go_in_and_out(tmp_path: Path) -> None:
    """A state given and a state returned, and what one layer makes into the next."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = fnn.QuaternionLinear(8, 8), fnn.QuaternionLinear(12, 4)
            self.first, self.second = fnn.QuaternionLSTM(8, 12), fnn.QuaternionGRU(12, 12)
            self.third, self.last = fnn.QuaternionRNN(12, 12), fnn.QuaternionLiGRU(12, 12)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            y, (state, _) = self.first(self.embed(x), (h, h))
            for layer in (self.second, self.third, self.last):
                y, state = layer(y, state)
            return self.head(y), state

    found, sizes = exported(disturbed(Net()).eval(), (STEPS, torch.randn(1, 3, 12)), tmp_path / "model.onnx")
    assert (found["LSTM"], found["GRU"], found["Scan"]) == (1, 2, 1)
    assert [bool(size) for size in sizes[0]] == [True, True, False]


def network() -> nn.Sequential:
    norm = fnn.QuaternionBatchNorm(16)
    disturbed(norm)
    first, last = fnn.QuaternionConv2d(8, 16, 3, padding=1), fnn.QuaternionConv2d(16, 8, 3)
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(
        first, norm, nn.ReLU(), fnn.QuaternionDropout(), last, *pool, fnn.QuaternionLinear(8, 4)
    ).eval()


def test_a_network_is_what_a_real_one_would_be(tmp_path: Path) -> None:
    """The batch norm is folded into its convolution, dropout is gone, no weight is assembled at run time."""
    found, _ = exported(network(), (IMAGE,), tmp_path / "model.onnx")
    assert found == {"Conv": 2, "Relu": 1, "ReduceMean": 1, "Reshape": 1, "Gemm": 1}


def test_without_example_inputs() -> None:
    """Weights computed in forward are constants to a symbolic trace: plain layers come out."""
    model = network()
    fast = fusekit.optimize(model)
    kinds = Counter(type(module).__name__ for module in fast.modules())
    assert kinds["Conv2d"] == 2 and kinds["Linear"] == 1
    assert not any(name.startswith("Quaternion") for name in kinds)
    assert torch.allclose(fast(IMAGE), model(IMAGE), atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (network(), IMAGE),
        (fnn.QuaternionConv2d(8, 8, 3, groups=2, max_norm=0.5), IMAGE),
        (fnn.QuaternionRotationConv1d(8, 8, 3, scale=True), SIGNAL),
        (fnn.HypercomplexConv1d(8, 8, 3, 4, padding="same", padding_mode="circular"), SIGNAL),
        (fnn.QuaternionMaxPool1d(2), SIGNAL),
        (fnn.QuaternionLSTM(8, 12, gates="component").eval(), STEPS),
        (fnn.QuaternionLiGRU(8, 12).eval(), STEPS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_torchs_own_tracers(layer: nn.Module, x: Tensor) -> None:
    """torch.fx and torch.export follow the layers by themselves."""
    recurrent = isinstance(layer, fnn.QuaternionLSTM | fnn.QuaternionLiGRU)
    graph = fx.symbolic_trace(layer, concrete_args={"hx": None} if recurrent else None)
    program = torch.export.export(layer, (x,)).module()
    for other in (graph(x), program(x)):
        pairs = zip(pytree.tree_leaves(other), pytree.tree_leaves(layer(x)), strict=True)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_torchs_lstm_stays_free_too(tmp_path: Path) -> None:
    _, [sizes] = exported(nn.LSTM(8, 4).eval(), (STEPS,), tmp_path / "model.onnx")
    assert [bool(size) for size in sizes] == [True, True, False]
