"""What a node is read as computes what the node does: on the data of onnx's own tests, in all that is read of them."""

from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from fusekit.grafting.importing import Imported, import_file, opaque
from fusekit.grafting.model_file import ModelFile
from fusekit.grafting.operators import READERS
from fusekit.ir import evaluate
from fusekit.model import Inputs
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from tests.support.onnx_files import drawn, model, node, norm, saved


def cases() -> dict[str, Any]:
    found = {}
    for case in collect_testcases(""):
        if case.model is None or len(case.model.graph.node) != 1 or not case.data_sets:
            continue
        arrays = all(isinstance(array, numpy.ndarray) for array in case.data_sets[0][0])
        if case.model.graph.node[0].op_type in READERS and "expanded" not in case.name and arrays:
            found[case.name] = case
    return found


CASES = cases()
SEEN: set[str] = set()


def with_constants(model: ModelProto, data: list[Any]) -> ModelProto:
    """All inputs but the first stored in the file."""
    own = ModelProto()
    own.CopyFrom(model)
    own.ir_version = 10
    rest = list(own.graph.input)[1:]
    own.graph.initializer.extend(numpy_helper.from_array(a, v.name) for a, v in zip(data[1:], rest, strict=True))
    del own.graph.input[1:]
    return own


def answered(imported: Imported, *data: Any) -> Any:
    """What the nodes compute, as far as all of them are read; None if one is not."""
    nodes = list(imported.graph.nodes)
    if any(node.target is opaque for node in nodes):
        return None
    given = [node for node in nodes if node.op == "placeholder"]
    values = dict(zip(given, map(torch.from_numpy, data), strict=True))
    evaluate(imported.graph, [node for node in nodes if node.op != "output"], values)
    return [values[node].numpy() for name, node in imported.kept().items()]


@pytest.mark.parametrize("name", CASES)
def test_a_reading_is_what_the_node_computes(name: str, tmp_path: Any) -> None:
    case = CASES[name]
    inputs, outputs = case.data_sets[0]
    for proto, data in ((with_constants(case.model, inputs), inputs[:1]), (case.model, inputs)):
        imported = import_file(ModelFile.read(saved(proto, tmp_path)), {})
        found = answered(imported, *(numpy.array(a) for a in data))
        if found is None:
            continue
        SEEN.add(case.model.graph.node[0].op_type)
        order = dict(zip((value.name for value in proto.graph.output), outputs, strict=True))
        for ours, key in zip(found, imported.pinned, strict=True):
            assert ours.dtype == order[key].dtype
            numpy.testing.assert_allclose(ours, order[key], rtol=1e-4, atol=1e-5)


X = {"x": (2, 3, 8, 9)}
AMOUNTS = numpy.array([0, 0, 1, 0, 0, 0, 2, 3])


def cuts(*words: tuple[int, ...]) -> dict[str, Any]:
    """Starts, ends, axes and steps of a Slice."""
    return {name: numpy.array(values) for name, values in zip("ijkl", words, strict=False)}


