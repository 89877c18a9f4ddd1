"""Two models on a data set: every kind of data, the distribution of errors, what is wrong, and who does it."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

import fusekit
from fusekit.errors import FusekitError
from fusekit.on_data.source import Source
from fusekit.on_data.verdict import SampleError, judged
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.sampling.data_set import open_data_set
from tests.support.cli_room import run

CODE = """
import torch
from torch import nn

def net(shift=0.0, fixed=False):
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4, 5)).eval()
    made[-1].bias.data[0] += shift
    return made
"""
COUNT = 11


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A factory, files made of it, and the same data in every form."""
    room = tmp_path_factory.mktemp("data")
    (room / "nets.py").write_text(CODE)
    model = net(room)
    torch.onnx.export(
        model,
        (torch.randn(2, 3, 8, 8),),
        room / "free.onnx",
        dynamic_shapes=({0: torch.export.Dim("n")},),
        verbose=False,
    )
    torch.onnx.export(model, (torch.randn(4, 3, 8, 8),), room / "four.onnx", verbose=False)
    torch.onnx.export(
        net(room, shift=1e-3), (torch.randn(2, 3, 8, 8),), room / "wrong.onnx",
        dynamic_shapes=({0: torch.export.Dim("n")},), verbose=False,
    )  # fmt: skip
    data = numpy.random.default_rng(0).normal(size=(COUNT, 3, 8, 8)).astype("float32")
    numpy.save(room / "data.npy", data)
    numpy.savez(room / "plain.npz", input=data)
    numpy.savez_compressed(room / "packed.npz", input=data.astype("float64"))
    (room / "arrays").mkdir()
    for number, array in enumerate(data):
        numpy.save(room / "arrays" / f"{number:02}.npy", array if number % 2 else array[None])
    return room


def net(room: Path, **words: Any) -> nn.Module:
    return fusekit.load(f"{room / 'nets.py'}:net", arguments=words)


@pytest.mark.parametrize("name", ["data.npy", "plain.npz", "packed.npz", "arrays"])
def test_every_form_holds_the_same_samples(name: str, room: Path) -> None:
    data = open_data_set(room / name, ONNX_RUNTIME.load(room / "free.onnx").inputs)
    expected = torch.from_numpy(numpy.load(room / "data.npy"))
    assert len(data) == COUNT
    for start, stop in ((7, 11), (0, 3)):  # also backwards
        found = torch.cat([sample["input"] for sample in data.samples(start, stop)])
        assert torch.equal(found, expected[start:stop])


