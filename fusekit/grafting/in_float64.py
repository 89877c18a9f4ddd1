"""A file run in float64: what is read of it by torch, every other node by what has a kernel for doubles.

    a node that reads     its map, or its call, on float64 values
    any other             ONNX Runtime, where it has a kernel of that type; else onnx's reference evaluator, where its
                          values are small

Where a node has neither, or the whole is too much work, there is no such run, and the file is judged otherwise
(`yardstick.py`). Nodes with graphs inside are not entered.
"""

import operator
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy
import onnxruntime
import torch
from onnx import NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, fx

from fusekit.algebra import Map
from fusekit.algebra.values import wide
from fusekit.grafting.importing import Imported, computed, import_file, opaque, values_read
from fusekit.grafting.model_file import ModelFile, subgraphs
from fusekit.ir import evaluate
from fusekit.runtimes.onnx_runtime import SILENT, session

MOST_PRODUCTS = 3_000_000_000  # multiply-accumulates of one run: about a second
# entries of the values that the evaluator takes of a node: it is written in Python, and only some of it in whole arrays
MOST_ENTRIES, MOST_ENTRIES_AT_ONCE = 20_000, 2_000_000
_AT_ONCE = {
    *("Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Selu", "Celu", "Softplus", "Softsign", "Swish"),
    *("ThresholdedRelu", "PRelu", "Sin", "Cos", "Tan", "Asinh", "Acosh", "Atanh", "Sinh", "Cosh", "LpNormalization"),
}
_SHORTER = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}


class NoSuchRun(Exception):
    """A node, or the whole, cannot be run so."""


class InFloat64:
    """The file as a function of its inputs, in float64."""

    def __init__(self, file: ModelFile) -> None:
        self._file = file
        self._runs: dict[int, Any] = {}
        self._too_large: int | None = None  # entries of inputs for which there was none

    @cached_property
    def _imported(self) -> Imported:
        return import_file(self._file, {})

    def outputs(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, arrays, those that are constants left out. NoSuchRun if there is no such run."""
        entries = sum(array.size for array in feed.values())
        if self._too_large is not None and entries >= self._too_large:
            raise NoSuchRun("there is none for smaller inputs either")
        try:
            return self._outputs(feed)
        except Exception as error:  # whatever a node does with values of another type than its own
            self._too_large = entries
            raise NoSuchRun(str(error)) from error

    @torch.no_grad()
    def _outputs(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        graph = self._imported.graph
        values: dict[fx.Node, Any] = {}
        left = {node: len(node.users) for node in graph.nodes}
        products = 0
        for node in graph.nodes:
            if node.op == "output":
                break
            products += self._run(node, values, feed)
            if products > MOST_PRODUCTS:
                raise NoSuchRun("the whole is too much work in float64")
            for source in node.all_input_nodes:
                left[source] -= 1
                if not left[source]:
                    values.pop(source, None)
        kept = self._imported.kept()
        wanted = [value.name for value in self._file.graph.output if value.name in kept]
        return {name: _array(values[kept[name]]) for name in wanted}

    def _run(self, node: fx.Node, values: dict[fx.Node, Any], feed: Mapping[str, Any]) -> int:
        """The value of a node; how many products it took."""
        if node.op == "placeholder":
            values[node] = _double(self._given(self._imported.names[node], feed))
        elif node.op == "get_attr":
            values[node] = wide(self._imported.graph.constants[str(node.target)])
        elif node.target is opaque:
            values[node] = self._opaque(node, values)
        elif node.target is operator.getitem:
            parts: Any = node.args
            values[node] = values[parts[0]][parts[1]]
        elif node.target is computed:
            arguments: Any = node.args
            source, *constants, build = arguments
            value: Map = build(*(values[each] for each in constants))
            x = values[source]
            products = value.macs(tuple(x.shape))
            if products > MOST_PRODUCTS:
                raise NoSuchRun("a layer is too much work in float64")
            values[node] = value(x)
            return products
        else:
            evaluate(self._imported.graph, [node], values)
        return 0

    def _given(self, name: str, feed: Mapping[str, Any]) -> Any:
        if name in feed:
            return feed[name]
        stored = {tensor.name: tensor for tensor in self._file.graph.initializer}
        if name not in stored:
            raise NoSuchRun(f"nothing is known of the input {name!r}")
        return self._file.array(stored[name])

    def _opaque(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
        (place,) = self._imported.origin[node]
        proto = self._file.graph.node[place]
        read = dict(zip(self._imported.read[node], (values[each] for each in values_read(node)), strict=True))
        feed = {name: self._input(name, read) for name in proto.input if name}
        made = self._computed(place, proto, feed)
        outputs = dict(zip((name for name in proto.output if name), map(_double, made), strict=True))
        only = [name for name in proto.output if name]
        if len(only) == 1 and proto.output[0] == only[0]:
            return outputs[only[0]]
        return [outputs.get(name) for name in proto.output]

    def _input(self, name: str, read: Mapping[str, Any]) -> Any:
        value = read[name] if name in read else self._imported.constants.array(name)
        value = _array(_double(value))
        if not isinstance(value, numpy.ndarray):
            raise NoSuchRun(f"the value {name!r} is no tensor of numbers")
        return value

    def _computed(self, place: int, proto: NodeProto, feed: dict[str, Any]) -> list[Any]:
        if proto.op_type in _RANDOM or any(True for _ in subgraphs(proto)):
            raise NoSuchRun(f"a {proto.op_type} is not run in float64")
        if place not in self._runs:
            self._runs[place] = self._runner(_in_doubles(proto), feed)
        return list(self._runs[place](feed))

    def _runner(self, proto: NodeProto, feed: Mapping[str, Any]) -> Any:
        """What computes one node."""
        imports = self._file.proto.opset_import
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
            for name, array in feed.items()
        ]
        names = [name for name in proto.output if name]
        outputs = [helper.make_empty_tensor_value_info(name) for name in names]
        graph = helper.make_graph([proto], "node", inputs, outputs)
        model = helper.make_model(graph, opset_imports=imports, functions=self._file.proto.functions, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            running = session(model.SerializeToString(), options)
            return lambda feed: running.run(names, feed)
        except Exception:
            most = MOST_ENTRIES_AT_ONCE if proto.op_type in _AT_ONCE else MOST_ENTRIES
            if sum(array.size for array in feed.values()) > most:
                raise NoSuchRun(f"a {proto.op_type} is not run in float64 on so many values") from None
        return lambda feed: ReferenceEvaluator(model).run(names, feed)


def _in_doubles(proto: NodeProto) -> NodeProto:
    """The node, casting to float64 where it casts to a shorter type."""
    own = NodeProto()
    own.CopyFrom(proto)
    for attribute in own.attribute:
        if attribute.name in ("to", "dtype") and attribute.i in _SHORTER:
            attribute.i = TensorProto.DOUBLE
    return own


def _double(value: Any) -> Any:
    """A tensor of a floating array in float64, and of any other of numbers as it is; what is none stays."""
    if isinstance(value, numpy.ndarray) and value.dtype.kind in "fiub":
        value = torch.from_numpy(numpy.array(value, order="C"))
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value
