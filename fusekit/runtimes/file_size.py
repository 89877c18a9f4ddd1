"""The size of an ONNX file: how many operators run, and how many bytes it takes on the disk."""

import math
from pathlib import Path

import onnx
from onnx import GraphProto, TensorProto

from fusekit.report import Totals


def operators_of(graph: GraphProto) -> int:
    """The nodes of a graph and of its sub-graphs; constants do not run."""
    inner = (each for node in graph.node for attribute in node.attribute for each in (attribute.g, *attribute.graphs))
    here = [node for node in graph.node if node.op_type != "Constant"]
    return len(here) + sum(operators_of(each) for each in inner if each.node)


def numbers_of(graph: GraphProto) -> int:
    """The entries of all floating tensors that a graph stores."""
    return sum(math.prod(tensor.dims) for tensor in graph.initializer if tensor.data_type in _FLOATS)


def file_size(path: Path, size: Totals) -> Totals:
    """`size` with the operators and the bytes of this file; the files with its weights count too."""
    graph = onnx.load(str(path), load_external_data=False).graph
    outside = {path.parent / name for tensor in graph.initializer for name in _location(tensor)}
    files = [path, *(file for file in outside if file.is_file())]
    return Totals(operators_of(graph), size.parameters, size.macs, sum(file.stat().st_size for file in files))


def _location(tensor: TensorProto) -> list[str]:
    return [entry.value for entry in tensor.external_data if entry.key == "location"]


_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
