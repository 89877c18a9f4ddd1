"""Complex models in real arithmetic: each operator against torch in complex128, special points, refusals, files."""

import cmath
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.capture import capture
from fusekit.capture.exported import export
from fusekit.errors import CaptureError, ExportError
from fusekit.ir.facts import facts
from fusekit.lower import Pair, functions, lowered
from fusekit.model import Inputs
from fusekit.validation.graphs_differ import difference
from tests.support.compare import report_of

C64, C128 = torch.complex64, torch.complex128


class Calls(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


PROBES: dict[str, Callable[[Tensor], Any]] = {
    "add": lambda x: x + x.conj(),
    "add complex": lambda x: x + (1 - 2j),
    "sub": lambda x: 2 - x * 3,
    "mul": lambda x: x * x,
    "mul j": lambda x: 1j * x,
    "mul j of a real": lambda x: 1j * x.real,
    "real plus j imag": lambda x: torch.relu(x.real) + 1j * torch.relu(x.imag),
    "div": lambda x: x / (x + 2),
    "div by j": lambda x: x / 2j,
    "reciprocal": lambda x: torch.reciprocal(x),
    "neg": lambda x: -x,
    "conj": lambda x: torch.conj(x) * 1.0,
    "abs": lambda x: x.abs(),
    "angle": lambda x: torch.angle(x),
    "polar": lambda x: torch.polar(x.abs(), x.angle()),
    "complex": lambda x: torch.complex(x.imag, x.real),
    "view_as_real": lambda x: torch.view_as_real(x),
    "view_as_complex": lambda x: torch.view_as_complex(torch.view_as_real(x)),
    "exp": lambda x: torch.exp(x),
    "log": lambda x: torch.log(x),
    "sqrt": lambda x: torch.sqrt(x),
    "pow": lambda x: x**3,
    "sin": lambda x: torch.sin(x),
    "cos": lambda x: torch.cos(x),
    "tanh": lambda x: torch.tanh(x),
    "sigmoid": lambda x: torch.sigmoid(x),
    "sgn": lambda x: torch.sgn(x),
    "where": lambda x: torch.where(x.real > 0, x, x * 2j),
    "eq": lambda x: x == x.conj(),
    "unsqueeze": lambda x: x.unsqueeze(-2),
    "squeeze": lambda x: x.unsqueeze(1).squeeze(1),
    "select": lambda x: x.select(-1, -2),
    "slice": lambda x: x[..., 1:3],
    "pad": lambda x: nn.functional.pad(x, (1, 2)),
    "expand": lambda x: x[:, :1].expand(-1, 3, -1, -1),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "split": lambda x: torch.split(x, 2, -1)[1],
    "chunk": lambda x: x.chunk(2, -1)[0],
    "unbind": lambda x: x.unbind(1)[-1],
    "cat": lambda x: torch.cat([x, 1j * x.real], -2),
    "stack": lambda x: torch.stack([x, x.conj()], -1),
    "flatten": lambda x: torch.flatten(x, 1),
    "reshape": lambda x: x.reshape(-1, 4),
    "permute": lambda x: x.permute(0, 3, 1, 2),
    "transpose": lambda x: x.transpose(-1, -3),
    "flip": lambda x: torch.flip(x, (-1,)),
    "roll": lambda x: torch.roll(x, 1, -2),
    "mean": lambda x: x.mean(-1),
    "sum": lambda x: x.sum((-1, -2), keepdim=True),
    "cumsum": lambda x: torch.cumsum(x, -1),
    "matmul": lambda x: x @ x.transpose(-1, -2),
    "einsum": lambda x: torch.einsum("bcij,bckj->bcik", x, x.conj()),
    "fft": lambda x: torch.fft.fft(x, dim=-1) * 1j,
    "ifft2": lambda x: torch.fft.ifft2(x * 2),
    "rfft": lambda x: torch.fft.irfft(torch.fft.rfft(x.real) * 1j, n=4),
}


@pytest.mark.parametrize("shape", [(2, 2, 3, 4), (1, 2, 4, 4)], ids=str)
@pytest.mark.parametrize("name", PROBES)
def test_operators(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = Inputs.of(torch.randn(shape, dtype=C64))
    graph = capture(Calls(PROBES[name]).eval(), inputs).graph
    real = lowered(graph)
    assert difference(graph, real, inputs) < 1e-12
    whole = [node.name for node in real.nodes if "fft" not in node.name and node.op == "call_function"]
    assert whole, "the probe has no operator"


LAYERS = {
    "conv1d": (nn.Conv1d(2, 3, 3, padding=1, dtype=C64), (2, 2, 7)),
    "conv1d alone": (nn.Conv1d(2, 3, 3, dtype=C64), (2, 7)),
    "conv2d": (nn.Conv2d(2, 3, 3, stride=2, dtype=C64), (2, 2, 7, 6)),
    "conv2d groups": (nn.Conv2d(4, 4, 3, groups=2, dtype=C64), (2, 4, 5, 5)),
    "conv2d no bias": (nn.Conv2d(2, 2, 2, bias=False, dilation=2, dtype=C64), (2, 2, 5, 5)),
    "conv3d": (nn.Conv3d(2, 2, 2, dtype=C64), (1, 2, 3, 3, 3)),
    "conv_transpose1d": (nn.ConvTranspose1d(2, 3, 3, stride=2, dtype=C64), (2, 2, 5)),
    "conv_transpose2d": (nn.ConvTranspose2d(2, 3, 3, stride=2, output_padding=1, dtype=C64), (2, 2, 4, 4)),
    "conv_transpose2d groups": (nn.ConvTranspose2d(4, 2, 3, groups=2, dtype=C64), (2, 4, 4, 4)),
    "linear": (nn.Linear(4, 5, dtype=C64), (3, 2, 4)),
    "linear no bias": (nn.Linear(4, 4, bias=False, dtype=C64), (4,)),
    "linear, viewed": (nn.Sequential(nn.Linear(4, 6, dtype=C64), Calls(lambda x: x.view(-1, 9))), (3, 4)),
    "linear, viewed as another": (
        nn.Sequential(nn.Linear(4, 6, dtype=C64), Calls(lambda x: x.view_as(torch.zeros(2, 9)))),
        (3, 4),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    layer, shape = LAYERS[name]
    inputs = Inputs.of(torch.randn(shape, dtype=C64))
    graph = capture(nn.Sequential(layer).eval(), inputs).graph
    real = lowered(graph)
    assert difference(graph, real, inputs) < 1e-12
    layers = [n for n in real.nodes if "conv" in str(n.target) or "linear" in str(n.target)]
    assert len(layers) == (4 if "groups" in name else 1)
    dtypes = [facts(n).dtype for n in real.nodes if n.op == "get_attr"]
    assert all(dtype is torch.float32 for dtype in dtypes)


PARTS = (0.0, -0.0, 1.0, -1.0, 0.3, -2.5, 1e-30, -1e-30, 1e30, -1e30)
POINTS = torch.tensor([complex(a, b) for a in PARTS for b in PARTS], dtype=C128)


def _pair(z: Tensor) -> Pair:
    return Pair(z.real.clone(), z.imag.clone())


def test_the_angle_of_special_points() -> None:
    expected = torch.tensor([cmath.phase(complex(z)) for z in POINTS], dtype=torch.float64)
    found = functions.angle(_pair(POINTS))
    assert torch.allclose(found, expected, rtol=1e-15, atol=0)
    assert torch.equal(torch.signbit(found), torch.signbit(expected))
    minus_one = functions.angle(Pair(torch.tensor(-1.0), None))
    assert minus_one == torch.tensor(math.pi)


def test_the_magnitude_neither_overflows_nor_underflows() -> None:
    narrow = POINTS.to(C64)
    expected = torch.tensor([abs(complex(z)) for z in narrow], dtype=torch.float64)
    assert torch.allclose(functions.magnitude(_pair(narrow)).double(), expected, rtol=3e-7, atol=0)


def test_small_and_large_quotients() -> None:
    points = POINTS[(POINTS.real.abs() > 0) & (POINTS.imag.abs() > 0)].to(C64)
    found = functions.quotient(_pair(points), _pair(points))
    assert torch.allclose(found.re, torch.ones_like(found.re), rtol=1e-6)
    assert torch.allclose(found.im, torch.zeros_like(found.im), atol=1e-6)


def test_tanh_of_large_numbers() -> None:
    found = functions.tanh(_pair(torch.tensor([50 + 1j, -50 + 1j, 400 - 2j, 0.5 + 0j], dtype=C64)))
    assert torch.allclose(found.re, torch.tensor([1.0, -1.0, 1.0, math.tanh(0.5)]))
    assert bool(found.im.isfinite().all())


@pytest.mark.parametrize("function", [torch.linalg.det, torch.linalg.inv, torch.atan], ids=lambda f: f.__name__)
def test_an_operator_without_a_rule_is_named(function: Callable[[Tensor], Tensor]) -> None:
    inputs = Inputs.of(torch.randn(3, 3, dtype=C64))
    graph = capture(Calls(function).eval(), inputs).graph
    with pytest.raises(CaptureError, match=rf"no real form of \w*{function.__name__.rpartition('_')[2]}"):
        lowered(graph)


def test_two_layers_in_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, dtype=C64), nn.Conv2d(3, 2, 1, dtype=C64)).eval()
    x = torch.randn(2, 2, 5, 5, dtype=C64)
    result = fusekit.optimize(layers, x, measure=False)
    report = report_of(result)
    assert "lower-complex" in [event.rewrite for event in report.applied]
    assert torch.allclose(result(x), layers(x), atol=1e-5)
    assert all(not p.is_complex() for p in result.parameters())
    path = tmp_path / "layers.onnx"
    assert fusekit.export(layers, path, x, measure=False).ok
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert "Split" not in operators[: operators.index("Conv")]
    assert operators.count("Conv") <= 2


def test_what_cannot_be_lowered_stays_and_is_reported() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3, dtype=C64)

        def forward(self, x: Tensor) -> Tensor:
            inverse: Tensor = torch.linalg.inv(self.linear(x))
            return inverse

    model, x = Model().eval(), torch.randn(3, 3, dtype=C64)
    result = fusekit.optimize(model, x, measure=False)
    report = report_of(result)
    assert torch.equal(result(x), model(x))
    assert any(event.rewrite == "lower-complex" and "inv" in event.reason for event in report.of("refused"))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(2, 3, 2, dtype=C64),
        nn.ConvTranspose1d(2, 3, 2, 2, groups=1, dtype=C64),
        Calls(lambda x: nn.functional.adaptive_avg_pool3d(x.unflatten(-1, (3, 3)), 1)),
    ],
)
def test_programs_whose_arguments_are_left_out(layer: nn.Module) -> None:
    """torch.export leaves out what is the default; ATen takes no number for a list."""
    inputs = Inputs.of(torch.randn(2, 2, 9, dtype=C64))
    graph = export(layer.eval(), inputs)
    assert difference(graph, lowered(graph), inputs) < 1e-12


