"""What a node reads as: a map of one tensor, or word that it is one of which too little is known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx

from fusekit.algebra import Map
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

    def is_a(self, kind: type[Map]) -> bool:
        return issubclass(self.map.kind if isinstance(self.map, Unread) else type(self.map), kind)


Arguments = dict[str, Any]
Reader = Callable[[Graph, fx.Node, Arguments], Reading | None]
