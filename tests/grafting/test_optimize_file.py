"""A file on its way: what stays, what goes, what is told, and that a second time nothing happens."""

import json
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper

import fusekit
from fusekit.errors import VerificationError
from fusekit.report import Outcome
from tests.support.cli_room import run
from tests.support.onnx_files import drawn, model, node, norm, operators, saved

IMAGE = {"x": ("n", 8, "h", "w")}
OUT = {"y": (None, None, None, None)}


def block(**options: Any) -> ModelProto:
    """A convolution, its norm, an activation, and a softmax that nobody reads as algebra."""
    nodes = [
        node("Conv", "x w b", "c", pads=[1] * 4),
        node("BatchNormalization", "c s t m v", "d"),
        node("Relu", "d", "e"),
        node("Softmax", "e", "y", axis=1),
    ]
    return model(nodes, {"w": drawn(4, 8, 3, 3), "b": drawn(4), **norm(4, "")}, IMAGE, OUT, **options)


def small(proto: ModelProto, folder: Path, **options: Any) -> tuple[ModelProto, Any]:
    options = {"measure": False, **options}
    verdict = fusekit.optimize_onnx(saved(proto, folder), folder / "small.onnx", **options)
    assert verdict.ok, str(verdict)
    return onnx.load(folder / "small.onnx"), verdict


def test_what_does_not_change_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    proto = block()
    proto.graph.node[3].doc_string = "told"
    proto.graph.node[3].metadata_props.add(key="mine", value="kept")
    proto.metadata_props.add(key="author", value="somebody")
    found, verdict = small(proto, tmp_path)
    assert operators(found) == ["Conv", "Relu", "Softmax"]
    assert [n.SerializeToString() for n in found.graph.node[1:]] == [
        n.SerializeToString() for n in proto.graph.node[2:]
    ]
    assert [v.SerializeToString() for v in found.graph.input] == [v.SerializeToString() for v in proto.graph.input]
    assert [v.SerializeToString() for v in found.graph.output] == [v.SerializeToString() for v in proto.graph.output]
    conv = found.graph.node[0]
    assert json.loads(conv.metadata_props[0].value) == ["Conv_c", "BatchNormalization_d"]
    assert {t.name for t in found.graph.initializer} == {*conv.input[1:]} and conv.name == "Conv_c"
    told = {entry.key: entry.value for entry in found.metadata_props}
    assert told["author"] == "somebody" and told["fusekit_version"] == fusekit.__version__
    assert json.loads(told["fusekit_rewrites"]) == [
        {"rewrite": "fold-affine", "where": "Conv_c + BatchNormalization_d"}
    ]
    assert "float64" in verdict.report.notes[0] and verdict.report.after.operators == 3


def test_a_second_time_nothing_happens(tmp_path: Path) -> None:
    small(block(), tmp_path)
    again = fusekit.optimize_onnx(tmp_path / "small.onnx", tmp_path / "smaller.onnx")
    assert (tmp_path / "smaller.onnx").read_bytes() == (tmp_path / "small.onnx").read_bytes()
    assert again.ok and again.report is not None and not again.report.applied


@pytest.mark.parametrize(("opset", "ir_version"), [(7, 3), (9, 3), (9, 4), (11, 6), (13, 7), (21, 10)])
def test_old_files(opset: int, ir_version: int, tmp_path: Path) -> None:
    found, _ = small(block(opset=opset, ir_version=ir_version), tmp_path)
    assert operators(found) == ["Conv", "Relu", "Softmax"] and found.ir_version == ir_version
    stored = {tensor.name for tensor in found.graph.initializer}
    assert ({value.name for value in found.graph.input} - {"x"}) == (stored if ir_version < 4 else set())


def test_before_opset_7_a_file_is_copied_unless_it_is_converted(tmp_path: Path) -> None:
    nodes = [node("Identity", "x", "c"), node("Relu", "c", "y")]
    proto = model(nodes, {}, IMAGE, OUT, opset=6, ir_version=3)
    found, verdict = small(proto, tmp_path)
    assert operators(found) == ["Identity", "Relu"] and "convert it first" in verdict.report.refused[0].reason
    found, _ = small(proto, tmp_path, opset=13)
    assert operators(found) == ["Relu"] and found.opset_import[0].version == 13