def test_what_is_computed_from_parameters_alone_needs_no_real_form(tmp_path: Path) -> None:
    class Unitary(nn.Module):
        """W = (1 + A)⁻¹(1 - A) with A = -Aᴴ, Cayley's form (Helfrich et al., 2018)."""

        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.randn(4, 4, dtype=C64))

        def forward(self, x: Tensor) -> Tensor:
            a, one = self.a - self.a.mH, torch.eye(4, dtype=C64)
            weight: Tensor = torch.linalg.solve(one + a, one - a)
            return x @ weight if len(x) > 2 else x @ weight.mT

    model, x = Unitary().eval(), torch.randn(3, 4, dtype=C64)
    assert fusekit.export(model, tmp_path / "unitary.onnx", x, measure=False).ok


def test_writes_into_complex_tensors() -> None:
    def overlapped(x: Tensor) -> Tensor:
        out = torch.zeros(x.shape[0], 12, dtype=x.dtype)
        for step in range(3):
            out[:, 3 * step : 3 * step + 5] = out[:, 3 * step : 3 * step + 5] + x[:, step]
        return out

    inputs = Inputs.of(torch.randn(2, 3, 5, dtype=C64))
    graph = export(Calls(overlapped).eval(), inputs)
    assert any("copy" in str(node.target) for node in graph.nodes)
    assert difference(graph, lowered(graph), inputs) < 1e-12


