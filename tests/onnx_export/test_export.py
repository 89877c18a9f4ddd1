"""A verified ONNX file, or no file at all."""

import importlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from fusekit import optimize
from fusekit.errors import CaptureError, ExportError
from fusekit.onnx_export import export_onnx
from fusekit.onnx_export.names import _share_constants
from fusekit.validation import Reference, Validation

# By name: `fusekit.export` the attribute is the public function.
export_module = importlib.import_module("fusekit.onnx_export.write_file")


class Branches(nn.Module):
    """Two convolution + batch norm branches: others' optimizers give both the same names."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.right = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
        for norm in (self.left[1], self.right[1]):
            nn.init.uniform_(norm.get_buffer("running_mean"))
            nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2)
            nn.init.constant_(norm.get_parameter("bias"), 2.0)  # or the ReLU would hide most channels

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.left(x) + self.right(x))


def graph_of(path: Path) -> onnx.GraphProto:
    return onnx.load(str(path)).graph


def written(original: nn.Module, optimized: nn.Module, path: Path, inputs: object, **options: Any) -> Validation:
    return export_onnx(Reference(original, inputs), optimized, path, **options)


def leftovers(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_two_branches_export_with_unique_readable_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = Branches().eval()
    path = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = written(model, model, path, torch.rand(1, 3, 9, 8), rewrites=[("fold-affine", "left")])
    assert capfd.readouterr() == ("", "")
    assert result.ok
    assert result.dynamic_axes == {"x": (0, 2, 3)}
    assert leftovers(tmp_path) == ["m.onnx"]
    stored = onnx.load(str(path))
    onnx.checker.check_model(stored, full_check=True)
    names = [node.name for node in stored.graph.node]
    assert names == ["left.0/Conv", "right.0/Conv", "Add", "Relu"]
    constants = [value.name for value in stored.graph.initializer]
    assert len(set(constants)) == len(constants) == 4
    assert {"left.0.weight", "right.0.weight"} < set(constants)
    assert [value.name for value in (*stored.graph.input, *stored.graph.output)] == ["x", "output"]
    assert [d.dim_param or d.dim_value for d in stored.graph.input[0].type.tensor_type.shape.dim] == [
        "batch", 3, "height", "width"]  # fmt: skip
    metadata = {entry.key: entry.value for entry in stored.metadata_props}
    assert json.loads(metadata["fusekit_rewrites"]) == [{"rewrite": "fold-affine", "where": "left"}]
    assert metadata["fusekit_version"]
    assert os.path.dirname(__file__).encode() not in path.read_bytes()
    assert not any(node.metadata_props or node.doc_string for node in stored.graph.node)


def test_nested_outputs_dict_inputs_integers_and_unused_inputs(tmp_path: Path) -> None:
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 4)

        def forward(self, x: Tensor, unused: Tensor, tokens: Tensor, scale: float = 2.0) -> dict[str, Any]:
            y = x * scale + self.table(tokens)
            return {"logits": y, "none": None, "more": (y.sum(1), x.argmax(1)), "same": y, "count": y.shape[1]}

    example = {"x": torch.rand(1, 7, 4), "unused": torch.rand(2), "tokens": torch.randint(0, 10, (1, 7))}
    result = written(Many(), Many(), tmp_path / "m.onnx", example)
    assert not result.ok  # two different random tables
    assert leftovers(tmp_path) == []
    model = Many()
    result = written(model, model, tmp_path / "m.onnx", example)
    assert result.ok
    assert [output.name for output in result.outputs] == ["logits", "more_0", "more_1", "same", "count"]
    assert 0 in result.dynamic_axes["x"]
    assert 0 in result.dynamic_axes["tokens"]


def test_weights_computed_in_forward_leave_no_arithmetic(tmp_path: Path) -> None:
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.weight = nn.Parameter(torch.randn(64, 64, 3, 3) / 24)
            self.gain = nn.Parameter(torch.rand(64, 1, 1, 1))
            self.fc = nn.Linear(64, 300)

        def forward(self, x: Tensor) -> Tensor:
            y = F.conv2d(x, self.weight * torch.sigmoid(self.gain) + 0.01, padding=1)
            z: Tensor = self.fc(y.permute(0, 2, 3, 1))
            return z

    model = Computed()
    path = tmp_path / "m.onnx"
    assert written(model, model, path, torch.rand(1, 64, 6, 5)).ok
    graph = graph_of(path)
    assert sorted(node.op_type for node in graph.node) == ["Add", "Conv", "MatMul", "Transpose"]
    assert "fc.weight.T" in {value.name for value in graph.initializer}
    assert "fc/MatMul" in {node.name for node in graph.node}
    used = {name for node in graph.node for name in node.input}
    assert {value.name for value in graph.initializer} <= used
    assert path.stat().st_size < 4 * (64 * 64 * 9 + 64 * 300 + 300) + 4000


def planted(monkeypatch: pytest.MonkeyPatch, damage: Callable[[onnx.ModelProto], None]) -> None:
    """Damage every file after it is written."""
    write = export_module._write

    def write_damaged(model: Any, path: Path) -> None:
        write(model, path)
        proto = onnx.load(str(path))
        damage(proto)
        onnx.save(proto, str(path))

    monkeypatch.setattr(export_module, "_write", write_damaged)


def test_a_wrong_weight_in_the_file_is_detected_and_the_old_file_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(proto: onnx.ModelProto) -> None:
        weights = max(proto.graph.initializer, key=lambda value: len(value.raw_data))
        values = onnx.numpy_helper.to_array(weights).copy()
        values.flat[5] += 1e-3
        weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))

    planted(monkeypatch, damage)
    path = tmp_path / "m.onnx"
    path.write_bytes(b"the old file")
    model = Branches().eval()
    result = written(model, model, path, torch.rand(2, 3, 9, 8))
    assert not result.ok
    assert result.error > 10 * result.tolerance
    assert path.read_bytes() == b"the old file"
    assert leftovers(tmp_path) == ["m.onnx"]


def test_a_file_that_fails_its_checks_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, lambda proto: proto.graph.node[0].input.__setitem__(0, "nowhere"))
    path = tmp_path / "m.onnx"
    path.write_bytes(b"the old file")
    model = nn.Conv2d(3, 4, 3)
    with pytest.raises(ExportError, match="the ONNX checker refuses the file") as caught:
        written(model, model, path, torch.rand(2, 3, 9, 8), dynamic=False)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"the old file"
    assert leftovers(tmp_path) == ["m.onnx"]


def test_an_optimized_module_that_differs_is_refused(tmp_path: Path) -> None:
    right, wrong = Branches().eval(), Branches().eval()
    wrong.left[1].get_buffer("running_var").mul_(1.001)
    assert not written(right, wrong, tmp_path / "m.onnx", torch.rand(1, 3, 9, 8)).ok
    assert leftovers(tmp_path) == []


def test_sizes_read_by_len_stay_free(tmp_path: Path) -> None:
    class Counting(nn.Module):
        """Python's `len` of a tensor is an int: torch.export alone bakes the traced batch into the ones."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, torch.ones(len(x), 1)], 1) * 0.5

    result = written(Counting(), Counting(), tmp_path / "m.onnx", torch.rand(1, 3))
    assert result.ok
    assert 0 in result.dynamic_axes["x"]


