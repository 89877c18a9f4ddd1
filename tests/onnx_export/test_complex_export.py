"""Complex layers as ONNX files: right in ONNX Runtime, sizes free, one real operator for each linear layer."""

import os
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import fusekit
import fusekit.nn as fnn
from fusekit.model import Inputs
from fusekit.model.inputs import wide_range
from fusekit.runtimes.onnx_runtime import OnnxFile
from tests.support.complex_layers import CASES


def nodes(path: Path) -> list[str]:
    """Operators of the graph and of the bodies inside."""
    found: list[str] = []

    def walk(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            found.append(node.op_type)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    walk(attribute.g)

    walk(onnx.load(str(path)).graph)
    return found


def settled(model: nn.Module, x: Tensor) -> nn.Module:
    """With statistics of its own, in evaluation."""
    with torch.no_grad():
        for _ in range(20):
            model.train()(x)
    return model.eval()


class Spectrum(nn.Module):
    """Real images to real scores through complex layers of most kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            fnn.ComplexConv2d(1, 4, 3, padding="same"),
            fnn.ComplexBatchNorm2d(4),
            fnn.CReLU(),
            fnn.ComplexMaxPool2d(2),
            fnn.ComplexConvTranspose2d(4, 6, 3, stride=2, groups=2),
            fnn.ModReLU(init=-0.1),
            fnn.ComplexDropout2d(),
            fnn.ComplexAdaptiveAvgPool2d(1),
        )
        self.head = nn.Sequential(fnn.ComplexLinear(6, 3), fnn.CTanh())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(torch.fft.fft2(x)).flatten(1))
        return y.abs()


def test_a_network_with_real_ends(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 1, 9, 10)
    model = settled(Spectrum(), x)
    result = fusekit.export(model, tmp_path / "m.onnx", (x,))
    assert result.ok, str(result)
    assert result.dynamic_axes == {"x": (0, 2, 3)}
    report: Any = result.report
    assert report.capture == "symbolic trace", str(report)


def test_a_network_with_complex_ends(tmp_path: Path) -> None:
    """[*, 2] real under the same names; a convolution is one Conv, batch norm one grouped Conv, CReLU one Relu."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, 9, 8, dtype=torch.complex64)
    layers = (fnn.ComplexConv2d(4, 6, 3, groups=2, stride=2), fnn.ComplexBatchNorm2d(6), fnn.CReLU())
    nn.init.normal_(layers[1].get_parameter("weight"))
    model = settled(nn.Sequential(*layers), x)
    path = tmp_path / "m.onnx"
    result = fusekit.export(model, path, (x,))
    assert result.ok, str(result)
    assert result.dynamic_axes == {"input": (0, 2, 3)}
    found = nodes(path)
    assert (found.count("Conv"), found.count("Relu")) == (2, 1)
    assert not {"Mul", "Sub", "Concat_complex"} & set(found)
    graph = onnx.load(str(path)).graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert value.type.tensor_type.shape.dim[-1].dim_value == 2
    wrong = nn.Sequential(*layers[:2], fnn.ZReLU()).eval()
    assert not fusekit.validate(wrong, path, (x,)).ok
    assert not fusekit.validate(model, path, (x.conj(),), tolerance=1e-9).ok


@pytest.mark.parametrize(
    ("layer", "operators"),
    [
        (fnn.ComplexLSTM(4, 3), {"Scan": 1, "LSTM": 0, "Tanh": 2}),  # once, not once for each step
        (fnn.ComplexLSTM(4, 3, product="parts"), {"Scan": 0, "LSTM": 1}),
        (fnn.NaiveComplexGRU(4, 3), {"Scan": 0, "GRU": 2}),
    ],
    ids=["complex", "parts", "naive"],
)
def test_recurrent_layers_are_not_unrolled(tmp_path: Path, layer: nn.Module, operators: dict[str, int]) -> None:
    """One operator for each real network in them; steps and batch free."""
    x = torch.randn(6, 2, 4, dtype=torch.complex64)
    result = fusekit.export(layer.eval(), tmp_path / "m.onnx", (x,))
    assert result.ok, str(result)
    assert result.dynamic_axes == {"x": (0, 1)}
    found = nodes(tmp_path / "m.onnx")
    assert {name: found.count(name) for name in operators} == operators


def test_what_goes_in_and_out_of_a_file(tmp_path: Path) -> None:
    """Two complex inputs, one of them conjugated, by name and by place; a complex and a real output."""

    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            return a * b, a.abs() + b.real

    a, b = (torch.randn(2, 3, dtype=torch.complex64) for _ in range(2))
    path = tmp_path / "m.onnx"
    result = fusekit.export(Two(), path, (a, b.conj()))
    assert result.ok, str(result)
    file = OnnxFile(path)
    outputs = file.run(Inputs.of((a, b.conj())), ["somewhere", "else"])
    assert torch.allclose(torch.view_as_complex(outputs[0][1]), a * b.conj())
    spiky = wide_range(Inputs.of((a,))).tensors()[0]
    assert spiky.dtype == torch.complex64
    assert spiky.real.any() and spiky.imag.any()


@pytest.mark.skipif("FUSEKIT_LONG" not in os.environ, reason="minutes: one file for each layer; set FUSEKIT_LONG")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layer_by_itself(case: Any, tmp_path: Path) -> None:
    single: Any = torch.complex64
    result = fusekit.export(case.module(single), tmp_path / "m.onnx", (case.input(single),))
    assert result.ok, str(result)