def test_numbers_that_are_only_passed_on_are_not_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "passed.onnx"
    assert fusekit.export(nn.Sequential(nn.Dropout()).eval(), path, torch.randn(2, 3, dtype=C64), measure=False).ok
    assert len(onnx.load(path).graph.node) <= 1


def test_both_reasons_are_told_where_there_is_no_file(tmp_path: Path) -> None:
    model = Calls(lambda x: torch.linalg.inv(torch.exp(x))).eval()
    with pytest.raises(
        ExportError, match=r"no real form of linalg_inv .*; and with complex operators: torch\.onnx could not"
    ):
        fusekit.export(model, tmp_path / "none.onnx", torch.randn(3, 3, dtype=C64), measure=False)


def test_a_model_of_one_size_is_lowered_at_that_size(tmp_path: Path) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept: dict[int, nn.Module] = {}
            self.layer = nn.Linear(4, 5, dtype=C64)

        def forward(self, x: Tensor) -> Tensor:
            width = x.shape[-1]
            self.kept.setdefault(width, nn.AvgPool1d(4))
            pooled: Tensor = self.kept[width](self.layer(x).abs())
            return sum(pooled.unbind(1), torch.zeros(()))

    x = torch.randn(2, 3, 4, dtype=C64)
    report = report_of(fusekit.optimize(Pooled().eval(), x, target="onnxruntime", measure=False))
    assert "lower-complex" in [event.rewrite for event in report.applied]
    assert any("all but the batch, are fixed" in event.reason for event in report.refused)
    verdict = fusekit.export(Pooled().eval(), tmp_path / "pooled.onnx", x, measure=False)
    assert verdict.ok
    assert verdict.dynamic_axes == {"x": (0,)}
    kept = fusekit.optimize(Pooled().eval(), x, measure=False)  # which may be called with other sizes
    other = torch.randn(1, 2, 4, dtype=C64)
    assert kept(other).shape == (1, 1)


