"""Small ONNX files, written node by node."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Shape = Sequence[int | str | None] | None


def drawn(*shape: int, seed: int = 0, positive: bool = False) -> Any:
    """Float32 numbers, always the same."""
    generator = numpy.random.default_rng((seed, *shape))
    values = (
        generator.uniform(0.5, 2.0, shape)
        if positive
        else generator.normal(size=shape) / max(shape[-1:] or (1,)) ** 0.5
    )
    return values.astype(numpy.float32)


def norm(channels: int, prefix: str) -> dict[str, Any]:
    """The four vectors of a batch norm: scale, shift, mean, variance."""
    return {f"{prefix}{k}": drawn(channels, seed=i + 1, positive=k in "sv") for i, k in enumerate("stmv")}


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """A node whose inputs and outputs are given as words; `_` stands for one left out."""
    read, made = (["" if name == "_" else name for name in words.split()] for words in (inputs, outputs))
    return helper.make_node(operator, read, made, name=f"{operator}_{made[0]}", **attributes)


def model(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, Any],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    *,
    opset: int = 18,
    ir_version: int = 10,
    domains: Mapping[str, int] | None = None,
    kinds: Mapping[str, int] | None = None,
) -> ModelProto:
    """A model of float inputs and outputs, of other element types where `kinds` says so."""

    def declared(values: Mapping[str, Shape]) -> list[Any]:
        found = kinds or {}
        return [helper.make_tensor_value_info(n, found.get(n, TensorProto.FLOAT), shape) for n, shape in values.items()]

    stored = [numpy_helper.from_array(numpy.asarray(value), name) for name, value in constants.items()]
    listed = declared(inputs)
    if ir_version < 4:
        listed += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in stored]
    graph = helper.make_graph(list(nodes), "graph", listed, declared(outputs), stored)
    versions = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in (domains or {}).items())]
    return helper.make_model(graph, opset_imports=versions, ir_version=ir_version)


def saved(proto: ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """The file of a model."""
    onnx.save(proto, str(folder / name))
    return folder / name


def operators(proto: ModelProto) -> list[str]:
    """The operators of its nodes, in order."""
    return [each.op_type for each in proto.graph.node]
