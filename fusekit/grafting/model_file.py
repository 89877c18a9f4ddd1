"""An ONNX file as it is on disk: read without running anything of it, written whole or not at all.

The file is kept as the protocol buffer that it is. What nobody changes is not even taken apart, so it comes out byte
for byte. Weights that lie in files of their own are read one at a time, and only from the folder of the model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from fusekit.checkpoint import Kind, recognise
from fusekit.errors import CheckpointError, ExportError, reason_of

LARGEST = (1 << 31) - 1  # bytes of a protocol buffer
INLINE = 1_800_000_000  # bytes of weights from which on they lie in a file of their own
OLDEST = 7  # before this opset broadcasting was another, and so were many defaults


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model and the file it came from. `proto` is nobody's to change: `copy` gives one's own. `made`: it is not what
    the file holds any more."""

    path: Path
    proto: ModelProto
    made: bool = False

    @classmethod
    def read(cls, path: str | Path) -> "ModelFile":
        """The file. CheckpointError in one line where it is no ONNX model, or not a whole one, where its nodes have no
        order, or where its external data is not beside it. What else is wrong with it a runtime will say."""
        path = Path(path)
        identity = recognise(path)
        if identity.kind is not Kind.ONNX:
            hint = "; `fusekit export` (fusekit.export) makes one of a PyTorch model"
            told = hint if identity.kind is not Kind.OTHER else ""
            raise CheckpointError(f"{path} is {identity.what}; expected an ONNX model{told}")
        size = path.stat().st_size
        if size > LARGEST:
            raise CheckpointError(
                f"{path} has {size:,} bytes, the format ends at 2 GiB; expected large weights in a file beside it"
            )
        try:
            proto = onnx.load(str(path), load_external_data=False)
        except Exception as error:
            raise CheckpointError(
                f"{path} is no whole ONNX model (truncated or damaged): {reason_of(error)}"
            ) from error
        found = cls(path, proto)
        if fault := disorder(proto.graph):
            raise CheckpointError(f"{path} is no lawful ONNX model: {fault}")
        for tensor in found.external():
            found.require(tensor)
        return found

    @cached_property
    def passes_checker(self) -> bool:
        """Whether onnx's checker has nothing against it. Files that it refuses do run."""
        try:
            onnx.checker.check_model(str(self.path), full_check=True)
        except Exception:
            return False
        return True

    @property
    def graph(self) -> GraphProto:
        return self.proto.graph

    @property
    def opset(self) -> int:
        """The version of the standard operators; 0 if the file imports none."""
        return opset_of(self.proto)

    def external(self) -> list[TensorProto]:
        """The tensors whose numbers lie in files beside the model, those of sub-graphs and attributes included."""
        return [tensor for tensor in tensors_of(self.proto) if uses_external_data(tensor)]

    def require(self, tensor: TensorProto) -> None:
        """CheckpointError unless the numbers of an external tensor are where it says: within the model's folder, and
        all of them."""
        told = {entry.key: entry.value for entry in tensor.external_data}
        place = told.get("location", "")
        file, folder = (self.path.parent / place).resolve(), self.path.parent.resolve()
        if not place or not file.is_relative_to(folder):
            raise CheckpointError(
                f"{self.path}: the weight {tensor.name!r} lies in {place!r}, outside the model's folder"
            )
        if not file.is_file():
            raise CheckpointError(
                f"{self.path}: the weight {tensor.name!r} lies in {place!r}, and there is no such file"
            )
        try:
            start, length = int(told.get("offset", 0)), int(told.get("length", 0))
        except ValueError as error:
            raise CheckpointError(f"{self.path}: the place of the weight {tensor.name!r} is no number") from error
        if start < 0 or length < 0 or start + length > file.stat().st_size:
            raise CheckpointError(f"{self.path}: {place!r} ends before the weight {tensor.name!r} does")

    def array(self, tensor: TensorProto) -> Any:
        """The numbers of a tensor, from beside the model if need be. CheckpointError if these are not there."""
        if uses_external_data(tensor):
            tensor = self.inline(tensor)
        return numpy_helper.to_array(tensor)

    def inline(self, tensor: TensorProto) -> TensorProto:
        """A copy of an external tensor that holds its numbers itself."""
        whole = TensorProto()
        whole.CopyFrom(tensor)
        if uses_external_data(tensor):
            self.require(tensor)
            try:
                load_external_data_for_tensor(whole, str(self.path.parent))
            except Exception as error:
                raise CheckpointError(f"{self.path}: the weight {tensor.name!r}: {reason_of(error)}") from error
            del whole.external_data[:]
            whole.data_location = TensorProto.DEFAULT
        return whole

    def copy(self) -> ModelProto:
        """The model as one's own."""
        own = ModelProto()
        own.CopyFrom(self.proto)
        return own

    def write(self, proto: ModelProto, path: Path) -> None:
        """A model made of this one, at `path`; weights that lay beside this one, or have no room in the file, in
        `NAME.data` beside the new one, and `proto` says so afterwards. ExportError where there is no room."""
        external = [tensor for tensor in tensors_of(proto) if uses_external_data(tensor)]
        size = proto.ByteSize()
        moved = external
        if size > INLINE:
            moved = [*external, *(t for t in proto.graph.initializer if t.ByteSize() > 1024 and t not in external)]
        try:
            if moved:
                with (path.parent / f"{path.name}.data").open("wb") as data:
                    for tensor in moved:
                        _move_out(self.inline(tensor), tensor, data, f"{path.name}.data")
            if proto.ByteSize() > LARGEST:
                raise ExportError(f"{path.name} would be larger than the 2 GiB of the format")
            path.write_bytes(proto.SerializeToString())
        except OSError as error:
            raise ExportError(f"cannot write {path.name}: {error.strerror or error}") from error

    def write_as_it_is(self, path: Path) -> None:
        """The same model at another path, byte for byte where its weights are in it."""
        if self.external() or self.made:
            self.write(self.copy(), path)
        else:
            path.write_bytes(self.path.read_bytes())


