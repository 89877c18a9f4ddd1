"""Writes a large model as one ONNX file without a second copy of its weights in memory.

The library serializes a model as a whole: the weights are copied into a protocol buffer, and that into bytes. Here the
model is serialized without its weights, and they are written one after the other where they belong. A field of a
protocol buffer is a key (the number of the field and 2 for "bytes that follow"), a length and the bytes
(https://protobuf.dev/programming-guides/encoding). The file is the one that the library would write.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir

_GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
_INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
_RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER


def write_streamed(model: ir.Model, path: Path) -> None:
    """Write the model to `path`; together at most 2 GiB. Raises OSError if the disk is full."""
    with _without_weights(model) as weights:
        proto = ir.to_proto(model)
    initializers = list(proto.graph.initializer)
    del proto.graph.initializer[:]
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    heads = []  # of each initializer: everything before its numbers
    for tensor in initializers:
        length = weights[tensor.name].nbytes
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        inner = tensor.SerializeToString() + _header(_RAW_DATA, length)
        heads.append(_header(_INITIALIZER, len(inner) + length) + inner)
    size = len(graph) + sum(len(head) for head in heads) + sum(weights[t.name].nbytes for t in initializers)
    with path.open("wb") as file:
        file.write(proto.SerializeToString())
        file.write(_header(_GRAPH, size))
        file.write(graph)
        for tensor, head in zip(initializers, heads, strict=True):
            file.write(head)
            file.write(weights[tensor.name].tobytes())  # little-endian, in the order of the axes


@contextmanager
def _without_weights(model: ir.Model) -> Iterator[dict[str, ir.TensorProtocol]]:
    """A context manager: the initializers of the graph are only named, as if they stood in another file."""
    values = [value for value in model.graph.initializers.values() if value.const_value is not None]
    weights = {str(value.name): value.const_value for value in values if value.const_value is not None}
    for value in values:
        weight = weights[str(value.name)]
        shape = ir.Shape(weight.shape.numpy())
        value.const_value = ir.ExternalTensor("-", 0, weight.nbytes, weight.dtype, shape=shape, name=str(value.name))
    try:
        yield weights
    finally:
        for value in values:
            value.const_value = weights[str(value.name)]


def _header(field: int, length: int) -> bytes:
    return _varint(field << 3 | 2) + _varint(length)


def _varint(number: int) -> bytes:
    """Seven bits in each byte, the lowest first; the highest bit of a byte says that another follows."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