@pytest.mark.parametrize(
    "pieces",
    [
        lambda x: x.split(2, 1),
        lambda x: x.split([1, 4], dim=1),
        lambda x: x.chunk(3, -1),
        lambda x: x.unbind(1),
        lambda x: x.tensor_split(2, 1),
    ],
)
def test_pieces_that_are_handed_out(pieces: Callable[[Tensor], Any], tmp_path: Path) -> None:
    """A file has so many outputs; what answers in place of a model has as many as its input asks for."""
    model, x = Calls(pieces).eval(), torch.randn(2, 5, 4, dtype=C64)
    path = tmp_path / "pieces.onnx"
    assert fusekit.export(model, path, x, measure=False).ok
    assert len(onnx.load(path).graph.output) == len(model(x))
    inputs = Inputs.of(x)
    graph = capture(model, inputs).graph
    with pytest.raises(CaptureError, match="list of unknown length"):
        lowered(graph)


def test_pieces_that_are_joined_again() -> None:
    layer = nn.Linear(3, 6, dtype=C64)
    inputs = Inputs.of(torch.randn(2, 3, dtype=C64))
    graph = capture(nn.Sequential(layer, Calls(lambda x: torch.cat(x.chunk(3, -1), 0))).eval(), inputs).graph
    assert difference(graph, lowered(graph, matrices=True), inputs) < 1e-12