def test_a_weight_that_others_read_or_that_is_an_output_stays(tmp_path: Path) -> None:
    nodes = [
        *block().graph.node,
        node("Mul", "w two", "doubled"),
        node("ConvTranspose", "y w", "z"),
    ]
    constants = {"w": drawn(4, 8, 3, 3), "b": drawn(4), "two": numpy.float32(2), **norm(4, "")}
    outputs = {"y": OUT["y"], "z": OUT["y"], "doubled": (4, 8, 3, 3), "s": (4,)}
    found, _ = small(model(nodes, constants, IMAGE, outputs), tmp_path)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in found.graph.initializer}
    for name in ("w", "two", "s"):
        assert numpy.array_equal(stored[name], constants[name])
    assert not {"b", "t", "m", "v"} & stored.keys()


def test_an_initializer_that_a_caller_may_override_is_no_constant(tmp_path: Path) -> None:
    proto = block()
    proto.graph.input.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, [4]))
    found, verdict = small(proto, tmp_path)
    assert operators(found) == operators(proto) and not verdict.report.applied


def branched(name: str) -> ModelProto:
    """An If whose branches read a value from outside."""
    branches = {}
    for which, operator in (("then_branch", "Neg"), ("else_branch", "Abs")):
        out = helper.make_tensor_value_info(f"{which}_out", TensorProto.FLOAT, None)
        branches[which] = helper.make_graph([helper.make_node(operator, [name], [out.name])], which, [], [out])
    nodes = [
        node("Conv", "x w", "c"),
        node("BatchNormalization", "c s t m v", "d"),
        node("Identity", "d", "e"),
        helper.make_node("If", ["yes"], ["y"], name="if", **branches),
    ]
    constants = {"w": drawn(4, 8, 3, 3), **norm(4, "")}
    kinds = {"yes": TensorProto.BOOL}
    return model(nodes, constants, {**IMAGE, "yes": ()}, OUT, kinds=kinds)


@pytest.mark.parametrize("name", ["c", "d", "e"])
def test_what_a_branch_reads_keeps_its_name(name: str, tmp_path: Path) -> None:
    example = {"x": torch.randn(1, 8, 9, 9), "yes": torch.tensor(True)}
    proto = branched(name)
    found, _ = small(proto, tmp_path, example_inputs=example)
    assert found.graph.node[-1].SerializeToString() == proto.graph.node[-1].SerializeToString()
    assert name in found.graph.node[-2].output
    for yes in (True, False):
        verdict = fusekit.grafting.validate_onnx(
            tmp_path / "model.onnx", tmp_path / "small.onnx", {**example, "yes": torch.tensor(yes)}
        )
        assert verdict.ok


def test_other_domains_functions_and_quantization_are_left_alone(tmp_path: Path) -> None:
    scale, zero = numpy.float32(0.1), numpy.uint8(128)
    nodes = [
        node("Conv", "x w", "c"),
        node("QuantizeLinear", "c scale zero", "q"),
        node("DequantizeLinear", "q scale zero", "d"),
        node("DequantizeLinear", "k scale zero", "kernel"),
        node("Conv", "d kernel", "e"),
        node("BatchNormalization", "e s t m v", "f"),
        node("Gelu", "f", "g", domain="com.microsoft"),
        node("Twice", "g", "y", domain="mine"),
    ]
    constants = {"w": drawn(4, 8, 3, 3), "scale": scale, "zero": zero, **norm(2, "")}
    constants["k"] = numpy.random.default_rng(0).integers(0, 255, (2, 4, 1, 1)).astype("uint8")
    proto = model(nodes, constants, IMAGE, OUT, domains={"com.microsoft": 1, "mine": 1})
    twice = [helper.make_node("Add", ["a", "a"], ["b"])]
    imports = [helper.make_opsetid("", 18)]
    proto.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], twice, imports))
    found, verdict = small(proto, tmp_path)
    assert operators(found) == operators(proto) and not verdict.report.applied


