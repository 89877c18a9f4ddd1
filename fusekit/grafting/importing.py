"""The main graph of a file as a graph of fusekit's, each node of the file one node of it. Two that
are one operator in parts are one: a product with a constant matrix and its bias, a sigmoid and the product of it.

    computed(x, *constants, build)      a node that reads as a map
    opaque(*values)                     a node that does not, whatever it is, and what its sub-graphs read
    aten.add, aten.cat, ...             sums, concatenations, parts, activations: what patterns look for by name

`origin` says which node of the file a node is, `read` which values it reads, in order. As long as a node stands for its
origin and reads these, the file's own node is written again.
"""

import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, fx
from torch.fx.node import map_arg

from fusekit.algebra import Identity
from fusekit.grafting.constants import Constants
from fusekit.grafting.meaning import Known as KnownValues
from fusekit.grafting.meaning import Linear, Meaning, Value
from fusekit.grafting.model_file import ModelFile, captured_by
from fusekit.grafting.operator_node import OperatorNode
from fusekit.grafting.operators import READERS
from fusekit.grafting.shapes import Shapes, Sizes
from fusekit.ir import Graph, Known, note
from fusekit.ir.operators import OPERATORS
from fusekit.ir.reading import Arguments, Reading
from fusekit.ir.spellings import SPELLINGS, Spelling
from fusekit.ir.survey import mark


def computed(x: Tensor, *arguments: Any) -> Tensor:
    """The map that the last argument makes of the constants before it, at x."""
    *constants, build = arguments
    value: Tensor = build(*constants)(x)
    return value


def opaque(*values: Any) -> Any:
    """A node of the file that nobody here computes."""
    raise AssertionError("a node that is not read is never evaluated")


