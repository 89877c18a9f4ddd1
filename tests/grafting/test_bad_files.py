"""Files that are no whole and lawful models: one line, and nothing is written."""

from collections.abc import Callable
from pathlib import Path

import numpy
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, numpy_helper

import fusekit
from fusekit.errors import FusekitError
from tests.support.cli_room import run
from tests.support.onnx_files import drawn, model, node, saved


def good() -> ModelProto:
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "y")]
    return model(nodes, {"w": drawn(4, 3, 3, 3)}, {"x": ("n", 3, 8, 8)}, {"y": ("n", 4, 6, 6)})


def outside(place: str) -> Callable[[Path], Path]:
    """A model whose weight lies elsewhere."""

    def make(folder: Path) -> Path:
        (folder / "inner").mkdir()
        (folder / "secret.bin").write_bytes(numpy.ones(4 * 3 * 9, "float32").tobytes())
        proto = good()
        weight = proto.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=place.replace("FOLDER", str(folder)))
        (folder / "inner" / "model.onnx").write_bytes(proto.SerializeToString())
        return folder / "inner" / "model.onnx"

    return make


def cut(folder: Path) -> Path:
    path = saved(good(), folder)
    path.write_bytes(path.read_bytes()[:-60])
    return path


def cyclic(folder: Path) -> Path:
    proto = good()
    proto.graph.node[0].input[0] = "y"
    return saved(proto, folder)


def twice(folder: Path) -> Path:
    proto = good()
    proto.graph.node.append(node("Neg", "x", "c"))
    return saved(proto, folder)


def nowhere(folder: Path) -> Path:
    proto = good()
    proto.graph.output[0].name = "z"
    return saved(proto, folder)


def of_other_types(folder: Path) -> Path:
    proto = good()
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(drawn(4, 3, 3, 3).astype("int64"), "w"))
    return saved(proto, folder)


def unknown_operator(folder: Path) -> Path:
    proto = good()
    proto.graph.node[1].op_type = "Releasing"
    return saved(proto, folder)


def undecodable_operator(folder: Path) -> Path:
    """Its name is no text, so ONNX Runtime's message about it is none either."""
    path = saved(good(), folder)
    path.write_bytes(path.read_bytes().replace(b"Relu", b"Rel\xff"))
    return path


def short_data(folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(good(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "weights.bin").write_bytes((folder / "weights.bin").read_bytes()[:-4])
    return path


def text(folder: Path) -> Path:
    (folder / "model.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    return folder / "model.onnx"


def missing(folder: Path) -> Path:
    return folder / "model.onnx"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "cut": (cut, "truncated or damaged"),
    "cyclic": (cyclic, "reads 'y' before anything makes it"),
    "twice": (twice, "makes 'c', which there is already"),
    "nowhere": (nowhere, "nothing makes its output 'z'"),
    "types": (of_other_types, "cannot load"),
    "unknown": (unknown_operator, "cannot load"),
    "undecodable": (undecodable_operator, "cannot load"),
    "short": (short_data, "ends before the weight 'w' does"),
    "text": (text, "expected an ONNX model"),
    "missing": (missing, "no such file"),
    "absent data": (outside("weights.bin"), "there is no such file"),
    "up": (outside("../secret.bin"), "outside the model's folder"),
    "absolute": (outside("FOLDER/secret.bin"), "outside the model's folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_line_and_nothing_written(name: str, tmp_path: Path) -> None:
    make, reason = BAD[name]
    path = make(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(FusekitError, match=reason):
        fusekit.optimize_onnx(path, tmp_path / "out" / "small.onnx", measure=False)
    told = run("optimize", str(path), str(tmp_path / "out" / "small.onnx"))
    assert told.code == 2 and told.stderr.count("\n") == 1 and reason in told.stderr, told.stderr
    assert told.stdout == ""
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_logged_beside_the_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """ONNX Runtime logs some errors by a logger that is none of the session's."""
    proto = good()
    proto.graph.node[0].input.append("b")
    proto.graph.initializer.add(name="b", data_type=TensorProto.FLOAT, dims=[(1 << 62) + 1], raw_data=bytes(16))
    told = run("optimize", str(saved(proto, tmp_path)), str(tmp_path / "small.onnx"))
    assert told.code == 2 and "cannot load" in told.stderr
    assert capfd.readouterr() == ("", "")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    path = outside("weights.bin")(tmp_path)
    (path.parent / "weights.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(FusekitError, match="outside the model's folder"):
        fusekit.optimize_onnx(path, tmp_path / "small.onnx", measure=False)


def test_an_old_file_stays_where_the_new_one_fails(tmp_path: Path) -> None:
    (tmp_path / "small.onnx").write_bytes(b"old")
    with pytest.raises(FusekitError):
        fusekit.optimize_onnx(cut(tmp_path), tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--opset", "99"), "opset must be a number from 7 to"),
        (("--weights", "a.pt"), "SOURCE is an ONNX file"),
        (("--target", "torch"), "a runtime that reads files"),
        (("--input", "z=1x3x8x8"), "no input 'z'"),
        (("--input", "1x3x9x8"), "cannot run"),
        (("--input", "1x3x8x8", "--input", "1"), "no place for a further input"),
    ],
)
def test_words_that_do_not_fit(words: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    path = saved(good(), tmp_path)
    told = run("optimize", str(path), str(tmp_path / "small.onnx"), *words)
    assert told.code == 2 and told.stderr.count("\n") == 1 and reason in told.stderr, told.stderr
    assert not (tmp_path / "small.onnx").exists()


@pytest.mark.parametrize("given", [{"z": torch.ones(1)}, (torch.ones(1), torch.ones(1)), (), "photo"])
def test_example_inputs_that_do_not_fit(given: object, tmp_path: Path) -> None:
    with pytest.raises(FusekitError, match="example inputs|no input"):
        fusekit.optimize_onnx(saved(good(), tmp_path), tmp_path / "small.onnx", given)
