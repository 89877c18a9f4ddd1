"""Runs a model up to some of its values: a module as a module that returns them, a file as a file that does.

Only what these values need is in it. So a run takes no more memory than one of the whole model, and is freed before the
next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy
import torch
from onnx import ModelProto, ValueInfoProto
from torch import Tensor, fx

from fusekit.comparing.side import Side
from fusekit.errors import FusekitError, reason_of
from fusekit.files import scratch
from fusekit.grafting.model_file import ModelFile, captured_by
from fusekit.grafting.yardstick import IN_FLOAT64, Yardstick
from fusekit.ir import Graph
from fusekit.ir.emit import emit
from fusekit.model import Inputs
from fusekit.runtimes.protocol import Runtime
from fusekit.validation import Reference
from fusekit.validation.reference import run as run_module


@dataclass(frozen=True)
class Answer:
    """Values of the reference: as it computes them, in float64, the noise of each, and the products in its longest
    sum. `note`: how they were judged, if not by a float64 run."""

    own: list[Tensor]
    exact: list[Tensor]
    noise: list[float]
    longest: int
    note: str = ""


class Run(Protocol):
    """A model that can be run up to some values. `names`: the ids of their boxes; None stands for the outputs."""

    def values(self, names: Sequence[str] | None) -> list[Tensor]:
        """The values as the model computes them. Raises FusekitError if it does not run."""
        ...

    def answer(self, names: Sequence[str] | None) -> Answer:
        """The same, with the run in float64."""
        ...


def run_of(side: Side, inputs: Inputs, names: list[str], runtime: Runtime) -> Run:
    """How a side is run on the inputs, whose tensors have these names; files run on the runtime."""
    return _OfModule(side, inputs) if side.path is None else _OfFile(side, inputs, names, runtime)


@dataclass(frozen=True)
class _OfModule:
    side: Side
    inputs: Inputs

    def values(self, names: Sequence[str] | None) -> list[Tensor]:
        try:
            return [value for _, value in run_module(self._module(names), self.inputs)]
        except Exception as error:
            raise FusekitError(f"{self.side.name} does not run on the example inputs: {reason_of(error)}") from error

    def answer(self, names: Sequence[str] | None) -> Answer:
        reference = Reference(self._module(names), self.inputs)
        given = reference.given
        own, exact = ([value for _, value in each] for each in (given.own, given.exact))
        return Answer(own, exact, [0.0] * len(own), reference.longest_sum)

    def _module(self, names: Sequence[str] | None) -> Any:
        if names is None:
            return self.side.module
        return emit(until(self.side.graph, [self.side.nodes[name] for name in names]))


@dataclass(frozen=True)
class _OfFile:
    side: Side
    inputs: Inputs
    names: list[str]
    runtime: Runtime

    def values(self, names: Sequence[str] | None) -> list[Tensor]:
        with scratch() as room:
            running = self.runtime.load(self._file(names, room).path)
            return _tensors(running.run_arrays(running.feed(self.inputs, self.names)))

    def answer(self, names: Sequence[str] | None) -> Answer:
        with scratch() as room:
            file = self._file(names, room)
            running = self.runtime.load(file.path)
            yardstick = Yardstick(file, running, self.inputs, self.names, self.runtime, room)
            own, exact, noise = yardstick.given()
            note = "" if IN_FLOAT64 in yardstick.how else "; ".join(yardstick.how)
            return Answer(_tensors(v for _, v in own), _tensors(exact), noise, yardstick.longest_sum, note)

    def _file(self, names: Sequence[str] | None, room: Path) -> ModelFile:
        """The file, or the part of it that computes these values."""
        assert self.side.path is not None
        whole = ModelFile.read(self.side.path)
        if names is None:
            return whole
        keep(whole.proto, [self.side.values[name] for name in names])
        path = room / "part.onnx"
        whole.write(whole.proto, path)
        return ModelFile(path, whole.proto)


def _tensors(values: Any) -> list[Tensor]:
    return [torch.as_tensor(numpy.ascontiguousarray(v)) for v in values if isinstance(v, numpy.ndarray | Tensor)]


def until(graph: Graph, nodes: Sequence[fx.Node]) -> Graph:
    """The part of a graph that computes these nodes, which are its outputs. All its inputs stay, in their order."""
    needed, waiting = set[fx.Node](), list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    part, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        if node in needed or node.op == "placeholder":
            copies[node] = part.node_copy(node, copies.__getitem__)
    part.output(tuple(copies[node] for node in nodes))
    shorter = Graph(part, dict(graph.constants), dict(graph.modules), graph.name)
    shorter.prune()
    return shorter


def keep(proto: ModelProto, names: Sequence[str]) -> None:
    """Leave of a model, in place, what computes these values, which become its outputs. All its inputs stay."""
    graph, needed = proto.graph, set(names)
    for place in range(len(graph.node) - 1, -1, -1):
        node = graph.node[place]
        if needed.isdisjoint(node.output):
            del graph.node[place]
        else:
            needed |= {*node.input, *captured_by(node)}
    for place in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[place].name not in needed:
            del graph.initializer[place]
    del graph.output[:]
    del graph.value_info[:]
    graph.output.extend(ValueInfoProto(name=name) for name in names)
