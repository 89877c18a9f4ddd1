"""A rewritten graph back into its file: old nodes as they were, new ones in place of what they replace.

    a node that stands for its origin         the file's own node, byte for byte, or with an input renamed
    a new node                                written by its kind, under the name of the value that it replaces
    a value that somebody outside asks for    keeps its name, if need be by an Identity

Nodes and initializers that nothing reads any more go. An initializer is never changed: new ones have new names.
"""

import json
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from torch import fx

from fusekit.algebra import Conv, Pad
from fusekit.errors import Inapplicable
from fusekit.grafting.emitters import write
from fusekit.grafting.importing import Imported, values_read
from fusekit.grafting.model_file import captured_by, names_in
from fusekit.grafting.sheet import Place, Sheet
from fusekit.ir import known, where
from fusekit.ir.facts import facts, sources_of
from fusekit.ir.read import read
from fusekit.onnx_export.names import unique_name
from fusekit.report import Event

aten = torch.ops.aten


def graft(imported: Imported, events: Sequence[Event], version: str) -> ModelProto:
    """The file with the graph's nodes; `events` and `version`: what its metadata say of how it was made."""
    return _Graft(imported).run(events, version)


def is_the_same(proto: ModelProto, other: ModelProto) -> bool:
    """Whether two models have the same nodes, in whatever order, names included, and as many initializers."""

    def told(graph: GraphProto) -> tuple[Counter[bytes], int]:
        return Counter(node.SerializeToString(deterministic=True) for node in graph.node), len(graph.initializer)

    return told(proto.graph) == told(other.graph)


