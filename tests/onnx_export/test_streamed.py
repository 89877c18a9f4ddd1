"""A large file is written piece by piece: it is the file that the library would write."""

from pathlib import Path
from typing import Any

import numpy
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fusekit
from fusekit.model import large
from fusekit.onnx_export import streamed
from fusekit.onnx_export.streamed import write_streamed


def model_of(channels: int, dtype: str = "float32") -> ir.Model:
    weight = numpy.arange(4 * channels * channels, dtype=dtype).reshape(channels, channels, 2, 2)
    small = onnx.numpy_helper.from_array(numpy.array([1, channels, -1], numpy.int64), "sizes")
    kind = onnx.helper.np_dtype_to_tensor_dtype(numpy.dtype(dtype))
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "weight"], ["y"]),
            onnx.helper.make_node("Reshape", ["y", "sizes"], ["z"]),
        ],
        "graph",
        [onnx.helper.make_tensor_value_info("x", kind, [1, channels, 4, 4])],
        [onnx.helper.make_tensor_value_info("z", kind, [1, channels, 9])],
        [onnx.numpy_helper.from_array(weight, "weight"), small],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.helper.set_model_props(proto, {"key": "value"})
    return ir.from_proto(proto)


def outputs(path: Path, x: torch.Tensor) -> Any:
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_the_file_is_that_of_the_library(dtype: str, tmp_path: Path) -> None:
    model = model_of(5, dtype)
    write_streamed(model, tmp_path / "a.onnx")
    ir.save(model, tmp_path / "b.onnx")
    assert onnx.load(tmp_path / "a.onnx") == onnx.load(tmp_path / "b.onnx")


@given(st.integers(0, 2**40))
def test_lengths_are_read_back(number: int) -> None:
    value = sum((byte & 127) << 7 * place for place, byte in enumerate(streamed._varint(number)))
    assert value == number
    assert [byte > 127 for byte in streamed._varint(number)][-1] is False


def test_an_export_that_counts_as_large_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval(), torch.randn(1, 3, 8, 8)
    assert fusekit.export(model, tmp_path / "small.onnx", x).ok
    monkeypatch.setattr(large, "_LARGE", 0)
    assert fusekit.export(model, tmp_path / "large.onnx", x).ok
    one, other = (outputs(tmp_path / name, x) for name in ("small.onnx", "large.onnx"))
    numpy.testing.assert_array_equal(one, other)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["large.onnx", "small.onnx"]
