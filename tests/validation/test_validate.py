"""The whole-model verdict: what is equal passes, what is not is caught, and why is said."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from fusekit.errors import FusekitError
from fusekit.model import Inputs
from fusekit.runtimes.file import declared_inputs
from fusekit.runtimes.onnx_runtime import OnnxFile
from fusekit.validation import outputs_of, validate
from fusekit.validation.probes import guess_sizes, plan_probes
from fusekit.validation.tolerance import FLOOR_FLOAT64, compare, derived_tolerance, longest_sum


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 3)
    ).eval()


def conv_file(path: Path, weight: Tensor, bias: Tensor, dims: tuple[Any, ...]) -> Path:
    """One convolution by hand, with these (symbolic or fixed) input dimensions."""
    node = helper.make_node("Conv", ["x", "weight", "bias"], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [node],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, "a", "b"])],
        [numpy_helper.from_array(weight.numpy(), "weight"), numpy_helper.from_array(bias.numpy(), "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
    return path


@pytest.fixture
def conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(3, 4, 3, padding=1)


def test_a_model_equals_itself_and_every_probe_was_tried() -> None:
    net = small_net()
    result = validate(net, net, torch.rand(1, 3, 9, 8))
    assert result.ok
    assert result.failures == ()
    assert result.error == result.reference_error
    assert result.ratio == 1.0
    assert result.dynamic_axes == {"input": (0, 2, 3)}
    assert [probe.name for probe in result.probes] == ["given", "batch 3", "odd sizes", "even sizes", "wide range"]
    assert 0 < result.error < 1e-6
    assert result.tolerance == 32 * torch.finfo(torch.float32).eps


def test_a_small_change_of_one_weight_is_caught() -> None:
    net = small_net()
    wrong = small_net()
    wrong.get_parameter("3.weight").data[1, 2, 0, 1] += 1e-3
    result = validate(net, wrong, torch.rand(2, 3, 9, 8))
    assert not result.ok
    assert result.error > 100 * result.tolerance
    assert result.ratio > 1000
    assert "given, output: error" in result.failures[0]
    assert "NOT VALID" in str(result)


def test_training_mode_hooks_and_buffers_of_the_models_are_left_alone() -> None:
    net = small_net().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert validate(net, net, torch.rand(2, 3, 9, 8)).ok
    assert net.training
    assert all(tensor.equal(before[name]) for name, tensor in net.state_dict().items())


def test_what_the_reference_refuses_is_skipped_and_what_it_accepts_must_run() -> None:
    class Even(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], x.shape[1], -1, 2) * 0.3

    class Fixed(Even):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2] == 6, "six only"
            return super().forward(x)

    x = torch.rand(2, 3, 6)
    result = validate(Even(), Even(), x)
    assert result.ok
    assert {probe.name: bool(probe.skipped) for probe in result.probes}["odd sizes"]
    assert result.dynamic_axes == {"x": (0, 2)}
    failed = validate(Even(), Fixed(), x)
    assert not failed.ok
    assert failed.error == math.inf
    assert "even sizes: the candidate fails where the reference runs: AssertionError: six only" in failed.failures
    assert failed.dynamic_axes == {"x": (0,)}


def test_sizes_are_tried_one_by_one_where_the_joint_change_is_refused() -> None:
    class Columns(nn.Module):
        """Free in height, fixed in width."""

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(x)
            return y

    columns = Columns()
    result = validate(columns, columns, torch.rand(2, 3, 4, 5))
    assert result.ok
    assert result.dynamic_axes == {"x": (0, 2)}


def test_a_model_that_insists_on_divisibility_is_probed_at_a_multiple() -> None:
    class Pooled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2] % 16 == 0
            return x * 1.1

    result = validate(Pooled(), Pooled(), torch.rand(1, 3, 32, 32))
    assert result.dynamic_axes == {"x": (0, 2, 3)}


def test_nested_outputs_dict_inputs_and_several_inputs() -> None:
    class Nested(nn.Module):
        def __init__(self, sign: float = 1.0) -> None:
            super().__init__()
            self.sign = sign

        def forward(self, x: Tensor, mask: Tensor) -> dict[str, Any]:
            return {"a": x.sin(), "b": [x.sum(1) / 3, (mask * self.sign,)], "none": None}

    example = {"x": torch.rand(1, 3, 8), "mask": torch.rand(1, 3, 8)}
    result = validate(Nested(), Nested(), example)
    assert result.ok
    assert [output.name for output in result.outputs] == ["a", "b_0", "b_1_0"]
    assert result.dynamic_axes == {"x": (0, 2), "mask": (0, 2)}
    wrong = validate(Nested(), Nested(-1.0), example)
    assert [output.ok for output in wrong.outputs] == [True, True, False]


def test_integer_inputs_and_outputs() -> None:
    class Classes(nn.Module):
        def __init__(self, shift: int = 0) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 4)
            self.shift = shift

        def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
            features = self.table(tokens)
            return features, features.argmax(-1) + self.shift

    right, wrong = Classes(), Classes(1)
    wrong.load_state_dict(right.state_dict())
    tokens = torch.randint(0, 10, (2, 7))
    assert validate(right, right, tokens).ok
    result = validate(right, wrong, tokens)
    assert result.outputs[1].error == 1.0
    assert [output.ok for output in result.outputs] == [True, False]
    assert "no floating input" in {probe.skipped for probe in result.probes}


def test_nan_and_infinity_must_be_where_the_reference_has_them() -> None:
    exact = torch.tensor([1.0, math.nan, math.inf, -math.inf], dtype=torch.float64)
    reference = exact.float()
    assert compare("y", reference, reference, exact).ok
    for index, value in ((0, math.nan), (0, math.inf), (1, 2.0), (1, math.inf), (2, -math.inf), (3, math.nan)):
        candidate = reference.clone()
        candidate[index] = value
        result = compare("y", candidate, reference, exact)
        assert result.error == math.inf
        assert "NaN or infinity" in result.reason


def test_shape_and_dtype_must_agree() -> None:
    one = torch.ones(2, 3)
    assert "shape (3, 2), the reference has (2, 3)" in compare("y", one.T, one, one.double()).reason
    assert "dtype float64, the reference has float32" in compare("y", one.double(), one, one.double()).reason

    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.double()

    assert not validate(nn.Identity(), Double(), torch.rand(2, 3)).ok


def test_zero_norms_are_absolute_and_empty_outputs_are_equal() -> None:
    zero = torch.zeros(3)
    assert compare("y", zero + 1e-9, zero, zero.double()).error == pytest.approx(math.sqrt(3) * 1e-9)
    assert compare("y", zero + 1e-3, zero, zero.double()).reason
    empty = torch.zeros(0, 3)
    assert compare("y", empty, empty, empty.double()).ok


def test_the_tolerance_follows_the_references_own_error() -> None:
    assert derived_tolerance(1e-4, torch.float32) == pytest.approx(16e-4)
    assert derived_tolerance(0.0, torch.float16) == 4 * torch.finfo(torch.float16).eps
    assert derived_tolerance(0.0, torch.float64) == FLOOR_FLOAT64 == derived_tolerance(0.0, torch.float64, 1 << 20)
    assert derived_tolerance(0.0, torch.float32, 1 << 16) == 256 * torch.finfo(torch.float32).eps
    assert derived_tolerance(0.0, torch.float32, 1 << 8) == derived_tolerance(0.0, torch.float32)
    exact = torch.full((8,), 1.0, dtype=torch.float64)
    reference, candidate = (exact + 1e-4).float(), (exact + 1.5e-3).float()
    assert compare("y", candidate, reference, exact).ok
    assert not compare("y", candidate, reference, exact, tolerance=1e-3).ok


def test_long_sums_may_be_off_by_more() -> None:
    """What ONNX Runtime adds one after the other is further off than what torch adds in blocks."""
    model = nn.Sequential(nn.Conv1d(64, 8, 32), nn.ReLU(), nn.Flatten(), nn.Linear(40, 3))
    assert longest_sum(model) == 64 * 32 and longest_sum(nn.ReLU()) == 1


def test_an_explicit_tolerance_replaces_the_derived_one() -> None:
    net, other = small_net(), small_net()
    other.get_parameter("3.bias").data *= 1 + 1e-4
    x = torch.rand(1, 3, 8, 8)
    assert not validate(net, other, x).ok
    loose = validate(net, other, x, tolerance=1e-2)
    assert loose.ok
    assert loose.tolerance == 1e-2
    assert not validate(net, net, x, tolerance=0.0).ok


def test_one_number_with_cancellation_is_not_judged_by_one_lucky_rounding() -> None:
    class Mean(nn.Module):
        def __init__(self, flip: bool) -> None:
            super().__init__()
            self.flip = flip

        def forward(self, x: Tensor) -> Tensor:
            x = (x.flip(1) if self.flip else x) * 1000
            return x.cumsum(1)[:, -1:] - x.sum(1, keepdim=True) + 1.0  # pure rounding noise around 1

    verdicts = []
    for seed in range(10):
        torch.manual_seed(seed)
        verdicts.append(validate(Mean(False), Mean(True), torch.rand(1, 2000)).ok)
    assert sum(verdicts) >= 9


def test_half_precision_double_precision_and_complex_models() -> None:
    x = torch.rand(2, 3, 8, 8)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        net = small_net().to(dtype)
        assert validate(net, net, x.to(dtype)).ok

    class Spectrum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = torch.fft.rfft2(x * 0.7)
            return y

    assert validate(Spectrum(), Spectrum(), x).ok


def test_a_reference_that_fails_and_a_file_that_is_none_raise(tmp_path: Path) -> None:
    with pytest.raises(FusekitError, match="the reference itself fails on the example inputs: RuntimeError"):
        validate(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), torch.rand(1, 5, 8, 8))
    with pytest.raises(FusekitError, match="no ONNX file"):
        validate(nn.Identity(), tmp_path / "missing.onnx", torch.rand(1))
    (tmp_path / "broken.onnx").write_bytes(b"<html>")
    with pytest.raises(FusekitError, match=r"ONNX Runtime cannot load broken\.onnx"):
        validate(nn.Identity(), str(tmp_path / "broken.onnx"), torch.rand(1))


def test_an_onnx_file_with_free_sizes(tmp_path: Path, conv: nn.Conv2d, capfd: pytest.CaptureFixture[str]) -> None:
    weight, bias = conv.weight.detach(), conv.bias
    assert bias is not None
    path = conv_file(tmp_path / "c.onnx", weight, bias.detach(), ("n", 3, "h", 8))
    assert OnnxFile(path).free_axes() == {"x": {0: "n", 2: "h"}}
    assert declared_inputs(path) == list(OnnxFile(path).inputs)
    result = validate(conv, path, torch.rand(1, 3, 9, 8))
    assert result.ok
    assert result.dynamic_axes == {"input": (0, 2)}  # matched by order: the file calls it x
    planted = weight.clone()
    planted[3, 0, 2, 2] *= 1.001
    wrong = validate(
        conv, conv_file(tmp_path / "w.onnx", planted, bias.detach(), ("n", 3, "h", 8)), torch.rand(1, 3, 9, 8)
    )
    assert not wrong.ok
    shared = validate(
        conv, conv_file(tmp_path / "s.onnx", weight, bias.detach(), ("n", 3, "h", "h")), torch.rand(1, 3, 8, 8)
    )
    assert shared.dynamic_axes == {"input": (0, 2, 3)}
    fixed = validate(conv, conv_file(tmp_path / "f.onnx", weight, bias.detach(), (1, 3, 9, 8)), torch.rand(1, 3, 9, 8))
    assert fixed.ok
    assert fixed.dynamic_axes == {"input": ()}
    refused = validate(
        conv, conv_file(tmp_path / "g.onnx", weight, bias.detach(), (1, 3, 9, 8)), torch.rand(1, 3, 9, 9)
    )
    assert "given: the candidate fails where the reference runs: ONNX Runtime cannot run" in refused.failures[0]
    assert capfd.readouterr().err == ""


def test_an_input_that_the_file_lacks_or_wants(tmp_path: Path) -> None:
    class Second(nn.Module):
        def forward(self, unused: Tensor, b: Tensor, a: Tensor) -> Tensor:
            return a - b

    def file(*names: str) -> Path:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in names]
        node = helper.make_node("Sub", [names[0], names[1]], ["y"])
        graph = helper.make_graph([node], "g", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])])
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9),
            str(tmp_path / "s.onnx"),
        )
        return tmp_path / "s.onnx"

    example = (torch.rand(4, 2), torch.rand(4), torch.rand(4))
    assert validate(Second(), file("a", "b"), example).ok
    assert not validate(Second(), file("b", "a"), example).ok
    with pytest.raises(FusekitError, match="has an input 'd'"):
        validate(Second(), file("a", "b", "d"), example)


def test_probes_cover_what_may_vary() -> None:
    inputs = Inputs.of((torch.rand(1, 3, 8, 9), torch.rand(1, 1, 8, 9), torch.zeros(1, dtype=torch.int64)))
    batches, sizes = guess_sizes(inputs)
    assert batches == [((0, 0), (1, 0), (2, 0)), ((0, 0), (1, 0))]
    assert sizes == [((0, 2), (1, 2)), ((0, 3), (1, 3))]
    shapes = {probe.name: tuple(probe.inputs.tensors()[0].shape) for probe in plan_probes(inputs, batches, sizes)}
    assert shapes["batch 3"] == (3, 3, 8, 9)
    assert shapes["odd sizes"] == (1, 3, 9, 11)
    assert shapes["even sizes"] == (1, 3, 10, 10)


def test_json_is_json_even_with_infinities() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 0

    result = validate(nn.Identity(), Broken(), torch.rand(2, 3) + 1)
    data = json.loads(result.to_json())
    assert data["ok"] is False
    assert data["error"] == "inf"
    assert data["probes"][0]["outputs"][0]["ok"] is False
    assert set(data) >= {"ok", "error", "reference_error", "ratio", "tolerance", "outputs", "dynamic_axes", "failures"}
    good = json.loads(validate(nn.Identity(), nn.Identity(), torch.rand(2, 3)).to_json())
    assert good["ok"] is True
    assert good["dynamic_axes"] == {"input": [0]}


def test_outputs_of_names_every_leaf() -> None:
    result = (torch.zeros(1), {"k": [torch.zeros(2), 3]}, None)
    assert [(name, tuple(t.shape)) for name, t in outputs_of(result)] == [
        ("output_0", (1,)), ("output_1_k_0", (2,)), ("output_1_k_1", ())]  # fmt: skip
    assert [name for name, _ in outputs_of(torch.zeros(1))] == ["output"]
    assert np.asarray(outputs_of(2.5)[0][1]).item() == 2.5