@dataclass
class _Graft:
    imported: Imported
    names: dict[fx.Node, str] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        graph = self.imported.file.graph
        self.taken = names_in(graph)
        self.kept = self.imported.kept()
        self.alive = self._alive()
        old = [place for node in self.alive for place in self.imported.origin.get(node, ())]
        self.paths = {graph.node[place].name for place in old}
        self.paths |= {node.name for node in graph.node if self.imported.constants.stands_alone(node)}

    def run(self, events: Sequence[Event], version: str) -> ModelProto:
        imported = self.imported
        self._name_all()
        imported.stands_for = {name: known(node).origins for node, name in self.names.items()}
        joined = self._joined_pads()
        for node in self.alive:
            if node in imported.origin:
                self._old(node)
            elif node.op == "call_function" and node not in joined.values():
                self._new(node, joined.get(node))
            self._keep_names(node)
        return self._assembled(events, version)

    def _alive(self) -> list[fx.Node]:
        """The nodes that something asked for depends on, in order."""
        wanted: set[fx.Node] = set()
        pending = list(self.kept.values())
        while pending:
            node = pending.pop()
            if node not in wanted:
                wanted.add(node)
                pending += [*node.all_input_nodes, *self._guarded_by(node)]
        return [node for node in self.imported.graph.nodes if node in wanted and node.op != "output"]

    def _guarded_by(self, node: fx.Node) -> list[fx.Node]:
        """What makes the constants that an old node reads, and reads more than constants itself."""
        imported = self.imported
        protos = [imported.file.graph.node[place] for place in imported.origin.get(node, ())]
        return [imported.guarded[name] for proto in protos for name in proto.input if name in imported.guarded]

    def _name_all(self) -> None:
        """A name for every value: first what is asked for outside, then what is read by old nodes, then its own."""
        imported = self.imported
        used: set[str] = set()

        def give(node: fx.Node, name: str) -> None:
            if node not in self.names and name not in used:
                self.names[node] = name
                used.add(name)

        for node in imported.graph.nodes:
            if node.op == "placeholder":
                give(node, imported.names[node])
        for name, node in self.kept.items():
            give(node, name)
        for node in self.alive:
            if node in imported.names:
                give(node, imported.names[node])
        for node in self.alive:
            if node in imported.origin:  # an output that nobody reads has its name, too
                for place in imported.origin[node]:
                    used.update(imported.file.graph.node[place].output)
        for node in self.alive:
            for source, name in zip(values_read(node), imported.read.get(node, ()), strict=False):
                give(source, name)
        for node in self.alive:
            if node.op == "call_function" and node not in self.names and node not in imported.origin:
                give(node, self._unique(where(node)))

    def _unique(self, name: str) -> str:
        return unique_name(name, self.taken)

    def _old(self, node: fx.Node) -> None:
        imported = self.imported
        places = imported.origin[node]
        protos = [imported.file.graph.node[place] for place in places]
        renamed = {
            old: self.names[source]
            for source, old in zip(values_read(node), imported.read[node], strict=True)
            if self.names[source] != old
        }
        for proto in protos:
            for name in (*proto.input, *captured_by(proto)):
                self._need(name)
            outputs = self._output_names(node, proto) if proto is protos[-1] else list(proto.output)
            if outputs != list(proto.output) or not renamed.keys().isdisjoint(proto.input):
                changed = NodeProto()
                changed.CopyFrom(proto)
                changed.input[:] = [renamed.get(name, name) for name in proto.input]
                changed.output[:] = outputs
                proto = changed
            self.nodes.append(proto)

    def _output_names(self, node: fx.Node, proto: NodeProto) -> list[str]:
        if node in self.names:
            return [self.names[node], *proto.output[1:]]
        taken = {user.args[1]: self.names[user] for user in node.users if user in self.names}
        return [taken.get(index, name) for index, name in enumerate(proto.output)]

    def _need(self, name: str) -> None:
        """The nodes that a constant is computed by, unless they stand in the graph themselves."""
        for place in self.imported.constants.behind(name) if name not in self.imported.guarded else ():
            if place not in self.done:
                self.done.add(place)
                self.nodes.append(self.imported.file.graph.node[place])

    def _new(self, node: fx.Node, pad: fx.Node | None) -> None:
        if node.target is operator.getitem:
            return  # a part of what was split has its name already
        made: list[NodeProto] = []
        sheet = Sheet(self.imported.file.opset, self._unique, made, self.initializers)
        path = unique_name(where(node), self.paths)
        sources = [self.names[each] for each in values_read(node)]
        if node.target is aten.add.Tensor and len(sources) > 1:  # a shift by a constant is a map
            sheet.node("Add", sources, [self.names[node]], path)
        elif node.target is aten.cat.default:
            arguments: Any = node.args
            axis = self._axis(sheet, node, arguments[1])
            sheet.node("Concat", sources, [self.names[node]], path, axis=axis)
        elif node.target is aten.split_with_sizes.default:
            self._split(sheet, node, sources, path)
        else:
            self._map(sheet, node, pad, path)
        origins = list(dict.fromkeys(each for n in (node, pad) if n is not None for each in sources_of(n)))
        for proto in made:
            if self.imported.file.proto.ir_version >= 10:
                proto.metadata_props.add(key="fusekit_sources", value=json.dumps(origins))
            else:
                proto.doc_string = f"made by fusekit of {', '.join(origins)}"
        self.nodes += made

    def _split(self, sheet: Sheet, node: fx.Node, sources: list[str], path: str) -> None:
        arguments: Any = node.args
        source, sizes, axis = arguments
        axis = self._axis(sheet, source, axis)
        taken = {user.args[1]: self.names[user] for user in node.users if user in self.names}
        outputs = [taken.get(index) or self._unique(f"{path}.{index}") for index in range(len(sizes))]
        if sheet.opset < 13:
            sheet.node("Split", sources, outputs, path, axis=axis, split=sizes)
        else:
            sheet.node("Split", [*sources, sheet.integers(sizes, f"{path}.sizes")], outputs, path, axis=axis)

    def _axis(self, sheet: Sheet, node: fx.Node, axis: int) -> int:
        """The axis of a value as the file's version counts: before opset 11 from the left only."""
        rank = _rank(node)
        if axis >= 0 or (rank is None and sheet.opset >= 11):
            return axis
        if rank is None:
            raise Inapplicable("the rank of a value is unknown, and before opset 11 axes are counted from the left")
        return axis + rank

    def _map(self, sheet: Sheet, node: fx.Node, pad: fx.Node | None, path: str) -> None:
        reading = read(self.imported.graph, node)
        if reading is None or reading.known is None:
            raise Inapplicable(f"{node.target} has no form in a file")
        value, source = reading.known, reading.source
        joined = None if pad is None else _padding_of(self.imported, node, pad)
        if pad is not None and joined is not None:
            value, source = joined, pad.all_input_nodes[0]
        dtype = facts(node).dtype or facts(source).dtype or torch.float32
        place = Place(self.names[source], self.names[node], path, _rank(source), facts(source).shape, dtype)
        write(sheet, value, place)

    def _joined_pads(self) -> dict[fx.Node, fx.Node]:
        """New convolutions behind a new pad of zeros, which takes the convolution in a file: torch's cannot."""
        found: dict[fx.Node, fx.Node] = {}
        for node in self.imported.graph.nodes:
            pad = node.args[0] if node.op == "call_function" and node.args else None
            if node in self.imported.origin or not isinstance(pad, fx.Node) or pad in self.imported.origin:
                continue
            if pad.target is aten.constant_pad_nd.default and len(pad.users) == 1:
                joined = _padding_of(self.imported, node, pad)
                if joined is not None and all(low >= 0 and high >= 0 for low, high in joined.padding):
                    found[node] = pad
        return found

    def _keep_names(self, node: fx.Node) -> None:
        """The names asked for outside that stand for this node, beside its own."""
        for name in (name for name, kept in self.kept.items() if kept is node and self.names[node] != name):
            proto = NodeProto(op_type="Identity", name=unique_name(f"{name}/Identity", self.paths))
            proto.input.append(self.names[node])
            proto.output.append(name)
            self.nodes.append(proto)

    def _assembled(self, events: Sequence[Event], version: str) -> ModelProto:
        file = self.imported.file
        for value in file.graph.output:
            self._need(value.name)
        proto = file.copy()
        graph = proto.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        used = {name for node in graph.node for name in (*node.input, *captured_by(node))}
        used |= {value.name for value in graph.output}
        inputs = {value.name for value in graph.input}
        kept = [t for t in graph.initializer if t.name in used or (proto.ir_version >= 4 and t.name in inputs)]
        gone = {tensor.name for tensor in graph.initializer} - {tensor.name for tensor in kept}
        del graph.initializer[:]
        graph.initializer.extend(kept)
        graph.initializer.extend(tensor for tensor in self.initializers if tensor.name in used)
        if proto.ir_version < 4:  # every initializer is listed among the inputs as well
            left = [value for value in graph.input if value.name not in gone]
            del graph.input[:]
            graph.input.extend(left)
            for tensor in self.initializers:
                value = graph.input.add(name=tensor.name)
                value.type.tensor_type.elem_type = tensor.data_type
                value.type.tensor_type.shape.SetInParent()
                for size in tensor.dims:
                    value.type.tensor_type.shape.dim.add(dim_value=size)
        made = {name for node in graph.node for name in node.output}
        noted = [value for value in graph.value_info if value.name in made]
        del graph.value_info[:]
        graph.value_info.extend(noted)
        _tell(proto, events, version)
        return proto


def _rank(node: fx.Node) -> int | None:
    """The number of axes of a value; None if it is not known."""
    shape, rank = known(node).shape, facts(node).rank
    return rank if rank is not None or shape is None else len(shape)


def _padding_of(imported: Imported, node: fx.Node, pad: fx.Node) -> Conv | None:
    """The convolution with the pad before it taken in."""
    outer, inner = read(imported.graph, node), read(imported.graph, pad)
    conv, zeros = (None if each is None else each.known for each in (outer, inner))
    if not isinstance(conv, Conv) or not isinstance(zeros, Pad):
        return None
    try:
        return conv @ zeros
    except Inapplicable:
        return None


def _tell(proto: ModelProto, events: Sequence[Event], version: str) -> None:
    """In the file itself: what was done to it."""
    rewrites = [{"rewrite": event.rewrite, "where": event.where} for event in events]
    told = {entry.key: entry for entry in proto.metadata_props}
    for key, value in (("fusekit_version", version), ("fusekit_rewrites", json.dumps(rewrites))):
        entry = told.get(key) or proto.metadata_props.add(key=key)
        entry.value = value
