"""How kinds of maps stand in a graph: one table for each question that is asked of them.

    written      a map as nodes                      by the kind of map
    read         a node as a map                     by its operator
    emitted      a node as a layer of a module       by its operator
    called       a layer of a model as a node        by the type of the layer

A kind of map brings its answers in one `Spelling`, in a file of its own; what it has no answer to, it leaves out.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from fusekit.algebra import Map
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Reader

# (graph, the map, its input, the path for its constants) -> nodes at the insertion point, the last one its output;
# no node at all where the map is its input
Writer = Callable[[Graph, Any, fx.Node, str], list[fx.Node]]


@dataclass(frozen=True)
class Layer:
    """A layer of the emitted module: `module`, and the constants that become its parameters and buffers, by name."""

    module: nn.Module
    constants: Mapping[str, Tensor] = field(default_factory=dict)


Maker = Callable[[Graph, fx.Node], Layer | None]  # None: the node stays an operator

Call = tuple[Any, tuple[Any, ...]] | tuple[Any, tuple[Any, ...], dict[str, Any]]  # operator, arguments, by name


@dataclass(frozen=True)
class CalledLayer:
    """A layer of the model, `module`, that the graph calls at `node` with the one argument `x`."""

    graph: Graph
    node: fx.Node
    module: Any
    x: Any

    def own(self, name: str) -> fx.Node | None:
        """One of its tensors as a constant of the graph, under its own path; None if it has none."""
        value = getattr(self.module, name)
        if value is None:
            return None
        path = f"{self.node.target}.{name}"
        self.graph.constants[path] = value
        return self.graph.fx.create_node("get_attr", path)


Caller = Callable[[CalledLayer], Call | None]  # None: it stays a layer that is called


@dataclass(frozen=True)
class Spelling:
    """What the tables hold of one kind of map, or of a few that belong together."""

    written: Mapping[type[Map], Writer] = field(default_factory=dict)
    read: Mapping[Any, Reader] = field(default_factory=dict)
    emitted: Mapping[Any, Maker] = field(default_factory=dict)
    called: Mapping[type[nn.Module], Caller] = field(default_factory=dict)


class Table:
    """The spellings that are known. Whoever adds one for a while takes it out again by `extended`."""

    def __init__(self, *spellings: Spelling) -> None:
        self._written: dict[type[Map], Writer] = {}
        self._read: dict[Any, Reader] = {}
        self._emitted: dict[Any, Maker] = {}
        self._called: dict[type[nn.Module], Caller] = {}
        for spelling in spellings:
            self.add(spelling)

    def add(self, spelling: Spelling) -> None:
        """From now on this is known, too. ValueError if one of its questions has an answer already."""
        for ours, theirs in self._pairs(spelling):
            taken = [str(getattr(key, "__name__", key)) for key in theirs if key in ours]
            if taken:
                raise ValueError(f"there is a spelling of {', '.join(taken)} already")
        for ours, theirs in self._pairs(spelling):
            ours.update(theirs)

    @contextmanager
    def extended(self, spelling: Spelling) -> Iterator[None]:
        """Within: this is known, too."""
        self.add(spelling)
        try:
            yield
        finally:
            self.remove(spelling)

    def remove(self, spelling: Spelling) -> None:
        """From now on this is not known any more."""
        for ours, theirs in self._pairs(spelling):
            for key in theirs:
                ours.pop(key, None)

    def _pairs(self, spelling: Spelling) -> tuple[tuple[dict[Any, Any], Mapping[Any, Any]], ...]:
        return (
            (self._written, spelling.written),
            (self._read, spelling.read),
            (self._emitted, spelling.emitted),
            (self._called, spelling.called),
        )

    def writer(self, value: Map) -> Writer:
        """How this map, or the nearest kind that it is one of, is written. AssertionError if nobody knows."""
        for kind in type(value).__mro__:
            if kind in self._written:
                return self._written[kind]
        raise AssertionError(f"{type(value).__name__} has no spelling as an operator yet")

    @property
    def operators(self) -> list[Any]:
        """What is read."""
        return list(self._read)

    def reader(self, operator: object) -> Reader | None:
        """How a call of this operator is read."""
        return self._read.get(operator)

    def maker(self, operator: object) -> Maker | None:
        """How a call of this operator becomes a layer."""
        return self._emitted.get(operator)

    def caller(self, layer: type[nn.Module]) -> Caller | None:
        """How a layer of this type becomes a call."""
        kind = self.called_as(layer)
        return None if kind is None else self._called[kind]

    def called_as(self, layer: type[nn.Module]) -> type[nn.Module] | None:
        """The type as which it is called: itself, or the nearest one that it inherits all from that it computes."""
        kind = next((each for each in layer.__mro__ if each in self._called), None)
        return kind if kind is not None and _computes_as(layer, kind) else None


_CHECKS = {"_check_input_dim"}  # raises, or does nothing


def _computes_as(layer: type, kind: type) -> bool:
    """Whether nothing that the forward of `kind` looks up is another thing in this class of its."""
    names, waiting = set(_CHECKS), ["forward"]
    while waiting:
        name = waiting.pop()
        if name not in names or name in _CHECKS:
            names.add(name)
            code = getattr(getattr(kind, name, None), "__code__", None)
            waiting += [other for other in getattr(code, "co_names", ()) if other not in names]
    between = layer.__mro__[: layer.__mro__.index(kind)]
    own = {name for each in between for name in vars(each)}
    return own.isdisjoint((names - _CHECKS) | {"__call__", "_call_impl", "__getattr__", "__getattribute__"})