OWN: dict[str, tuple[NodeProto, dict[str, Any]]] = {
    "a constant less": (node("Sub", "c x", "a"), {"c": drawn(3, 1, 1)}),
    "a constant more": (node("Add", "c x", "a"), {"c": drawn(9)}),
    "times, from the left": (node("Mul", "c x", "a"), {"c": drawn(1, 3, 1, 1)}),
    "Identity": (node("Identity", "x", "a"), {}),
    "Dropout": (node("Dropout", "x", "a"), {}),
    "dropout that is asked not to": (node("Dropout", "x p no", "a"), {"p": drawn() * 0, "no": numpy.array(False)}),
    "Cast": (node("Cast", "x", "a", to=TensorProto.FLOAT), {}),
    "ReduceMean": (node("ReduceMean", "x axes", "a"), {"axes": numpy.array([2, -1])}),
    "Pad": (node("Pad", "x n", "a"), {"n": numpy.array([0, 0, 1, 0, 0, 0, 2, -1])}),
    "pad of zeros, said": (node("Pad", "x n zero", "a"), {"n": AMOUNTS, "zero": drawn() * 0}),
    "pad of some axes": (node("Pad", "x n _ axes", "a"), {"n": numpy.array([1, 2]), "axes": numpy.array([-1])}),
    "reflected": (node("Pad", "x n", "a", mode="reflect"), {"n": AMOUNTS}),
    "edge": (node("Pad", "x n", "a", mode="edge"), {"n": AMOUNTS}),
    "no pad": (node("Pad", "x n", "a", mode="reflect"), {"n": numpy.zeros(8, "int64")}),
    "Reshape": (node("Reshape", "x n", "a"), {"n": numpy.array([0, -1])}),
    "reshape that says all": (node("Reshape", "x n", "a"), {"n": numpy.array([-1, 216])}),
    "no bias": (node("Conv", "x w", "a", group=3, strides=[1, 2], pads=[2, 0, 1, 3]), {"w": drawn(6, 1, 2, 3)}),
    "more below": (node("Conv", "x w", "a", auto_pad="SAME_LOWER", strides=[2, 2]), {"w": drawn(2, 3, 2, 3)}),
    "more above": (node("Conv", "x w", "a", auto_pad="SAME_UPPER", strides=[3, 2]), {"w": drawn(2, 3, 4, 2)}),
    "turned": (node("Gemm", "v w b", "a", transB=1, alpha=0.5, beta=2.0), {"w": drawn(4, 216), "b": drawn(1, 4)}),
    "LeakyRelu": (node("LeakyRelu", "x", "a"), {}),
    "a value that is padded": (node("Pad", "x n u", "a"), {"n": AMOUNTS, "u": numpy.float32(-1.5)}),
    "a channel of ones": (
        node("Pad", "x n u", "a"), {"n": numpy.array([0, 0, 0, 0, 0, 1, 0, 0]), "u": numpy.float32(1)}
    ),
    "wrapped": (node("Pad", "x n", "a", mode="wrap"), {"n": AMOUNTS}),
    "a mean whose axes go": (node("ReduceMean", "x axes", "a", keepdims=0), {"axes": numpy.array([2, 3])}),
    "rounded up, and nothing to round": (
        node("AveragePool", "x", "a", kernel_shape=[2, 3], strides=[2, 3], ceil_mode=1), {}
    ),
    "Transpose": (node("Transpose", "x", "a", perm=[0, 2, 3, 1]), {}),
    "backwards": (node("Transpose", "x", "a"), {}),
    "no other order": (node("Transpose", "x", "a", perm=[0, 1, 2, 3]), {}),
    "rows of tokens": (node("Flatten", "x", "a", axis=3), {}),
    "rows of tokens, said": (node("Reshape", "x n", "a"), {"n": numpy.array([-1, 9])}),
    "LayerNormalization": (node("LayerNormalization", "x s t", "a", epsilon=0.1), {"s": drawn(9), "t": drawn(9)}),
    "layer norm without a shift": (node("LayerNormalization", "x s", "a", axis=3), {"s": drawn(9)}),
    "RMSNormalization": (node("RMSNormalization", "x s", "a", epsilon=0.1), {"s": drawn(9)}),
    "GroupNormalization": (
        node("GroupNormalization", "x s t", "a", num_groups=1, epsilon=0.1), {"s": drawn(3), "t": drawn(3)}
    ),
    "a scale of each group": (
        node("GroupNormalization", "blocks s t", "a", num_groups=2), {"s": drawn(2), "t": drawn(2)}
    ),
    "InstanceNormalization": (node("InstanceNormalization", "x s t", "a"), {"s": drawn(3), "t": drawn(3)}),
    "DepthToSpace": (node("DepthToSpace", "blocks", "a", blocksize=2), {}),
    "depth to space, channels first": (node("DepthToSpace", "blocks", "a", blocksize=2, mode="CRD"), {}),
    "SpaceToDepth": (node("SpaceToDepth", "blocks", "a", blocksize=2), {}),
    "Resize": (node("Resize", "x _ f", "a"), {"f": numpy.array([1, 1, 3, 2], "float32")}),
    "resized to sizes": (node("Resize", "x _ _ f", "a"), {"f": numpy.array([2, 3, 16, 27])}),
    "resized on some axes": (node("Resize", "x _ f", "a", axes=[-1, 2]), {"f": numpy.array([2, 3], "float32")}),
    "resized on some axes to sizes": (node("Resize", "x _ _ f", "a", axes=[3]), {"f": numpy.array([18])}),
    "rounded down": (
        node("Resize", "x _ f", "a", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        {"f": numpy.array([1, 1, 3, 7], "float32")},
    ),
    "rounded": (
        node("Resize", "x _ f", "a", coordinate_transformation_mode="asymmetric"),
        {"f": numpy.array([1, 1, 2, 1], "float32")},
    ),
    "not resized": (node("Resize", "x _ f", "a", mode="nearest"), {"f": numpy.ones(4, "float32")}),
    "Upsample": (node("Upsample", "x f", "a", mode="nearest"), {"f": numpy.array([1, 1, 3, 2], "float32")}),
    "crops": (node("Slice", "x i j k", "a"), cuts((1, 0), (-1, 7), (2, -1))),
    "crops, counted from the left": (node("Slice", "x i j k", "a"), cuts((1, -8), (6, 2**40), (2, 3))),
    "every second": (node("Slice", "x i j k l", "a"), cuts((1,), (100,), (3,), (2,))),
    "one crop": (node("Slice", "x i j k", "a"), cuts((2,), (8,), (3,))),
    "some channels": (node("Slice", "x i j k", "a"), cuts((-2,), (-1,), (1,))),
}  # fmt: skip


OLD = {"Upsample": 9, "a scale of each group": 18}  # opsets, where they are not the newest


@pytest.mark.parametrize("name", OWN)
def test_a_reading_is_what_the_runtime_computes(name: str, tmp_path: Path) -> None:
    one, constants = OWN[name]
    flat = "v" in one.input
    nodes = [
        node("Softplus", "x", "soft"),
        *([node("Flatten", "soft", "v")] if flat else []),
        one,
        node("Erf", "a", "y"),
    ]
    shape = (2, 8, 4, 6) if "blocks" in one.input else X["x"]
    nodes[-2].input[:] = ["soft" if name in ("x", "blocks") else name for name in nodes[-2].input]
    opset = OLD.get(name, 23)
    path = saved(model(nodes, constants, {"x": shape}, {"y": None, "a": None}, opset=opset), tmp_path)
    x = torch.randn(shape)
    expected = dict(ONNX_RUNTIME.load(path).run(Inputs((x,)), ["x"]))["a"]
    imported = import_file(ModelFile.read(path), {})
    made = next(node for node, value in imported.names.items() if value == "a")
    assert made.target is not opaque
    source = made.all_input_nodes[0]
    given = torch.nn.functional.softplus(x)
    values = evaluate(imported.graph, [made], {source: given.flatten(1) if flat else given})
    assert values[made].shape == expected.shape
    torch.testing.assert_close(values[made], expected, rtol=1e-5, atol=1e-5)
    SEEN.add(one.op_type)


REFUSED: dict[str, tuple[NodeProto, dict[str, Any]]] = {
    "a norm that trains": (node("BatchNormalization", "x s t m v", "y mean var", training_mode=1), norm(3, "")),
    "dropout that trains": (node("Dropout", "x p yes", "y"), {"p": drawn(), "yes": numpy.array(True)}),
    "another type": (node("Cast", "x", "y", to=TensorProto.DOUBLE), {}),
    "half a position off": (
        node("Resize", "x _ f", "y", coordinate_transformation_mode="asymmetric"),
        {"f": numpy.array([1, 1, 3, 1], "float32")},
    ),
    "corners aligned": (
        node("Resize", "x _ f", "y", coordinate_transformation_mode="align_corners"),
        {"f": numpy.array([1, 1, 2, 2], "float32")},
    ),
    "rounded down from the middle": (
        node("Resize", "x _ f", "y", nearest_mode="floor"), {"f": numpy.array([1, 1, 2, 2], "float32")}
    ),
    "half as much again": (node("Resize", "x _ f", "y"), {"f": numpy.array([1, 1, 1.5, 2], "float32")}),
    "more channels": (node("Resize", "x _ f", "y"), {"f": numpy.array([1, 2, 2, 2], "float32")}),
    "smoothed": (node("Resize", "x _ f", "y", mode="linear"), {"f": numpy.array([1, 1, 2, 2], "float32")}),
    "an integer division": (node("Div", "x c", "y"), {"c": numpy.zeros(1, "float32")}),
    "a wider constant": (node("Add", "x c", "y"), {"c": drawn(5, 1, 3, 1, 1)}),
    "a constant on two axes": (node("Mul", "x c", "y"), {"c": drawn(8, 9)}),
    "a constant that broadcasts one row": (node("Mul", "small c", "y"), {"c": drawn(8, 1)}),
    "a constant that broadcasts the input": (node("Mul", "x c", "y"), {"c": drawn(2, 1, 1, 1, 1)}),
    "sizes rounded up": (node("AveragePool", "x", "y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), {}),
    "zeros that do not count": (node("AveragePool", "x", "y", kernel_shape=[2, 2], pads=[1, 1, 1, 1]), {}),
    "another pad on each side": (
        node("AveragePool", "x", "y", kernel_shape=[2, 2], pads=[1, 0, 0, 0], count_include_pad=1), {}
    ),
    "a channel that is padded": (node("Pad", "x n", "y"), {"n": numpy.array([0, 1, 0, 0, 0, 0, 0, 0])}),
    "two channels of ones": (
        node("Pad", "x n v", "y"), {"n": numpy.array([0, 0, 0, 0, 0, 2, 0, 0]), "v": numpy.float32(1)}
    ),
    "ones around what is cropped": (
        node("Pad", "x n v", "y"), {"n": numpy.array([0, 0, 1, -1, 0, 0, 1, 1]), "v": numpy.float32(1)}
    ),
    "infinity": (node("Pad", "x n v", "y"), {"n": AMOUNTS, "v": numpy.float32(numpy.inf)}),
    "a norm of two axes": (node("LayerNormalization", "x s", "y", axis=2), {"s": drawn(8, 9)}),
    "a norm of two axes, alike in one": (node("LayerNormalization", "x s", "y", axis=2), {"s": drawn(9)}),
    "a norm that tells its mean": (node("LayerNormalization", "x s", "y mean"), {"s": drawn(9)}),
    "a norm whose scale is one for all": (node("LayerNormalization", "x s", "y"), {"s": drawn(1)}),
    "a norm whose scale is given": (node("LayerNormalization", "x line", "y"), {}),
    "steps of channels": (node("Slice", "x i j k l", "y"), cuts((0,), (3,), (1,), (2,))),
    "backwards in space": (node("Slice", "x i j k l", "y"), cuts((-1,), (-5,), (3,), (-1,))),
    "channels and positions": (node("Slice", "x i j k", "y"), cuts((0, 1), (2, 5), (1, 3))),
    "a mean of one axis": (node("ReduceMean", "x axes", "y"), {"axes": numpy.array([2])}),
    "a crop of two amounts": (node("ConvTranspose", "x w", "y", pads=[1, 0, 0, 1]), {"w": drawn(3, 2, 3, 3)}),
    "a size that is asked for": (node("ConvTranspose", "x w", "y", output_shape=[20, 20]), {"w": drawn(3, 2, 3, 3)}),
    "another axis": (node("Flatten", "x", "y", axis=2), {}),
    "a matrix on the left": (node("MatMul", "w x", "y"), {"w": drawn(4, 8)}),
    "a sum that broadcasts": (node("Add", "x small", "y"), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_map_is_left_alone(name: str, tmp_path: Path) -> None:
    one, constants = REFUSED[name]
    inputs = {**X, "small": (1, 3, 1, 1), "line": (9,)}
    path = saved(model([one], constants, inputs, dict.fromkeys(one.output)), tmp_path)
    imported = import_file(ModelFile.read(path), {})
    assert next(n for n in imported.graph.nodes if n.op == "call_function").target is opaque


def test_every_operator_was_seen() -> None:
    """By one of the tests above, where all of them ran here."""
    if len(SEEN) > 10:
        assert set(READERS) == SEEN


def test_the_data_is_there() -> None:
    assert len(CASES) > 150 and onnx.defs.onnx_opset_version() >= 20
