"""What is known about a node: one typed record, kept in the node's `meta` so that torch.fx copies it with the node.

`node_copy` makes a shallow copy of `meta`, so a copied node starts with the same record. The record is immutable:
changing what is known of the copy never changes the original. `known` reads the record; `note`, `supply` and
`start_afresh` write it. No other code of the package reads `meta`, except for what torch itself writes there
(`fusekit/model/torch_notes.py`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import fx, nn

_KEY = "fusekit"


@dataclass(frozen=True)
class Facts:
    """What is known about the tensor at a node: its shape, with None for a size that may vary, and its dtype. None in
    place of the shape or the dtype: unknown."""

    shape: tuple[int | None, ...] | None = None
    dtype: torch.dtype | None = None

    def size(self, axis: int) -> int | None:
        """The size of an axis; None if unknown. `axis` is negative: it counts from the right."""
        return self.shape[axis] if self.shape is not None and -axis <= len(self.shape) else None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)


UNKNOWN = Facts()


@dataclass(frozen=True)
class Known:
    """What is known about a node. The default of each field means "not known".

    `facts`: shape and dtype of its tensor, valid for all inputs.
    `shape`: the shape for the example inputs.
    `where`: the module path as the user knows it; `sources`: the paths of the nodes that a rewritten node replaces.
    `line`: FILE:LINE of the model's source.
    `module`: the type of the torch.nn layer that the node came from; `layer`: that layer itself, if it has no weights.
    `fixed`: True for a constant that is not trained, even if it was computed from parameters.
    `wrote_in_place`: True if the model overwrote the input of this operator (`inplace=True`).
    `expression`: whether the node depends on constants only; None until it has been computed.
    `origins`: the names of the nodes of the model as it was captured that it stands for.
    `operator`: what it computes, where its target does not say it.
    """

    facts: Facts | None = None
    shape: tuple[int, ...] | None = None
    where: str = ""
    sources: tuple[str, ...] = ()
    line: str = ""
    module: type[nn.Module] | None = None
    layer: nn.Module | None = None
    fixed: bool = False
    wrote_in_place: bool = False
    expression: bool | None = None
    origins: tuple[str, ...] = ()
    operator: str = ""

    def __or__(self, other: "Known") -> "Known":
        """Both records merged; where both know a field, `other` wins."""
        return replace(self, **{name: value for name, value, default in other._entries() if value != default})

    def _entries(self) -> Iterator[tuple[str, Any, Any]]:
        """(name, value, default) of each field."""
        return ((each.name, getattr(self, each.name), each.default) for each in fields(self))

    @property
    def of_tensor(self) -> "Known":
        """The fields that describe the value, and so hold for every node with the same value."""
        return Known(facts=self.facts, shape=self.shape)


NOTHING = Known()


def known(node: fx.Node) -> Known:
    """The record of a node."""
    found = node.meta.get(_KEY, NOTHING)
    assert isinstance(found, Known)
    return found


def note(node: fx.Node, news: Known) -> None:
    """Set the fields that `news` knows; the other fields of the node's record stay."""
    node.meta[_KEY] = known(node) | news


def supply(node: fx.Node, news: Known) -> None:
    """Set the fields that `news` knows, but only those that are not known yet."""
    node.meta[_KEY] = news | known(node)


def start_afresh(node: fx.Node, news: Known = NOTHING) -> None:
    """Replace everything known about the node by `news`; what torch wrote into `meta` is removed too."""
    node.meta = {_KEY: news} if news != NOTHING else {}


def facts(node: object) -> Facts:
    """The shape and dtype known for the tensor at a node; UNKNOWN for anything that is not a node."""
    found = known(node).facts if isinstance(node, fx.Node) else None
    return UNKNOWN if found is None else found


def where(node: fx.Node) -> str:
    """The module path of a node as the user knows it; the node's own name if it belongs to no module."""
    return known(node).where or node.name


def sources_of(node: fx.Node) -> tuple[str, ...]:
    """The module paths that a node was made from: its own path if it replaced no others."""
    return known(node).sources or (where(node),)


def origins_of(nodes: Iterable[fx.Node]) -> tuple[str, ...]:
    """The nodes of the model, by name, that these nodes stand for; what their constants stand for belongs to them."""
    read = (each for node in nodes for each in (*(n for n in node.all_input_nodes if n.op == "get_attr"), node))
    return tuple(dict.fromkeys(name for node in read for name in known(node).origins))
