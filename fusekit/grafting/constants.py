"""What of a file is constant, and its numbers: initializers, Constant nodes, and what can be computed from them.

ONNX Runtime computes them, as it does for itself when it loads the file; a shape that is fixed is a constant, too. An
initializer that is also an input is a default that a caller may override, and no constant; nor is what a quantization
makes, for the pair of it and its inverse is a message to the runtime.
"""

from typing import Any

import numpy
import onnxruntime
import torch
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from torch import Tensor

from fusekit.grafting.model_file import ModelFile, is_float, is_standard, subgraphs
from fusekit.grafting.shapes import Shapes
from fusekit.runtimes.onnx_runtime import SILENT, session

_NOT_COMPUTED = {
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"),
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    *("SequenceConstruct", "SequenceEmpty", "Optional", "ImageDecoder"),
}


class Constants:
    """The constants of a file by the names of their values.

    `guarded`: those that are computed from the type or the shape of something that is none itself. Their numbers are
    known as well, but what they are computed by must be kept with what it reads.
    """

    def __init__(self, file: ModelFile, shapes: Shapes) -> None:
        self._file, self._shapes = file, shapes
        graph = file.graph
        inputs = {value.name for value in graph.input}
        default = inputs if file.proto.ir_version >= 4 else set()
        self._stored = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in default}
        self._places: dict[str, int] = {}  # where in the graph they are computed
        self._closed: dict[int, NodeProto] = {}  # by what, with nothing but constants to read
        self.guarded: set[str] = set()
        for place, node in enumerate(graph.node):
            closed = self._closed_form(node)
            if closed is not None:
                self._closed[place] = closed
                self._places.update({name: place for name in node.output if name})
                if any(name and (name in self.guarded or name not in self) for name in node.input):
                    self.guarded.update(name for name in node.output if name)
        self._values: dict[str, Any] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._stored or name in self._places

    def stands_alone(self, node: NodeProto) -> bool:
        """Whether a node makes constants, and reads nothing else."""
        return all(name in self and name not in self.guarded for name in node.output if name)

    def array(self, name: str) -> Any:
        """The numbers of a constant; None of what is none, or is no tensor of numbers."""
        if name not in self._values and name in self:
            self._values[name] = self._computed(name)
        return self._values.get(name)

    def tensor(self, name: str) -> Tensor | None:
        """The same for floating numbers, as torch has them."""
        array = self.array(name)
        return torch.from_numpy(array) if array is not None and is_float(array) else None

    def integers(self, name: str) -> list[int] | None:
        """The same for integers, flat; a scalar as one."""
        array = self.array(name)
        if array is None or array.dtype.kind not in "iu":
            return None
        return [int(value) for value in array.reshape(-1)]

    def behind(self, name: str) -> list[int]:
        """The places in the graph of the nodes that a constant is computed by, in order; none for a stored one."""
        wanted: set[int] = set()
        pending = [name]
        while pending:
            place = self._places.get(pending.pop())
            if place is not None and place not in wanted:
                wanted.add(place)
                pending += list(self._closed[place].input)
        return sorted(wanted)

    def _closed_form(self, node: NodeProto) -> NodeProto | None:
        """A node with the same outputs that reads nothing but constants; None if there is no such."""
        if not is_standard(node.domain) or node.op_type in _NOT_COMPUTED or any(True for _ in subgraphs(node)):
            return None
        inputs = [name for name in node.input if name]
        if (inputs or node.op_type == "Constant") and all(name in self for name in inputs):
            return node
        if node.op_type == "CastLike" and node.input[0] in self:
            kind = self._shapes.element_type(node.input[1])
            return helper.make_node("Cast", node.input[:1], node.output, to=kind) if kind else None
        sizes = self._shapes.facts(node.input[0]).shape if node.op_type == "Shape" and not node.attribute else None
        if sizes is None or None in sizes:
            return None
        return helper.make_node("Constant", [], node.output, value_ints=[size or 0 for size in sizes])

    def _computed(self, name: str) -> Any:
        if name in self._stored:
            return _writable(self._file.array(self._stored[name]))
        nodes = [self._closed[place] for place in self.behind(name)]
        needed = {each for node in nodes for each in node.input if each in self._stored}
        model = ModelProto(ir_version=max(4, min(self._file.proto.ir_version, 10)))
        model.opset_import.extend(self._file.proto.opset_import)
        model.graph.name = "constants"
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(self._file.inline(self._stored[each]) for each in sorted(needed))
        model.graph.output.append(ValueInfoProto(name=name))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        try:
            value = session(model.SerializeToString(), options).run([name], {})[0]
        except Exception:  # strings, sequences, operators without a kernel: not numbers that anything folds with
            return None
        return _writable(value) if isinstance(value, numpy.ndarray) and value.dtype.kind in "fiub" else None


def _writable(array: Any) -> Any:
    return numpy.array(array, order="C")


def initializer(name: str, value: Tensor) -> TensorProto:
    """A tensor of the graph as an initializer of a file."""
    array = value.detach().cpu().contiguous().numpy()
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return TensorProto(name=name, data_type=kind, dims=array.shape, raw_data=array.tobytes())
