"""The result of reading a node as algebra, and the helpers with which readers look at a node's arguments.

The result is a map of one tensor, or `Unread` if the operator is known but its arguments are not known well enough.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fusekit.algebra import Map, Shape
from fusekit.ir.graph import Graph


@dataclass(frozen=True)
class Unread:
    """Stands in place of a map: the operator is of this kind, but too little is known about its input to read it."""

    kind: type[Map]
    reason: str


@dataclass(frozen=True)
class Reading:
    """The node is `map` applied to the value of `source`."""

    map: Map | Unread
    source: fx.Node

    @property
    def known(self) -> Map | None:
        """The map; None if it could not be read."""
        return None if isinstance(self.map, Unread) else self.map

    def is_a(self, kind: type[Map]) -> bool:
        return issubclass(self.map.kind if isinstance(self.map, Unread) else type(self.map), kind)


Arguments = dict[str, Any]
Reader = Callable[[Graph, fx.Node, Arguments], Reading | None]


def bind(node: fx.Node) -> Arguments:
    """The arguments of an ATen call by name, with the defaults of the operator's schema filled in. Empty for other
    calls."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return {}
    schema = node.target._schema.arguments
    bound = {argument.name: argument.default_value for argument in schema}
    bound.update(zip(bound, node.args, strict=False))
    bound.update(node.kwargs)
    return bound


def listed(value: Any) -> list[Any]:
    """The value as a list: a list or tuple of its entries, or one number as a list of one."""
    return list(value) if isinstance(value, tuple | list) else [value]


def static(values: Any, n: int) -> Shape | None:
    """`values` as n integers; one integer is repeated for all n axes. None if the graph computes any of them."""
    values = listed(values)
    if not all(isinstance(value, int) for value in values):
        return None
    return tuple(values * n if len(values) == 1 else values)


def weight_and_bias(graph: Graph, weight: object, bias: object) -> tuple[Tensor, Tensor | None] | None:
    """The values of the two arguments; `bias` may be None. None if the graph computes one of them, because then it is
    no constant."""
    values = graph.constant(weight), graph.constant(bias)
    if values[0] is None or (values[1] is None and bias is not None):
        return None
    return values[0], values[1]
