"""Complex models in files between real ends: interleaved, planar, pairs."""

from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.cli.options import Ends
from fusekit.errors import FusekitError
from fusekit.model import Inputs
from fusekit.onnx_export import between_real_ends
from fusekit.onnx_export.real_ends import ENDS

C64 = torch.complex64


class Two(nn.Module):
    """A complex and a real tensor in, a dict of both kinds out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3, padding=1, dtype=C64)

    def forward(self, z: Tensor, gain: Tensor) -> dict[str, Any]:
        y = self.conv(z) * gain
        return {"y": y, "loud": y.abs(), "both": (y.conj(), gain * 2)}


def example() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 2, 9, dtype=C64), torch.rand(2, 1, 1)


def test_the_words_are_the_ends() -> None:
    assert tuple(end.value for end in Ends) == ENDS


@pytest.mark.parametrize("io", ENDS)
def test_a_file_between_real_ends(io: str, tmp_path: Path) -> None:
    model, (z, gain), path = Two().eval(), example(), tmp_path / "model.onnx"
    assert fusekit.export(model, path, (z, gain), io=io, measure=False).ok
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    z, gain = torch.randn(3, 2, 14, dtype=C64), torch.rand(3, 1, 1)  # another batch and length
    feeds = {
        "interleaved": {"z": torch.view_as_real(z)},
        "planar": {"z": torch.cat([z.real, z.imag], 1)},
        "pair": {"z_re": z.real, "z_im": z.imag},
    }
    feed = {name: t.contiguous().numpy() for name, t in (feeds[io] | {"gain": gain}).items()}
    assert {value.name for value in session.get_inputs()} == set(feed)
    found = [torch.as_tensor(numpy.asarray(array)) for array in session.run(None, feed)]
    expected = model(z, gain)
    for value in (expected["y"], expected["both"][0]):
        parts = {
            "interleaved": (torch.view_as_real(value.resolve_conj()),),
            "planar": (torch.cat([value.real, value.imag], 1),),
            "pair": (value.real, value.imag),
        }[io]
        for part in parts:
            assert any(t.shape == part.shape and torch.allclose(t, part, atol=1e-6) for t in found)
    assert any(t.shape == expected["loud"].shape and torch.allclose(t, expected["loud"], atol=1e-6) for t in found)


def test_planes_need_no_conversion(tmp_path: Path) -> None:
    """The whole file of conv - split activation - conv is these three operators."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = (nn.Conv2d(2, 2, 3, padding=1, dtype=C64) for _ in range(2))

        def forward(self, z: Tensor) -> Tensor:
            z = self.first(z)
            y: Tensor = self.last(torch.complex(torch.relu(z.real), torch.relu(z.imag)))
            return y

    z = torch.randn(1, 2, 7, 8, dtype=C64)
    assert fusekit.export(Net().eval(), tmp_path / "net.onnx", z, io="planar", measure=False).ok
    assert [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node] == ["Conv", "Relu", "Conv"]


def test_real_models_have_real_ends_already() -> None:
    model, x = nn.Sequential(nn.Linear(3, 2)), torch.randn(4, 3)
    for io in ENDS:
        wrapped, inputs = between_real_ends(model, Inputs.of(x), io)
        assert torch.equal(inputs.call(wrapped), model(x))


@pytest.mark.parametrize("rank", [1, 2])
def test_vectors_and_keywords(rank: int) -> None:
    class Double(nn.Module):
        def forward(self, *, z: Tensor, factor: float = 1.0) -> Tensor:
            return z * (1 + 1j) * factor

    z = torch.randn((2, 3)[:rank], dtype=C64)
    wrapped, inputs = between_real_ends(Double(), Inputs.of({"z": z, "factor": 0.5}), "planar")
    y = z * (0.5 + 0.5j)
    assert torch.allclose(inputs.call(wrapped), torch.cat([y.real, y.imag], rank - 1))
    assert inputs.names(wrapped) == ["z"]


@pytest.mark.parametrize(
    ("inputs", "io", "said"),
    [
        (example()[0], "polar", "io must be one of interleaved, planar, pair, got 'polar'"),
        ([[example()[0]]], "pair", "takes tensors, got a list"),
        (torch.tensor(1j), "planar", "a complex scalar has no planar form"),
    ],
)
def test_what_has_no_real_ends(inputs: Any, io: str, said: str, tmp_path: Path) -> None:
    class Same(nn.Module):
        def forward(self, z: Any) -> Any:
            return z

    with pytest.raises(FusekitError, match=said):
        fusekit.export(Same(), tmp_path / "m.onnx", inputs, io=io)
    assert not any(tmp_path.iterdir())


def test_double_precision_is_refused_with_advice(tmp_path: Path) -> None:
    model, z = nn.Conv1d(2, 3, 3, dtype=torch.complex128), torch.randn(1, 2, 9, dtype=torch.complex128)
    with pytest.raises(FusekitError, match=r"export model\.float\(\)"):
        fusekit.export(model, tmp_path / "m.onnx", z, measure=False)
    assert not any(tmp_path.iterdir())
