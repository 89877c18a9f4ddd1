"""The original file in float64, and what a result is compared with where there is no such run."""

from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper

import fusekit
from fusekit.grafting import in_float64
from fusekit.grafting.in_float64 import InFloat64, NoSuchRun
from fusekit.grafting.model_file import ModelFile
from fusekit.grafting.yardstick import BY_LAST_BITS, IN_FLOAT64
from tests.support.onnx_files import drawn, model, node, norm, saved

IMAGE = {"x": ("n", 8, "h", "w")}
OUT = {"y": None}
W = drawn(4, 8, 3, 3)


def network(*between: Any, **constants: Any) -> ModelProto:
    """A convolution and its norm, and something else before they are added up."""
    nodes = [node("Conv", "x w", "c", pads=[1] * 4), node("BatchNormalization", "c s t m v", "d"), *between]
    return model(nodes, {"w": W, **norm(4, ""), **constants}, IMAGE, OUT, domains={"com.microsoft": 1})


POOLED = (node("MaxPool", "d", "e", kernel_shape=[2, 2], strides=[2, 2]), node("Softmax", "e", "y", axis=1))
GELU = (node("Gelu", "d", "y", domain="com.microsoft"),)
CAST = (
    node("Cast", "d", "e", to=TensorProto.FLOAT16),
    node("Cast", "e", "f", to=TensorProto.FLOAT),
    node("Softmax", "f", "y", axis=1),
)


def reference(x: torch.Tensor) -> torch.Tensor:
    s, t, m, v = (torch.from_numpy(each).double() for each in norm(4, "").values())
    y = torch.nn.functional.conv2d(x, torch.from_numpy(W).double(), padding=1)
    y = torch.nn.functional.batch_norm(y, m, v, s, t)
    return torch.nn.functional.max_pool2d(y, 2).softmax(1)


def test_the_file_is_run_in_float64(tmp_path: Path) -> None:
    x = drawn(2, 8, 6, 7)
    found = InFloat64(ModelFile.read(saved(network(*POOLED), tmp_path))).outputs({"x": x})
    assert found["y"].dtype == numpy.float64
    expected = reference(torch.from_numpy(x).double())
    assert float((torch.from_numpy(found["y"]) - expected).norm() / expected.norm()) < 1e-14


def test_what_no_runtime_has_a_kernel_for_the_evaluator_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_kernel(*_: object, **__: object) -> None:
        raise RuntimeError("NOT_IMPLEMENTED")

    monkeypatch.setattr("fusekit.grafting.in_float64.onnxruntime.InferenceSession", no_kernel)
    nodes = [node("Conv", "x w", "c"), node("Softsign", "c", "y")]
    file = ModelFile.read(saved(model(nodes, {"w": W}, IMAGE, OUT), tmp_path))
    x = drawn(1, 8, 6, 7)
    (y,) = InFloat64(file).outputs({"x": x}).values()
    expected = torch.nn.functional.softsign(
        torch.nn.functional.conv2d(torch.from_numpy(x).double(), torch.from_numpy(W).double())
    )
    assert float((torch.from_numpy(y) - expected).abs().max()) < 1e-12


def branch() -> ModelProto:
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    inner = helper.make_graph([helper.make_node("Neg", ["d"], ["o"])], "inner", [], [out])
    yes = helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)
    return network(yes, yes=numpy.array(True))


NONE = {"another domain": network(*GELU), "a branch": branch()}


@pytest.mark.parametrize("name", NONE)
def test_where_there_is_no_such_run_the_last_bits_decide(name: str, tmp_path: Path) -> None:
    path = saved(NONE[name], tmp_path)
    with pytest.raises(NoSuchRun):
        InFloat64(ModelFile.read(path)).outputs({"x": drawn(1, 8, 6, 6)})
    verdict = fusekit.optimize_onnx(path, tmp_path / "small.onnx", measure=False)
    assert verdict.ok and verdict.report is not None and verdict.report.notes[0] == BY_LAST_BITS


def test_too_much_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_float64, "MOST_PRODUCTS", 10_000)
    with pytest.raises(NoSuchRun, match="too much work"):
        InFloat64(ModelFile.read(saved(network(*POOLED), tmp_path))).outputs({"x": drawn(1, 8, 6, 6)})


def test_casts_to_shorter_types_do_nothing_there(tmp_path: Path) -> None:
    cast, plain = (
        InFloat64(ModelFile.read(saved(each, tmp_path))).outputs({"x": drawn(1, 8, 6, 6)})["y"]
        for each in (network(*CAST), network(node("Softmax", "d", "y", axis=1)))
    )
    assert numpy.array_equal(cast, plain)


def test_a_run_from_which_the_original_is_far_is_not_believed(tmp_path: Path) -> None:
    """What cancels in float32 alone: something else than its rounding must decide."""
    nodes = [node("Mul", "x big", "a"), node("Add", "a one", "b"), node("Sub", "b a", "y")]
    constants = {"big": numpy.float32(1e9), "one": numpy.float32(1)}
    path = saved(model(nodes, constants, IMAGE, OUT), tmp_path)
    verdict = fusekit.grafting.validate_onnx(path, path)
    assert verdict.ok and verdict.report is not None and verdict.report.notes == (BY_LAST_BITS,)


def test_the_file_itself_has_an_error_there(tmp_path: Path) -> None:
    path = saved(network(*POOLED), tmp_path)
    assert 0 < fusekit.grafting.validate_onnx(path, path).error < 1e-5


def test_a_small_error_is_seen(tmp_path: Path) -> None:
    """One weight off by a hundred thousandth, which is beyond sixteen times the original's own error."""
    path = saved(network(*POOLED), tmp_path)
    wrong = onnx.load(path)
    w = W.copy()
    w.flat[7] += 2e-4
    wrong.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(w, "w"))
    verdict = fusekit.grafting.validate_onnx(path, saved(wrong, tmp_path, "wrong.onnx"))
    assert not verdict.ok and verdict.report is not None and verdict.report.notes == (IN_FLOAT64,)
