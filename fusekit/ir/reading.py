"""What a node reads as: a map of one tensor, or word that it is one of which too little is known; and what readers
need to look at a node's arguments."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fusekit.algebra import Map, Shape
from fusekit.ir.graph import Graph


@dataclass(frozen=True)
class Unread:
    """In place of a map: the operator is of this kind, but what is known of its input does not suffice to read it."""

    kind: type[Map]
    reason: str


@dataclass(frozen=True)
class Reading:
    """The node is `map` applied to the value of `source`."""

    map: Map | Unread
    source: fx.Node

    @property
    def known(self) -> Map | None:
        """The map; None where the node is left unread."""
        return None if isinstance(self.map, Unread) else self.map

    def is_a(self, kind: type[Map]) -> bool:
        return issubclass(self.map.kind if isinstance(self.map, Unread) else type(self.map), kind)


Arguments = dict[str, Any]
Reader = Callable[[Graph, fx.Node, Arguments], Reading | None]


def bind(node: fx.Node) -> Arguments:
    """The arguments of an ATen call by name, defaults filled in from the operator's schema; empty for other calls."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return {}
    schema = node.target._schema.arguments
    bound = {argument.name: argument.default_value for argument in schema}
    bound.update(zip(bound, node.args, strict=False))
    bound.update(node.kwargs)
    return bound


def listed(value: Any) -> list[Any]:
    """A list, a tuple or one number as a list."""
    return list(value) if isinstance(value, tuple | list) else [value]


def static(values: Any, n: int) -> Shape | None:
    """A list of n plain integers; one integer stands for all axes. None if any is computed by the graph."""
    values = listed(values)
    if not all(isinstance(value, int) for value in values):
        return None
    return tuple(values * n if len(values) == 1 else values)


def weight_and_bias(graph: Graph, weight: object, bias: object) -> tuple[Tensor, Tensor | None] | None:
    """The values of two arguments, of which the second may be None; None if one is computed by the graph."""
    values = graph.constant(weight), graph.constant(bias)
    if values[0] is None or (values[1] is None and bias is not None):
        return None
    return values[0], values[1]
