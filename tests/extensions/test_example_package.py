"""The example package, installed: its pass, its runtime and its readers work like fusekit's own."""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import fusekit
from fusekit.algebra import Pad
from fusekit.errors import VerificationError
from fusekit.optimizing.laws import passes
from fusekit.rewriting import Rewrite
from fusekit.runtimes import available, known
from fusekit.testing import check_law, check_on_model
from tests.support.architectures import randomize
from tests.support.cli_room import run
from tests.support.compare import assert_same
from tests.support.installed import install_example, on_path


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("site-packages")
    install_example(folder)
    with on_path(folder):
        yield


X = torch.randn(1, 3, 9, 8, dtype=torch.float64)


def padding_twice() -> nn.Module:
    """Two pads that no convolution takes in, and two whose law does not hold."""
    return (
        nn.Sequential(
            nn.ZeroPad2d(1), nn.ZeroPad2d((0, 2, 1, 0)), nn.MaxPool2d(2), nn.ZeroPad2d(-1), nn.ZeroPad2d(2), nn.ReLU()
        )
        .eval()
        .double()
    )


def scaled() -> nn.Module:
    """A convolution and the layer of the example."""
    layer = import_module("fusekit_example.operators").ScaleShift(4)
    torch.manual_seed(0)
    nn.init.normal_(layer.scale)
    nn.init.normal_(layer.shift)
    return randomize(nn.Sequential(nn.Conv2d(3, 4, 3), layer, nn.ReLU())).eval().double()


def fold_pads() -> Rewrite:
    return passes()["fold-pads"]


def test_its_pass_is_used_priced_verified_and_reported() -> None:
    model = padding_twice()
    fast: Any = fusekit.optimize(model, X)
    (event,) = fast.report.applied
    assert event.rewrite == "fold-pads" and event.where == "0 + 1"
    assert event.cost_after < event.cost_before and event.error is not None and event.error < 1e-12
    refused = [each.reason for each in fast.report.refused if each.rewrite == "fold-pads"]
    assert refused == ["a crop followed by zero padding is not one pad: the cropped border must stay zero"]
    assert dict(fast.report.laws)["fold-pads"].startswith("pad(q) ∘ pad(p) = pad(p + q)")
    assert "fold-pads" in str(fast.report)
    assert_same(fast, model, X)


def test_its_pass_stands_where_it_says() -> None:
    options = fusekit.optimizing.Options.of("torch", None, False, None, None, False, 0)
    homes = [stage.name for stage in options.stages if "fold-pads" in [each.name for each in stage.passes]]
    assert homes == ["fold"]


def test_its_pass_can_be_named_alone_and_left_out() -> None:
    alone: Any = fusekit.optimize(padding_twice(), X, passes=["fold-pads"])
    assert [event.rewrite for event in alone.report.applied] == ["fold-pads"]
    without: Any = fusekit.optimize(padding_twice(), X, passes=["fold-conv"])
    assert not without.report.events


def test_its_pass_keeps_its_law() -> None:
    assert check_law(fold_pads()) < 1e-12
    (event,) = check_on_model(fold_pads(), padding_twice(), X)
    assert event.where == "0 + 1"


def test_the_law_test_sees_a_missing_side_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: Rewrite, outer: Pad, inner: Pad) -> Pad:
        both = zip(outer.padding, inner.padding, strict=True)
        return Pad(tuple((low + first, high + last) for (low, high), (first, last) in both))

    monkeypatch.setattr(type(fold_pads()), "propose", careless)
    with pytest.raises(AssertionError, match="relative error"):
        check_law(fold_pads())
    with pytest.raises(VerificationError, match="fold-pads at 3 [+] 4: float64 error"):
        check_on_model(fold_pads(), padding_twice(), X)


def test_a_wrong_fold_is_rolled_back_once_and_the_pass_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Rewrite, outer: Pad, inner: Pad) -> Pad:
        (low, high), *others = (outer @ inner).padding
        return Pad(((low + 1, high - 1), *others))

    monkeypatch.setattr(type(fold_pads()), "propose", wrong)
    model = nn.Sequential(padding_twice(), padding_twice())
    fast: Any = fusekit.optimize(model, X)
    (event,) = fast.report.rejected
    assert event.rewrite == "fold-pads" and "left out from here on" in event.reason
    assert not fast.report.applied
    assert_same(fast, model, X)


