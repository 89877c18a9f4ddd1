"""stft and istft as convolutions with constant filters: equal to torch's in complex128, and in ONNX Runtime at other
lengths."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.capture import capture
from fusekit.capture.exported import export
from fusekit.ir import Graph
from fusekit.lower import lowered
from fusekit.model import Inputs
from fusekit.validation.graphs_differ import difference
from tests.support.compare import report_of

C64 = torch.complex64
HANN, SHORT = torch.hann_window(8), torch.hamming_window(6)


class Analysis(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        return torch.stft(x, return_complex=True, **self.options) * 1j


class Synthesis(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        return torch.istft(x * 1j, **self.options)


ANALYSES: dict[str, dict[str, Any]] = {
    "plain": {"n_fft": 8, "window": HANN},
    "rectangular": {"n_fft": 8, "hop_length": 3, "window": torch.ones(8)},
    "short window": {"n_fft": 8, "win_length": 6, "hop_length": 2, "window": SHORT},
    "odd": {"n_fft": 7, "hop_length": 2, "window": torch.hann_window(7)},
    "not centred": {"n_fft": 8, "center": False, "window": HANN},
    "normalized": {"n_fft": 8, "normalized": True, "window": HANN},
    "two sides": {"n_fft": 8, "onesided": False, "window": HANN},
    "constant pad": {"n_fft": 8, "pad_mode": "constant", "window": HANN},
    "one sample": {"n_fft": 1, "hop_length": 1, "window": torch.ones(1)},
}
SYNTHESES: dict[str, dict[str, Any]] = {
    "plain": {"n_fft": 8, "window": HANN},
    "rectangular": {"n_fft": 8, "hop_length": 3, "window": torch.ones(8)},
    "short window": {"n_fft": 8, "win_length": 6, "hop_length": 2, "window": SHORT},
    "odd": {"n_fft": 9, "hop_length": 2, "window": torch.hann_window(9)},
    "length": {"n_fft": 8, "window": HANN, "length": 17},
    "too long": {"n_fft": 8, "window": HANN, "length": 40},
    "not centred": {"n_fft": 8, "center": False, "window": SHORT.new_ones(8)},
    "normalized": {"n_fft": 8, "normalized": True, "window": HANN},
}


def real_form(model: nn.Module, x: Tensor, *, exported: bool = False) -> float:
    inputs = Inputs.of(x)
    graph: Graph = export(model.eval(), inputs) if exported else capture(model.eval(), inputs).graph
    real = lowered(graph, matrices=True)
    names = [str(getattr(node.target, "__name__", node.target)) for node in real.nodes]
    assert not any("stft" in name for name in names)
    return difference(graph, real, inputs)


@pytest.mark.parametrize("shape", [(21,), (2, 21)], ids=str)
@pytest.mark.parametrize("name", ANALYSES)
def test_stft(name: str, shape: tuple[int, ...]) -> None:
    assert real_form(Analysis(**ANALYSES[name]), torch.randn(shape)) < 1e-12


@pytest.mark.parametrize("name", ["plain", "short window", "odd"])
def test_stft_of_complex_signals(name: str) -> None:
    options = {**ANALYSES[name], "onesided": False}
    assert real_form(Analysis(**options), torch.randn(2, 21, dtype=C64)) < 1e-12


@pytest.mark.parametrize("frames", [(6,), (2, 6)], ids=str)
@pytest.mark.parametrize("name", SYNTHESES)
def test_istft(name: str, frames: tuple[int, ...]) -> None:
    shape = (*frames[:-1], SYNTHESES[name]["n_fft"] // 2 + 1, frames[-1])
    assert real_form(Synthesis(**SYNTHESES[name]), torch.randn(shape, dtype=C64)) < 1e-12


def test_istft_to_complex_signals() -> None:
    model = Synthesis(n_fft=8, window=HANN, onesided=False, return_complex=True)
    assert real_form(model, torch.randn(2, 8, 6, dtype=C64)) < 1e-12


@pytest.mark.parametrize("n", [2, 8, 9])
def test_istft_of_two_sides_that_disagree(n: int) -> None:
    model = Synthesis(n_fft=n, hop_length=max(1, n // 4), window=torch.ones(n), onesided=False)
    assert real_form(model, torch.randn(2, n, 6, dtype=C64)) < 1e-12


@pytest.mark.parametrize("name", ["plain", "not centred"])
def test_of_exported_programs(name: str) -> None:
    assert real_form(Analysis(**ANALYSES[name]), torch.randn(2, 21), exported=True) < 1e-12
    assert real_form(Synthesis(**SYNTHESES[name]), torch.randn(2, 5, 6, dtype=C64), exported=True) < 1e-12


def test_a_complex_window_is_refused() -> None:
    with pytest.raises(fusekit.CaptureError, match=r"stft .*complex window"):
        real_form(Analysis(n_fft=8, window=HANN + 1j, onesided=False), torch.randn(2, 21, dtype=C64))


class Lines(nn.Module):
    """Every transform of a fixed length: cut, padded, on another axis, in every norm."""

    def forward(self, x: Tensor) -> list[Tensor]:
        fft = torch.fft
        return [
            *(fft.fft(x, n=n, norm=norm) * 1j for n in (6, 7, 1, 12) for norm in ("backward", "ortho", "forward")),
            *(fft.ifft(x, n=n, dim=1) * 1j for n in (3, 4, 8)),
            *(fft.rfft(x.real, n=n, dim=d) * 1j for n in (5, 6, 9) for d in (-1, -2)),
            *(fft.irfft(x, n=n, norm="ortho") for n in (6, 7, 10, 11)),
            fft.fft(x.real, n=6) * 1j,
            fft.fft(1j * x.real, n=5) * 1j,
            fft.fft(x, n=1030)[..., :2] * 1j,
        ]


@pytest.mark.parametrize("exported", [False, True])
def test_transforms_of_fixed_lengths(exported: bool) -> None:
    inputs = Inputs.of(torch.randn(2, 3, 6, dtype=C64))
    graph = export(Lines().eval(), inputs) if exported else capture(Lines().eval(), inputs).graph
    real = lowered(graph, matrices=True)
    assert difference(graph, real, inputs) < 1e-12
    names = [str(getattr(node.target, "__name__", node.target)) for node in real.nodes]
    assert not any("fft" in name for name in names), "all are products"


def test_items_of_a_spectrum_are_assigned() -> None:
    class Assigned(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            z = torch.fft.rfft(x)
            y = z.clone()
            y[..., :3] = z[..., 1:4] * 2j
            size: Tensor = y.abs()
            return size

    inputs = Inputs.of(torch.randn(2, 16))
    graph = capture(Assigned().eval(), inputs).graph
    assert difference(graph, lowered(graph, matrices=True), inputs) < 1e-12


def test_transforms_of_fixed_lengths_in_a_file(tmp_path: Path) -> None:
    class Few(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            z = torch.fft.rfft(x, n=12)
            return torch.fft.irfft(z * z, n=12), torch.fft.fft(z, n=10, dim=-1).abs()

    assert fusekit.export(Few().eval(), tmp_path / "few.onnx", torch.randn(2, 9), measure=False).ok
    session = ort.InferenceSession(str(tmp_path / "few.onnx"), providers=["CPUExecutionProvider"])
    assert "DFT" not in [node.op_type for node in onnx.load(tmp_path / "few.onnx").graph.node]
    x = torch.randn(3, 9)
    for found, expected in zip(session.run(None, {"x": x.numpy()}), Few()(x), strict=True):
        assert np.abs(found - expected.numpy()).max() < 1e-5 * float(expected.abs().max())


def test_a_transform_of_free_length_in_a_file(tmp_path: Path) -> None:
    class Convolved(nn.Module):
        """With a kernel as long as the signal, by spectra of twice the length (S4 and its kind)."""

        def forward(self, x: Tensor) -> Tensor:
            length = x.shape[-1]
            kernel = torch.exp(torch.arange(length) * (0.9j - 0.1))
            spectrum = torch.fft.fft(x, n=2 * length) * torch.fft.fft(kernel, n=2 * length)
            filtered: Tensor = torch.fft.ifft(spectrum)[..., :length]
            spectra: Tensor = torch.fft.rfft(x.real, n=2 * length)[..., :length]
            return filtered + spectra

    path, x = tmp_path / "convolved.onnx", torch.randn(2, 9, dtype=C64)
    assert fusekit.export(Convolved().eval(), path, x, measure=False).ok
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in [(2, 9), (3, 14)]:
        x = torch.randn(shape, dtype=C64)
        (found,) = session.run(None, {session.get_inputs()[0].name: torch.view_as_real(x).numpy()})
        expected = torch.view_as_real(Convolved()(x)).numpy()
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


class Enhancer(nn.Module):
    """Spectrogram, complex mask out of complex layers, signal."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(16))
        self.encode = nn.Conv1d(9, 6, 3, padding=1, dtype=C64)
        self.decode = nn.Conv1d(6, 9, 3, padding=1, dtype=C64)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.stft(x, 16, 4, window=self.window, return_complex=True)  # type: ignore[arg-type]
        h = self.encode(z)
        mask = self.decode(torch.complex(torch.relu(h.real), torch.relu(h.imag)))
        return torch.istft(z * mask / (1 + mask.abs()), 16, 4, window=self.window, length=x.shape[-1])  # type: ignore[arg-type]


def test_a_network_on_spectrograms_in_a_file_of_free_length(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, path = Enhancer().eval(), tmp_path / "enhancer.onnx"
    result = fusekit.export(model, path, torch.randn(2, 64), measure=False)
    assert result.ok
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert {"DFT", "STFT", "ScatterND", "ScatterElements"}.isdisjoint(operators)
    assert operators.count("Conv") == 3 and operators.count("ConvTranspose") == 2
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in [(2, 64), (1, 83), (3, 120)]:
        x = torch.randn(shape)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        expected = model(x).detach().numpy()
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_torch_keeps_its_own_transforms() -> None:
    torch.manual_seed(0)
    model, x = Enhancer().eval(), torch.randn(2, 64)
    result = fusekit.optimize(model, x, measure=False)
    assert "lower-complex" in [event.rewrite for event in report_of(result).applied]
    assert torch.allclose(result(x), model(x), atol=1e-5)
