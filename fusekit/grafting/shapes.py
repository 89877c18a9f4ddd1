"""What is known of the tensors of a file: element types, ranks, sizes.

Only what follows from the declared inputs and the operators counts. What a file notes of values inside (`value_info`)
or of its outputs is left out: nobody checks such notes, and a fold that trusts a wrong one would be wrong.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import onnx
import torch
from onnx import GraphProto, ModelProto, TensorProto, TypeProto

from fusekit.ir import Facts

Sizes = tuple[int | None, ...]

SMALL = 1024  # entries up to which an initializer may be a shape
# Several sizes for whatever is free, of all residues that strides leave, to tell sizes that are equal from sizes that
# happen to be. They differ from each other, so that two free sizes are not taken for one.
PROBES = (97, 134, 167, 204)

DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT16: torch.int16,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}


class Shapes:
    """The shapes of a model's values: in general, and for inputs of the given `sizes`."""

    def __init__(self, proto: ModelProto, sizes: Mapping[str, Sizes]) -> None:
        self._skeleton = _skeleton(proto)
        self._general = _inferred(self._skeleton)
        self._example = _inferred(_with_sizes(self._skeleton, sizes)) if sizes else self._general

    def facts(self, name: str) -> Facts:
        """What holds of a value for all inputs."""
        kind = self._general.get(name)
        if kind is None or not kind.HasField("tensor_type"):
            return Facts()
        return Facts(_sizes_of(kind), DTYPES.get(kind.tensor_type.elem_type))

    def element_type(self, name: str) -> int:
        """The format's number for the type of a value's entries; 0 if it is not known."""
        kind = self._general.get(name)
        return int(kind.tensor_type.elem_type) if kind is not None and kind.HasField("tensor_type") else 0

    def example(self, name: str) -> tuple[int, ...] | None:
        """The sizes of a value for the given inputs; None if they are not known."""
        sizes = _sizes_of(self._example.get(name))
        return None if sizes is None or None in sizes else tuple(size or 0 for size in sizes)

    def alike(self, names: Sequence[str]) -> bool:
        """Whether values have one shape: the same sizes where these are fixed, and where they are free the same at
        each of several sizes of the inputs."""
        told = [[_sizes_of(each.get(name)) for name in names] for each in (self._general, *self._probes)]
        known = [shapes for shapes in told if not any(shape is None or None in shape for shape in shapes)]
        return bool(known) and all(len(set(shapes)) == 1 for shapes in known)

    @cached_property
    def _probes(self) -> list[dict[str, TypeProto]]:
        free = {value.name: _sizes_of(value.type) for value in self._skeleton.graph.input}
        free = {name: sizes for name, sizes in free.items() if sizes is not None and None in sizes}
        if not free:
            return []
        return [self._example, *(_inferred(_with_probe(self._skeleton, probe)) for probe in PROBES)]


def _sizes_of(kind: TypeProto | None) -> Sizes | None:
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.tensor_type.shape.dim)


def _skeleton(proto: ModelProto) -> ModelProto:
    """The model without its weights, which become inputs of their sizes, and without what it notes of shapes."""
    bare = ModelProto(ir_version=max(proto.ir_version, 4))
    bare.opset_import.extend(proto.opset_import)
    bare.functions.extend(proto.functions)
    graph: GraphProto = bare.graph
    graph.name = proto.graph.name or "graph"
    graph.node.extend(proto.graph.node)
    stored = {tensor.name for tensor in proto.graph.initializer}
    graph.input.extend(value for value in proto.graph.input if value.name not in stored)
    declared = {value.name: value for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        overridable = proto.ir_version >= 4 and tensor.name in declared
        small = tensor.data_location != TensorProto.EXTERNAL and math.prod(tensor.dims) <= SMALL
        if overridable:
            graph.input.append(declared[tensor.name])
        elif small:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return bare


def _inferred(proto: ModelProto) -> dict[str, TypeProto]:
    try:
        found = onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=True).graph
    except Exception:  # an operator that nobody knows shapes of may end it all: then nothing is known
        return {}
    values = {value.name: value.type for value in (*found.value_info, *found.input)}
    for tensor in found.initializer:
        values[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
    return values


def _with_sizes(skeleton: ModelProto, sizes: Mapping[str, Sizes]) -> ModelProto:
    sized = ModelProto()
    sized.CopyFrom(skeleton)
    for value in sized.graph.input:
        given = sizes.get(value.name)
        dims = value.type.tensor_type.shape.dim
        if given is not None and len(given) == len(dims):
            for dim, size in zip(dims, given, strict=True):
                if size is not None and not dim.HasField("dim_value"):
                    dim.dim_value = size
    return sized


def _with_probe(skeleton: ModelProto, first: int) -> ModelProto:
    """Every free size from `first` on, one of a name the same everywhere."""
    sizes: dict[str, Sizes] = {}
    known: dict[str, int] = {}
    for value in skeleton.graph.input:
        dims = value.type.tensor_type.shape.dim
        named = (dim.dim_param or f"{value.name}.{axis}" for axis, dim in enumerate(dims))
        sizes[value.name] = tuple(known.setdefault(name, first + 2 * len(known)) for name in named)
    return _with_sizes(skeleton, sizes)