def test_sizes_that_do_not_hold_are_fixed_and_the_verdict_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that is right at the traced width only: torch.export cannot see the number that numpy was asked for."""

    class Hidden(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (0.5 if width_behind_the_back(x) == 8 else 0.25)

    def width_behind_the_back(x: Tensor) -> int:
        return 8 if isinstance(x, FakeTensor) else x.shape[-1]

    result = written(Hidden(), Hidden(), tmp_path / "m.onnx", torch.rand(1, 3, 9, 8))
    assert result.ok
    assert result.dynamic_axes == {"x": (0,)}
    assert "failed (odd sizes, output: error" in result.probes[-1].skipped
    dims = graph_of(tmp_path / "m.onnx").input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, 9, 8]


def test_static_on_request(tmp_path: Path) -> None:
    model = nn.Conv2d(3, 4, 3)
    result = written(model, model, tmp_path / "m.onnx", torch.rand(1, 3, 9, 8), dynamic=False)
    assert result.ok
    assert result.dynamic_axes == {"input": ()}
    assert all(dim.dim_value for dim in graph_of(tmp_path / "m.onnx").input[0].type.tensor_type.shape.dim)


def test_the_opset_is_the_native_one_or_the_one_asked_for(tmp_path: Path) -> None:
    """The exporter's own default: an older one spells GELU in five operators, which no runtime puts together again."""
    model = nn.Conv2d(3, 4, 3)
    plain = torch.onnx.export(model, (torch.rand(1, 3, 9, 8),), dynamo=True, verbose=False)
    assert plain is not None
    for asked, expected in ((None, plain.model.opset_imports[""]), (18, 18)):
        path = tmp_path / f"{asked}.onnx"
        assert written(model, model, path, torch.rand(1, 3, 9, 8), opset=asked).ok
        assert {entry.domain: entry.version for entry in onnx.load(str(path)).opset_import} == {"": expected}
    with pytest.raises(ExportError):
        written(model, model, tmp_path / "no.onnx", torch.rand(1, 3, 9, 8), opset=2000)
    assert "no.onnx" not in leftovers(tmp_path)


def test_large_weights_lie_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "EXTERNAL_DATA_FROM", 100)
    model = Branches().eval()
    assert written(model, model, tmp_path / "m.onnx", torch.rand(1, 3, 9, 8)).ok
    assert leftovers(tmp_path) == ["m.onnx", "m.onnx.data"]
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)