def test_external_weights_that_stay_do_not_hinder_what_folds(tmp_path: Path) -> None:
    """As torch.onnx writes files by default: the last convolution keeps its weights, which lie beside the file."""
    path = tmp_path / "model.onnx"
    nodes = [
        node("Conv", "x w b", "c"),
        node("BatchNormalization", "c s t m v", "d"),
        node("Relu", "d", "e"),
        node("Conv", "e k", "y"),
    ]
    graph = model(nodes, {"w": drawn(8, 8, 3, 3), "b": drawn(8), "k": drawn(4, 8, 3, 3), **norm(8, "")}, IMAGE, OUT)
    onnx.save(graph, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert fusekit.optimize_onnx(path, tmp_path / "small.onnx", measure=False).ok
    assert operators(onnx.load(tmp_path / "small.onnx")) == ["Conv", "Relu", "Conv"]


def test_external_data_comes_along(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    path = tmp_path / "from" / "model.onnx"
    onnx.save(block(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    for source, name in ((path, "small.onnx"), (tmp_path / "to" / "small.onnx", "smaller.onnx")):
        assert fusekit.optimize_onnx(source, tmp_path / "to" / name, measure=False).ok
    assert sorted(file.name for file in (tmp_path / "to").iterdir()) == ["small.onnx", "smaller.onnx"]
    assert operators(onnx.load(tmp_path / "to" / "small.onnx")) == ["Conv", "Relu", "Softmax"]
    untouched = model([node("Conv", "x w", "y")], {"w": drawn(4, 8, 3, 3)}, IMAGE, OUT)
    onnx.save(untouched, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert fusekit.optimize_onnx(path, tmp_path / "to" / "copy.onnx", measure=False).ok
    path.unlink()
    (tmp_path / "from" / "weights.bin").unlink()
    assert onnx.load(tmp_path / "to" / "copy.onnx").graph.initializer[0].raw_data


def test_fixed_sizes_and_integers(tmp_path: Path) -> None:
    nodes = [
        node("Gather", "table tokens", "a"),
        node("MatMul", "a w", "b"),
        node("Add", "b c", "d"),
        node("MatMul", "d k", "y"),
    ]
    constants = {"table": drawn(3, 32), "w": drawn(32, 64), "c": drawn(64), "k": drawn(64, 8)}
    kinds = {"tokens": TensorProto.INT64}
    proto = model(nodes, constants, {"tokens": (2, 7)}, {"y": (None, None, None)}, kinds=kinds)
    found, verdict = small(proto, tmp_path)
    assert operators(found) == ["Gather", "MatMul", "Add"] and verdict.dynamic_axes == {"tokens": ()}


def test_a_note_of_a_wrong_shape_is_not_believed(tmp_path: Path) -> None:
    """A custom operator may say that it gives eight channels where it gives one."""
    nodes = [node("ReduceMax", "x axes", "a"), node("Mul", "a s", "b"), node("Conv", "b w", "y")]
    constants = {"axes": numpy.array([1]), "s": drawn(8, 1, 1), "w": drawn(2, 8, 1, 1)}
    proto = model(nodes, constants, IMAGE, OUT)
    proto.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 8, "h", "w"]))
    found, _ = small(proto, tmp_path)
    assert operators(found) == ["ReduceMax", "Mul", "Conv"]


def test_one_value_of_two_names(tmp_path: Path) -> None:
    nodes = [node("Softplus", "x", "y"), node("Mul", "y one", "z")]
    found, _ = small(model(nodes, {"one": numpy.float32(1)}, IMAGE, {"y": OUT["y"], "z": OUT["y"]}), tmp_path)
    assert operators(found) == ["Softplus", "Identity"] and [value.name for value in found.graph.output] == ["y", "z"]


def test_as_many_axes_as_there_may_be(tmp_path: Path) -> None:
    nodes = [node("Softplus", "x", "a"), node("Slice", "a low high axis", "b"), node("Neg", "b", "y")]
    bounds = {"low": numpy.array([0]), "high": numpy.array([9]), "axis": numpy.array([1])}
    found, verdict = small(model(nodes, bounds, {"x": (1, 2, 1, 2, 3, 1, 2)}, {"y": None}), tmp_path)
    assert operators(found) == ["Softplus", "Neg"] and not verdict.report.rejected


def test_the_result_is_raced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEKIT_MEASURE", "1")
    found, verdict = small(block(), tmp_path, measure=True)
    assert verdict.report.times is not None and operators(found)[0] == "Conv"
    monkeypatch.setattr("fusekit.optimizing.race.Clock.compare", lambda *_: (1.0, 2.0))
    two = [node("Conv", "x w", "c"), node("Conv", "c k", "y")]
    proto = model(two, {"w": drawn(32, 8, 3, 3), "k": drawn(4, 32, 1, 1)}, IMAGE, OUT)
    found, verdict = small(proto, tmp_path, measure=True)
    assert operators(found) == ["Conv", "Conv"]
    assert [e.reason for e in verdict.report.rejected] == ["the result takes 2.00 times the time of the original"]


def test_a_result_that_does_not_hold_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fusekit.grafting import emitters

    def wrong(sheet: Any, value: Any, place: Any) -> None:
        emitters.write(sheet, value.__class__(**{**vars(value), "bias": None}), place)

    monkeypatch.setattr("fusekit.grafting.graft.write", wrong)
    found, verdict = small(block(), tmp_path)
    assert operators(found) == operators(block())
    assert "did not hold" in verdict.report.of(Outcome.REJECTED)[0].reason
    with pytest.raises(VerificationError, match="did not hold"):
        fusekit.optimize_onnx(tmp_path / "model.onnx", tmp_path / "other.onnx", strict=True, measure=False)
    assert not (tmp_path / "other.onnx").exists()


def test_passes_can_be_chosen(tmp_path: Path) -> None:
    found, _ = small(block(), tmp_path, passes=["drop-identity"])
    assert operators(found) == operators(block())


def test_the_command_line(tmp_path: Path) -> None:
    path, out = str(saved(block(), tmp_path)), str(tmp_path / "small.onnx")
    told = run("optimize", path, out, "--no-measure", "--json")
    assert told.code == 0 and json.loads(told.stdout)["report"]["after"]["operators"] == 3
    told = run("inspect", path, "--json", "--input", "1x8x9x9")
    assert told.code == 0 and [layer["kind"] for layer in json.loads(told.stdout)["layers"]] == ["conv2d"]
    assert run("validate", path, out).code == 0
    other = saved(model([node("Softmax", "x", "y", axis=1)], {}, IMAGE, OUT), tmp_path, "other.onnx")
    assert run("validate", path, str(other)).code == 1
    told = run("bench", path, "--json", "--rounds", "3", "--seconds", "0.1", "--input", "1x8x9x9")
    assert told.code == 0 and {row["version"] for row in json.loads(told.stdout)["bench"]["rows"]} >= {
        "original",
        "fusekit",
    }


def test_weights_outside_that_stay_outside(tmp_path: Path) -> None:
    """One convolution is folded and one is kept, both with their weights beside the file, as torch writes them."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 4, 1), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 3)
    ).eval()
    torch.onnx.export(layers, (torch.randn(1, 3, 9, 9),), tmp_path / "a.onnx", external_data=True, verbose=False)
    assert (tmp_path / "a.onnx.data").exists()
    (tmp_path / "out").mkdir()
    verdict = fusekit.optimize_onnx(tmp_path / "a.onnx", tmp_path / "out" / "b.onnx", measure=False)
    assert verdict.ok and verdict.report is not None and verdict.report.applied
    assert fusekit.validate(layers, tmp_path / "out" / "b.onnx", (torch.randn(1, 3, 9, 9),)).ok