def test_its_runtime_is_one_to_choose(tmp_path: Path) -> None:
    assert "onnx-reference" in known() and "onnx-reference" in [each.name for each in available()]
    model = randomize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())).eval().double()
    verdict = fusekit.export(model, tmp_path / "m.onnx", X, target="onnx-reference", dynamic=False)
    assert verdict.ok and verdict.report is not None
    assert verdict.report.target == "onnx-reference"
    assert [event.rewrite for event in verdict.report.applied] == ["fold-affine"]


def test_its_operator_folds_in_a_model(tmp_path: Path) -> None:
    model = scaled()
    fast: Any = fusekit.optimize(model, X, strict=True)
    assert [event.rewrite for event in fast.report.applied] == ["fold-affine"]
    assert [type(layer).__name__ for layer in fast.children()] == ["Conv2d", "ReLU"]
    assert_same(fast, model, X)
    verdict = fusekit.export(model.float(), tmp_path / "m.onnx", X.float(), dynamic=False)
    assert verdict.ok, "which torch cannot export as it is"


def of_example(path: Path) -> None:
    """A file with the example's operator, whose body is a function of the file."""
    generator = torch.Generator().manual_seed(0)
    arrays = {"k": (4, 3, 3, 3), "scale": (4,), "shift": (4,), "column": (3,)}
    values = {name: torch.randn(shape, generator=generator).numpy() for name, shape in arrays.items()}
    values["column"] = torch.tensor([1, 4, 1, 1]).numpy()
    stored = [numpy_helper.from_array(value, name) for name, value in values.items()]
    body = [
        helper.make_node("Constant", [], ["sizes"], value_ints=[1, -1, 1, 1]),
        *(helper.make_node("Reshape", [name, "sizes"], [f"{name}_"]) for name in ("s", "t")),
        helper.make_node("Mul", ["x", "s_"], ["scaled"]),
        helper.make_node("Add", ["scaled", "t_"], ["y"]),
    ]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    function = helper.make_function("com.example", "ScaleShift", ["x", "s", "t"], ["y"], body, opsets[:1])
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"]),
        helper.make_node("ScaleShift", ["c", "scale", "shift"], ["y"], domain="com.example"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 9, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 7, 6])
    graph = helper.make_graph(nodes, "g", [x], [y], [each for each in stored if each.name != "column"])
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10), path)


def test_its_operator_folds_in_a_file(tmp_path: Path) -> None:
    of_example(tmp_path / "in.onnx")
    verdict = fusekit.optimize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", X.float(), strict=True)
    assert verdict.ok and verdict.report is not None
    assert [event.rewrite for event in verdict.report.applied] == ["fold-affine"]
    assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node] == ["Conv"]


def test_a_wrong_reader_does_not_change_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the operator as another map than the runtime computes: the result is thrown away."""
    module = import_module("fusekit_example.operators")
    plain = module.Affine
    monkeypatch.setattr(module, "Affine", lambda scale, shift, axis: plain(1.01 * scale, shift, axis))
    of_example(tmp_path / "in.onnx")
    verdict = fusekit.optimize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", X.float())
    assert verdict.report is not None and not verdict.report.applied
    assert len(onnx.load(tmp_path / "out.onnx").graph.node) == 2
    model = scaled()
    fast: Any = fusekit.optimize(model, X)
    assert not fast.report.applied
    assert_same(fast, model, X)


def test_the_command_line_lists_and_documents_them() -> None:
    told = json.loads(run("passes", "--json").stdout)
    (row,) = [each for each in told["passes"] if each["name"] == "fold-pads"]
    assert row["stage"] == "fold" and row["package"] == "fusekit-example 1.0"
    assert row["law"] == "pad(q) ∘ pad(p) = pad(p + q), if p does not crop where q pads."
    assert [each["name"] for each in told["targets"]][-1] == "onnx-reference"
    assert [(each["name"], each["package"]) for each in told["operators"]] == [
        ("scale-shift", "fusekit-example 1.0"),
        ("scale-shift-in-files", "fusekit-example 1.0"),
    ]
    assert told["left_out"] == []
    text = run("passes").stdout
    assert "fusekit-example 1.0" in text and "target onnx-reference: onnx's reference evaluator" in text