def test_a_constant_output_and_a_missing_translation_are_clear_errors(tmp_path: Path) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, int]:
            return x * 2, 7

    class Exotic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = torch.special.bessel_j0(x)
            return y

    with pytest.raises(ExportError, match="output_1 is the constant 7"):
        written(Constant(), Constant(), tmp_path / "m.onnx", torch.rand(1, 3), dynamic=False)
    with pytest.raises(ExportError, match=r"bessel_j0") as caught:
        written(Exotic(), Exotic(), tmp_path / "m.onnx", torch.rand(1, 3), dynamic=False)
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == []


def test_untraceable_models_and_unwritable_places_are_clear_errors(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(CaptureError, match="could not trace Branching"):
        written(Branching(), Branching(), tmp_path / "m.onnx", torch.rand(1, 3))
    model = nn.Conv2d(3, 4, 3)
    with pytest.raises(ExportError, match="there is no folder"):
        written(model, model, tmp_path / "no" / "m.onnx", torch.rand(1, 3, 8, 8))
    with pytest.raises(ExportError, match="it is a folder"):
        written(model, model, tmp_path, torch.rand(1, 3, 8, 8))
    assert leftovers(tmp_path) == []


def test_shared_modules_have_one_weight_and_two_nodes(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(F.relu(self.conv(x)))
            return y

    model = Twice()
    assert written(model, model, tmp_path / "m.onnx", torch.rand(1, 4, 8, 8)).ok
    graph = graph_of(tmp_path / "m.onnx")
    assert [node.name for node in graph.node] == ["conv/Conv", "Relu", "conv/Conv_1"]
    assert sorted(value.name for value in graph.initializer) == ["conv.bias", "conv.weight"]


def test_windows_given_as_one_number_are_spread_over_the_axes(tmp_path: Path) -> None:
    class Halving(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.avg_pool2d(x, 2)

    assert written(Halving(), optimize(Halving()), tmp_path / "m.onnx", torch.rand(1, 3, 8, 8)).ok


def test_equal_constants_are_kept_once_and_weights_under_their_names() -> None:
    """Tables, not parameters: two layers that begin alike are still two, a transposed weight too."""
    values = np.arange(3, dtype=np.float32)
    held = [numpy_helper.from_array(values, name) for name in ("table", "other", "a.bias", "b.bias", "a.weight.T")]
    held.append(numpy_helper.from_array(values + 1, "third"))
    names = [constant.name for constant in held]
    nodes = [helper.make_node("Add", [f"t{i}", name], [f"t{i + 1}"]) for i, name in enumerate(names)]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [3]) for name in ("t0", f"t{len(names)}")]
    graph = helper.make_graph(nodes, "sums", ends[:1], ends[1:], held)
    model = ir.from_proto(helper.make_model(graph))
    _share_constants(model.graph, {"a.bias", "b.bias", "a.weight"})
    assert set(model.graph.initializers) == {"table", "third", "a.bias", "b.bias", "a.weight.T"}
    added = [value.name for node in model.graph for value in node.inputs[1:] if value is not None]
    assert added == ["table", "table", *names[2:]]


def test_a_computed_weight_named_like_a_value_of_the_program(tmp_path: Path) -> None:
    class Normalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pow_1 = nn.Parameter(torch.rand(4, 3))
            self.w = nn.Parameter(torch.rand(4, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.pow_1 + self.w**2

    model = Normalized()
    assert written(model, model, tmp_path / "m.onnx", torch.rand(2, 4, 3)).ok


def test_the_angle_of_reals_is_right_on_the_axes_and_at_infinity(tmp_path: Path) -> None:
    """The exporter says -π of the angle of -1, and NaN of that of two infinities."""

    class Angle(nn.Module):
        def forward(self, y: Tensor, x: Tensor) -> Tensor:
            return torch.atan2(y, x)

    values = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.3, -2.5, 1e-30, -1e30, float("inf"), -float("inf")])
    y, x = (part.contiguous() for part in torch.meshgrid(values, values, indexing="ij"))
    assert written(Angle(), Angle(), tmp_path / "angle.onnx", (y, x)).ok
    session = onnxruntime.InferenceSession(str(tmp_path / "angle.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"y": y.numpy(), "x": x.numpy()})
    expected = torch.atan2(y, x).numpy()
    assert np.abs(found - expected).max() < 1e-6
    assert (np.sign(found) == np.sign(expected)).all()  # of a zero ONNX Runtime's Where drops the sign


def test_adaptive_pools_of_volumes_with_windows_of_one_size(tmp_path: Path) -> None:
    path, x = tmp_path / "pool.onnx", torch.rand(2, 2, 4, 5, 6)
    model = nn.AdaptiveAvgPool3d((2, 1, 3))
    assert written(model, model, path, x).ok
    assert "AveragePool" in [node.op_type for node in graph_of(path).node]
    uneven = nn.AdaptiveAvgPool3d((2, 2, 3))
    with pytest.raises(ExportError, match=r"of sizes \[4, 5, 6\] to \[2, 2, 3\] has no windows of one size"):
        written(uneven, uneven, path, x, dynamic=False)
