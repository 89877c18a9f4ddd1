"""What a node is read as computes what the node does: on the data of onnx's own tests, in all that is read of them."""

from typing import Any

import numpy
import onnx
import pytest
import torch
from onnx import ModelProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from fusekit.grafting.importing import Imported, import_file, opaque
from fusekit.grafting.model_file import ModelFile
from fusekit.grafting.operators import READERS
from fusekit.ir import evaluate
from tests.support.onnx_files import saved


def cases() -> dict[str, Any]:
    found = {}
    for case in collect_testcases(""):
        if case.model is None or len(case.model.graph.node) != 1 or not case.data_sets:
            continue
        if case.model.graph.node[0].op_type in READERS and "expanded" not in case.name:
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
    if not all(isinstance(array, numpy.ndarray) for array in inputs):
        pytest.skip("no tensors")
    for model, data in ((with_constants(case.model, inputs), inputs[:1]), (case.model, inputs)):
        imported = import_file(ModelFile.read(saved(model, tmp_path)), {})
        found = answered(imported, *(numpy.array(a) for a in data))
        if found is None:
            continue
        SEEN.add(case.model.graph.node[0].op_type)
        order = dict(zip((value.name for value in model.graph.output), outputs, strict=True))
        for ours, key in zip(found, imported.pinned, strict=True):
            assert ours.dtype == order[key].dtype
            numpy.testing.assert_allclose(ours, order[key], rtol=1e-4, atol=1e-5)


def test_every_operator_was_seen() -> None:
    left = set(READERS) - SEEN
    assert left <= {"Conv", "Cast"} or not SEEN, f"nothing tests the reading of {sorted(left)}"


def test_the_data_is_there() -> None:
    assert len(CASES) > 150 and onnx.defs.onnx_opset_version() >= 20
