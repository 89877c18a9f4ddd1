"""Tools that read the ONNX files that fusekit writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

import fusekit
from tests.support.neighbour_networks import Told, error, images, net

X = images()
MOST_OF_INT8 = 0.05  # relative error that 8 bits may cost; a wrong scale or layout costs all of 1
LEVELS = ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_LAYOUT", "ENABLE_ALL")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The plain export of a network, and its optimized export."""
    folder = tmp_path_factory.mktemp("files")
    assert fusekit.export(net(), folder / "plain.onnx", (X,), optimize=False).ok
    assert fusekit.export(net(), folder / "fast.onnx", (X,)).ok
    return folder / "plain.onnx", folder / "fast.onnx"


def run(path: Path, x: Tensor = X, options: Any = None) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def batches(count: int = 8) -> Iterator[np.ndarray[Any, Any]]:
    yield from (images(seed=seed).numpy() for seed in range(10, 10 + count))


def input_name(path: Path) -> str:
    return str(onnx.load(path).graph.input[0].name)


@pytest.mark.neighbour("onnxruntime", "its own optimizer on top, all levels")
@pytest.mark.parametrize("level", LEVELS)
def test_levels(level: str, files: tuple[Path, Path], told: Told, tmp_path: Path) -> None:
    counts = []
    for path in files:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        assert error(run(path, options=options), net()(X)) < 1e-5
        counts.append(len(onnx.load(tmp_path / "optimized.onnx").graph.node))
    told(f"{level}: {counts[1]} operators, {counts[0]} from the plain file")
    assert counts[1] <= counts[0]


@pytest.mark.neighbour("onnxruntime", "`onnxruntime.quantization`: static, as QDQ and as QOperator, and dynamic")
@pytest.mark.parametrize("kind", ["QDQ", "QOperator", "dynamic"])
def test_quantization(kind: str, files: tuple[Path, Path], told: Told, tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self, name: str) -> None:
            self.batches = ({name: batch} for batch in batches())

        def get_next(self) -> Any:
            return next(self.batches, None)

    wrong, counts = [], []
    for path in files:
        out = tmp_path / f"{kind}.onnx"
        if kind == "dynamic":
            quantization.quantize_dynamic(path, out)
        else:
            form = getattr(quantization.QuantFormat, kind)
            quantization.quantize_static(path, out, Reader(input_name(path)), quant_format=form)
        assert any("Quantize" in node.op_type for node in onnx.load(out).graph.node)
        wrong.append(error(run(out), net()(X)))
        counts.append(len(onnx.load(out).graph.node))
    told(f"{kind}: {counts[1]} operators, error {wrong[1]:.1e} ({counts[0]}, {wrong[0]:.1e} from the plain file)")
    assert wrong[1] < MOST_OF_INT8
    assert counts[1] < counts[0]


@pytest.mark.neighbour(
    "openvino",
    "reads the file, and computes the same",
    advice="some processors compute in bfloat16 unless INFERENCE_PRECISION_HINT is f32.",
)
def test_openvino(files: tuple[Path, Path], told: Told) -> None:
    openvino = pytest.importorskip("openvino")
    wrong = {}
    for hint in ("f32", None):
        options = {} if hint is None else {"INFERENCE_PRECISION_HINT": hint}
        compiled = openvino.Core().compile_model(files[1], "CPU", options)
        wrong[hint] = error(torch.from_numpy(compiled([X.numpy()])[0]), net()(X))
    told(f"error {wrong['f32']:.1e} in f32, {wrong[None]:.1e} as it comes")
    assert wrong["f32"] < 1e-5
    assert wrong[None] < MOST_OF_INT8


@pytest.mark.neighbour("nncf", "post-training quantization of the file")
def test_nncf(files: tuple[Path, Path], told: Told, tmp_path: Path) -> None:
    nncf = pytest.importorskip("nncf")
    wrong = []
    for path in files:
        name = input_name(path)
        data = nncf.Dataset(list(batches()), lambda batch, name=name: {name: batch})
        quantized = nncf.quantize(onnx.load(path), data, subset_size=8)
        onnx.save(quantized, tmp_path / "quantized.onnx")
        assert any(node.op_type == "QuantizeLinear" for node in quantized.graph.node)
        wrong.append(error(run(tmp_path / "quantized.onnx"), net()(X)))
    told(f"error {wrong[1]:.1e} ({wrong[0]:.1e} from the plain file)")
    assert wrong[1] < MOST_OF_INT8