def test_parquet(room: Path, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    array = numpy.load(room / "data.npy")
    for name, cells in (("flat", array.reshape(COUNT, -1).tolist()), ("nested", array.tolist())):
        table = arrow.table({"input": cells, "label": list(range(COUNT))})
        parquet.write_table(table, tmp_path / f"{name}.parquet", row_group_size=4)
        data = open_data_set(tmp_path / f"{name}.parquet", ONNX_RUNTIME.load(room / "free.onnx").inputs)
        found = torch.cat([sample["input"] for sample in data.samples(2, 9)])
        assert len(data) == COUNT and torch.equal(found, torch.from_numpy(array[2:9]))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images(dtype: str, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pixels = numpy.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype("uint8")
    pillow.fromarray(pixels).save(tmp_path / "a.png")
    pillow.fromarray(pixels[:4]).save(tmp_path / "b.PNG")
    from fusekit.runtimes.file import Port

    port = Port("x", getattr(torch, dtype), (None, 3, 8, 6))
    data = open_data_set(tmp_path, [port])
    first, second = (sample["x"] for sample in data.samples(0, 2))
    expected = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    assert torch.equal(first, expected if dtype == "uint8" else expected.float() / 255)
    assert second.shape == (1, 3, 8, 6) and any("resized" in note for note in data.notes)
    free = open_data_set(tmp_path, [Port("x", getattr(torch, dtype), (None, None, None, 1))])
    assert [tuple(sample["x"].shape) for sample in free.samples(0, 2)] == [(1, 8, 6, 1), (1, 4, 6, 1)]


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_a_file_that_is_right(batch: int, room: Path, tmp_path: Path) -> None:
    found = fusekit.validate_on_data(
        net(room), room / "free.onnx", room / "data.npy", batch=batch, save=tmp_path / "new" / "worst", worst=2
    )
    assert found.ok and found.samples == COUNT == len(found.errors)
    (numbers,) = found.distribution.values()
    assert 0 < numbers["error_median"] <= numbers["error_99"] <= numbers["error_max"] <= numbers["tolerance"]
    (classes,) = found.classes.values()
    assert classes == {"samples": COUNT, "agree": COUNT, "reference": COUNT}
    assert found.worst[0].error == numbers["error_max"]
    saved = numpy.load(tmp_path / "new" / "worst" / "worst-1.npz")["input"]
    assert numpy.array_equal(saved[0], numpy.load(room / "data.npy")[found.worst[0].number])
    assert "11 samples agree" in str(found) and json.loads(found.to_json())["compared"] == COUNT


def test_a_fixed_batch_is_filled_up(room: Path) -> None:
    """11 samples are no multiple of 4; each is compared once, with its own numbers."""
    four = fusekit.validate_on_data(net(room), room / "four.onnx", room / "data.npy")
    free = fusekit.validate_on_data(net(room), room / "free.onnx", room / "data.npy")
    assert four.ok and [e.number for e in four.errors] == [e.number for e in free.errors] == list(range(COUNT))
    assert [e.classes for e in four.errors] == [e.classes for e in free.errors]


def test_one_sample_that_is_off_is_found(room: Path, tmp_path: Path) -> None:
    """The planted slip is in one sample alone: a step that the reference does not have above a bound."""

    class Stepping(nn.Module):
        def __init__(self, step: float) -> None:
            super().__init__()
            self.step = step

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return torch.where(input > 9.0, input * (1 + self.step), input)

    data = numpy.random.default_rng(1).uniform(0, 8, (100, 4)).astype("float32")
    data[63, 2] = 10.0
    numpy.savez(tmp_path / "data.npz", input=data)
    free = ({0: torch.export.Dim("n")},)
    torch.onnx.export(Stepping(1e-3).eval(), (torch.zeros(2, 4),), tmp_path / "step.onnx", dynamic_shapes=free)
    found = fusekit.validate_on_data(Stepping(0.0), tmp_path / "step.onnx", tmp_path / "data.npz", batch=16)
    assert not found.ok and len(found.failures) == 1
    assert found.failures[0].startswith("sample 63, ") and found.worst[0].number == 63
    assert fusekit.validate_on_data(Stepping(0.0), tmp_path / "step.onnx", tmp_path / "data.npz", tolerance=1e-2).ok


def test_the_tolerance_of_a_sample_is_not_its_luck() -> None:
    """A sample whose own error is 0 by chance is judged by the others; one that is off by more than them is not."""
    usual = [SampleError(n, str(n), "y", 4e-7, 4e-7) for n in range(98)]
    lucky, off = SampleError(98, "98", "y", 5e-6, 0.0), SampleError(99, "99", "y", 5e-5, 4e-7)
    found = judged([*usual, lucky, off], 1, None)
    assert [each.number for each in found if each.reason] == [99]
    assert found[98].tolerance == pytest.approx(16 * 4e-7)


def test_files_and_processes_agree(room: Path) -> None:
    """An ONNX file as the reference; and two processes, which give the same numbers as one."""
    alone = fusekit.validate_on_data(str(room / "free.onnx"), room / "wrong.onnx", room / "plain.npz", batch=4)
    source = Source("nets.py:net", root=str(room))
    here = fusekit.validate_on_data(source, room / "wrong.onnx", room / "plain.npz", batch=4)
    there = fusekit.validate_on_data(source, room / "wrong.onnx", room / "plain.npz", batch=4, workers=1)
    assert not alone.ok and len(alone.failures) == len(here.failures) == COUNT
    assert [e.number for e in there.errors] == list(range(COUNT))
    assert [e.error for e in there.errors] == pytest.approx([e.error for e in here.errors], rel=1e-2)


def test_on_the_command_line(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(room)
    page = tmp_path / "page.html"
    words = ("validate", "nets.py:net", "free.onnx", "--data", "data.npy", "--report", str(page))
    told = run(*words, "--json", "--save", str(tmp_path / "worst"), "--worst", "1")
    assert told.code == 0, told
    result = json.loads(told.stdout)
    assert result["command"] == "validate" and result["ok"] and result["samples"] == COUNT
    text = page.read_text()
    assert "99 % of the samples" in text and "top class of" in text
    again = run("validate", "nets.py:net", "free.onnx", "--input", str(tmp_path / "worst" / "worst-1.npz"))
    assert again.code == 0, again
    told = run("validate", "nets.py:net", "wrong.onnx", "--data", "plain.npz")
    assert told.code == 1 and told.stderr.startswith("error: the numbers differ: sample 0, ")
    assert "NOT VALID: 11 of 11 samples" in told.stdout


REFUSED = {
    "nothing there": (("--data", "none.npz"), "no such file or folder; expected a data set"),
    "another kind": (("--data", "nets.py"), "is no data set that can be read"),
    "an empty folder": (("--data", "empty"), "neither .png or .jpg images nor .npy files"),
    "another name": (("--data", "names.npz"), "there is no 'input' in it, but a, b"),
    "another shape": (("--data", "shape.npy"), "sample 0: its shape is 3x9x9; expected 3x8x8"),
    "text": (("--data", "text.npz"), "expected numbers"),
    "noise": (("--data", "noise.npz"), "cannot be read as an .npz file"),
    "complex numbers": (("--data", "complex.npy"), "takes float32"),
    "a damaged image": (("--data", "damaged"), "cannot be read as an image"),
    "also an input": (("--data", "data.npy", "--input", "1x3x8x8"), "expected one of both"),
    "no data to save": (("--input", "1x3x8x8", "--save", "x"), "only with --data"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(room)
    for folder in ("empty", "damaged"):
        Path(folder).mkdir(exist_ok=True)
    Path("damaged/a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    numpy.savez("names.npz", a=numpy.ones((2, 3)), b=numpy.ones((2, 3)))
    numpy.save("shape.npy", numpy.ones((2, 3, 9, 9), "float32"))
    numpy.save("complex.npy", numpy.ones((2, 3, 8, 8), "complex64"))
    numpy.savez("text.npz", input=numpy.array(["a", "b"]))
    Path("noise.npz").write_bytes(b"\x93\x00" * 20)
    words, reason = REFUSED[name]
    told = run("validate", "nets.py:net", "free.onnx", *words)
    assert (told.code, told.stdout) == (2, ""), told
    assert told.stderr.startswith(("error: ", "Error: ")) and told.stderr.count("\n") == 1
    assert reason in told.stderr


def test_a_module_cannot_go_elsewhere(room: Path) -> None:
    with pytest.raises(FusekitError, match="other processes cannot take a module"):
        fusekit.validate_on_data(net(room), room / "free.onnx", room / "data.npy", workers=2)