def disorder(graph: GraphProto) -> str:
    """What is wrong with the order of the nodes, as after a cycle, or with the names of their outputs; "" if nothing
    is."""
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    for node in graph.node:
        missing = [name for name in (*node.input, *captured_by(node)) if name and name not in known]
        if missing:
            return f"{node.op_type} {node.name!r} reads {missing[0]!r} before anything makes it"
        twice = [name for name in node.output if name and name in known]
        if twice:
            return f"{node.op_type} {node.name!r} makes {twice[0]!r}, which there is already"
        known |= set(node.output)
    missing = [value.name for value in graph.output if value.name not in known]
    return f"nothing makes its output {missing[0]!r}" if missing else ""


def opset_of(proto: ModelProto) -> int:
    """The version of the standard operators that a model imports; 0 if none."""
    return max((entry.version for entry in proto.opset_import if is_standard(entry.domain)), default=0)


def is_standard(domain: str) -> bool:
    """Whether a domain is that of the standard operators, which has two names."""
    return domain in ("", "ai.onnx")


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes: branches, bodies of loops."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def captured(graph: GraphProto) -> set[str]:
    """The names that a sub-graph reads and does not define: uses of values outside."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {tensor.values.name for tensor in graph.sparse_initializer}
    read: set[str] = set()
    for node in graph.node:
        read |= ({name for name in node.input if name} | captured_by(node)) - own
        own |= set(node.output)
    return read | ({value.name for value in graph.output} - own)


def captured_by(node: NodeProto) -> set[str]:
    """The names that a node reads by its sub-graphs."""
    return {name for graph in subgraphs(node) for name in captured(graph)}


def names_in(graph: GraphProto) -> set[str]:
    """Every name of a value in the graph and its sub-graphs."""
    names = {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
    names |= {tensor.name for tensor in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    for node in graph.node:
        names |= {*node.input, *node.output}
        for inner in subgraphs(node):
            names |= names_in(inner)
    return names


def tensors_of(proto: ModelProto) -> Iterator[TensorProto]:
    """All tensors that a model stores, wherever they stand in it."""
    yield from _tensors_of_graph(proto.graph)
    for function in proto.functions:
        for node in function.node:
            yield from _tensors_of_node(node)


def _tensors_of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of_node(node)


def _tensors_of_node(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _tensors_of_graph(graph)


def _move_out(whole: TensorProto, tensor: TensorProto, data: Any, place: str) -> None:
    """Write the numbers to the open file `data`, and say in the tensor where they are."""
    numbers = whole.raw_data if whole.HasField("raw_data") else numpy_helper.to_array(whole).tobytes()
    name, kind, dims = tensor.name, tensor.data_type, list(tensor.dims)
    start = -(-data.tell() // 4096) * 4096  # where a page of memory begins
    data.write(b"\0" * (start - data.tell()))
    data.write(numbers)
    tensor.Clear()
    tensor.name, tensor.data_type, tensor.data_location = name, kind, TensorProto.EXTERNAL
    tensor.dims.extend(dims)
    for key, value in (("location", place), ("offset", start), ("length", len(numbers))):
        tensor.external_data.add(key=key, value=str(value))


def is_float(array: Any) -> bool:
    """Whether an array holds floating numbers that numpy computes with itself."""
    return array.dtype in (numpy.float16, numpy.float32, numpy.float64)