def _read(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    arguments: Any = node.args
    source, *constants, build = arguments
    return Reading(build(*(graph.constant(each) for each in constants)), source)


SPELLING = Spelling(read={computed: _read})  # known while a file is optimized


@dataclass
class Imported:
    """A file as a graph, and which of its nodes is which of the file's.

    `names`: of the values of the file; `guarded`: what makes constants, but reads more than constants; `pinned`: the
    values that keep their names because somebody outside the nodes asks for them, as an output or from a sub-graph;
    `stands_for`: of each value of the file that was written, the nodes of the original that it comes from.
    """

    file: ModelFile
    constants: Constants
    graph: Graph
    origin: dict[fx.Node, tuple[int, ...]] = field(default_factory=dict)
    read: dict[fx.Node, tuple[str, ...]] = field(default_factory=dict)
    names: dict[fx.Node, str] = field(default_factory=dict)
    guarded: dict[str, fx.Node] = field(default_factory=dict)
    pinned: tuple[str, ...] = ()
    stands_for: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def kept(self) -> dict[str, fx.Node]:
        """What stands for the pinned names now."""
        output = next(node for node in self.graph.nodes if node.op == "output")
        nodes: Any = output.args[0]
        return dict(zip(self.pinned, nodes, strict=True))


def values_read(node: fx.Node) -> list[fx.Node]:
    """What a node reads, constants left out, as often as it does, in order."""
    found: list[fx.Node] = []
    map_arg((node.args, node.kwargs), found.append)
    return [each for each in found if each.op != "get_attr"]


@contextmanager
def as_graph(path: str | Path, sizes: Mapping[str, Sizes]) -> Iterator[Graph]:
    """Within: an ONNX file as a graph that reads as any other; `sizes`: of its inputs by name, where they are known.
    CheckpointError if it is none."""
    with SPELLINGS.extended(SPELLING):
        yield import_file(ModelFile.read(path), sizes).graph


def import_file(
    file: ModelFile, sizes: Mapping[str, Sizes], stands_for: Mapping[str, tuple[str, ...]] | None = None
) -> Imported:
    """The file as a graph; `sizes`: of its inputs by name, where they are known; `stands_for`: of a file that was made
    of another one, `Imported.stands_for` of that."""
    OPERATORS.all()  # what other packages say that their operators mean
    shapes = Shapes(file.proto, sizes)
    imported = _Importer(file, Constants(file, shapes), shapes).run()
    if stands_for is None:
        mark(imported.graph)
        return imported
    for node, name in imported.names.items():
        note(node, Known(origins=stands_for.get(name, ())))
    return imported


def _read_once(file: ModelFile) -> dict[str, OperatorNode]:
    """What makes the values that one node reads once, and nobody else."""
    read = (name for node in file.graph.node for name in (*node.input, *captured_by(node)))
    counts = Counter((*read, *(value.name for value in file.graph.output)))
    nodes = [OperatorNode(node, file.opset) for node in file.graph.node]
    return {node.only_output: node for node in nodes if counts[node.only_output] == 1}


class _Importer:
    def __init__(self, file: ModelFile, constants: Constants, shapes: Shapes) -> None:
        self.file, self.constants, self.shapes = file, constants, shapes
        self.known = KnownValues(constants, shapes, _read_once(file))
        self.result = Imported(file, constants, Graph(fx.Graph(), name="OnnxModel"))
        self.fx = self.result.graph.fx
        self.nodes: dict[str, fx.Node] = {}
        self.attributes: dict[str, fx.Node] = {}

    def run(self) -> Imported:
        graph, result = self.file.graph, self.result
        wanted = {value.name for value in graph.output} | {n for node in graph.node for n in captured_by(node)}
        for value in graph.input:
            if value.name not in self.constants:
                self._given(value.name)
        for tensor in graph.sparse_initializer:
            self._given(tensor.values.name)
        for place, proto in enumerate(graph.node):
            if not self.constants.stands_alone(proto):
                self._node(place, OperatorNode(proto, self.file.opset), wanted)
        result.pinned = tuple(name for name in sorted(wanted) if name in self.nodes)
        self.fx.output(tuple(self.nodes[name] for name in result.pinned))
        return result

    def _given(self, name: str) -> None:
        if name not in self.nodes:
            self._named(self.fx.create_node("placeholder", name, name=f"input_{len(self.nodes)}"), name, name)

    def _node(self, place: int, node: OperatorNode, wanted: set[str]) -> None:
        guarded = [name for name in node.proto.output if name in self.constants.guarded]
        meaning = self._meaning(node) if not guarded else None
        if isinstance(meaning, Linear) and self._only_renames(node, meaning, wanted):
            meaning = None
        path = node.proto.name or next((name for name in node.proto.output if name), node.proto.op_type)
        made = self._opaque(node) if meaning is None else self._called(meaning)
        note(made, Known(where=path, operator=node.proto.op_type))
        self.result.origin[made] = (*self._absorbed(meaning), place)
        read = values_read(made)
        self.result.read[made] = tuple(self.result.names[each] for each in read)
        self.result.guarded.update(dict.fromkeys(guarded, made))
        if node.only_output:
            self._named(made, node.only_output, path)
            return
        for index, name in enumerate(node.proto.output):
            if name:
                self._named(self.fx.call_function(operator.getitem, (made, index)), name, path)

    def _meaning(self, node: OperatorNode) -> Meaning | None:
        """What a node means, if its attributes and constants make sense: else it is the runtime's to say so."""
        reader = READERS.get(node.full_name)
        try:
            meaning = reader(node, self.known) if reader is not None else None
            if isinstance(meaning, Linear):
                meaning.build(*(self.constants.tensor(name) for name in meaning.constants))
        except (ValueError, IndexError, KeyError, TypeError, RuntimeError):
            return None
        return meaning

    def _absorbed(self, meaning: Meaning | None) -> tuple[int, ...]:
        """The places of the nodes that this one takes in; what stood for them goes."""
        if meaning is None or not meaning.absorbs:
            return ()
        node = self.nodes.pop(meaning.absorbs)
        place = self.result.origin.pop(node)
        self.result.graph.erase_dead([node])
        return place

    def _only_renames(self, node: OperatorNode, meaning: Linear, wanted: set[str]) -> bool:
        """An identity whose output has a name to keep, and whose input has one too."""
        source = self.nodes.get(meaning.source)
        kept = meaning.source in wanted or source is None or source.op == "placeholder"
        return meaning.build is Identity and kept and any(name in wanted for name in node.proto.output)

    def _opaque(self, node: OperatorNode) -> fx.Node:
        names = dict.fromkeys((*node.proto.input, *sorted(captured_by(node.proto))))
        return self.fx.call_function(opaque, tuple(self.nodes[name] for name in names if name in self.nodes))

    def _called(self, meaning: Meaning) -> fx.Node:
        if isinstance(meaning, Linear):
            constants = (self._attribute(name) for name in meaning.constants)
            arguments: Any = (self.nodes[meaning.source], *constants, meaning.build)
            return self.fx.call_function(computed, arguments)
        arguments = tuple(self._argument(each) for each in meaning.arguments)
        return self.fx.call_function(meaning.target, arguments)

    def _argument(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._argument(each) for each in value]
        return self.nodes[value.name] if isinstance(value, Value) else value

    def _attribute(self, name: str) -> fx.Node:
        """A constant, under its own name."""
        if name not in self.attributes:
            value = self.constants.tensor(name)
            assert value is not None
            self.attributes[name] = self.result.graph.add_constant(value, name)
            self.result.names[self.attributes[name]] = name
        return self.attributes[name]

    def _named(self, node: fx.Node, name: str, path: str) -> None:
        facts, example = self.shapes.facts(name), self.shapes.example(name)
        note(node, Known(facts=facts, shape=example, where=path))
        self.nodes[name] = node
        self.result.names[node] = name
