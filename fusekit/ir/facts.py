"""What is known of a node: one typed record, kept where torch.fx copies it along with the node.

torch.fx gives each node a dictionary, `meta`, which `node_copy` copies one level deep: a copied node starts from the
same record. The record is immutable, so that what is noted at the copy is never seen at the original. It is read by
`known` and written by `note` only; nothing else of the package looks into `meta`, but for what torch itself writes
there (`fusekit/model/torch_notes.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import fx, nn

_KEY = "fusekit"


@dataclass(frozen=True)
class Facts:
    """What is known about the tensor at a node: its shape, with None for a size that may vary, and its dtype."""

    shape: tuple[int | None, ...] | None = None
    dtype: torch.dtype | None = None

    def size(self, axis: int) -> int | None:
        """The size of an axis counted from the right; None if unknown."""
        return self.shape[axis] if self.shape is not None and -axis <= len(self.shape) else None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)


UNKNOWN = Facts()


@dataclass(frozen=True)
class Known:
    """What is known of a node; each default says that nothing is.

    `facts`: of its tensor, whatever the inputs; `shape`: the concrete one for the example inputs.
    `where`: the module path a user would recognise; `sources`: the paths that a rewritten node was made from.
    `line`: FILE:LINE of the model's source.
    `module`: the type of the torch.nn module it was spelled from; `layer`: that module itself, if it has no weights.
    `fixed`: a constant that does not train, whatever it was made from.
    `wrote_in_place`: the model overwrote the input here.
    `expression`: whether it is computed from constants alone, once somebody has asked.
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

    def __or__(self, other: "Known") -> "Known":
        """Both together; where both say something, what `other` says."""
        return replace(self, **{name: value for name, value, default in other._entries() if value != default})

    def _entries(self) -> Iterator[tuple[str, Any, Any]]:
        """(name, value, default) of each field."""
        return ((each.name, getattr(self, each.name), each.default) for each in fields(self))

    @property
    def of_tensor(self) -> "Known":
        """That part of it which holds for every node with the same value."""
        return Known(facts=self.facts, shape=self.shape)


NOTHING = Known()


def known(node: fx.Node) -> Known:
    """What is known of a node."""
    found = node.meta.get(_KEY, NOTHING)
    assert isinstance(found, Known)
    return found


def note(node: fx.Node, news: Known) -> None:
    """What `news` says holds for the node from now on; the rest stays as it was."""
    node.meta[_KEY] = known(node) | news


def supply(node: fx.Node, news: Known) -> None:
    """What `news` says holds for the node where nothing is known yet."""
    node.meta[_KEY] = news | known(node)


def start_afresh(node: fx.Node, news: Known = NOTHING) -> None:
    """Nothing is known of the node but this; what torch noted there is gone too."""
    node.meta = {_KEY: news} if news != NOTHING else {}


def facts(node: object) -> Facts:
    """What is known about the tensor at a node; UNKNOWN of anything else."""
    found = known(node).facts if isinstance(node, fx.Node) else None
    return UNKNOWN if found is None else found


def where(node: fx.Node) -> str:
    """The module path of a node as a user would say it; the node's own name for what no module owns."""
    return known(node).where or node.name


def sources_of(node: fx.Node) -> tuple[str, ...]:
    """The module paths that a node comes from: its own, if it was not made from others."""
    return known(node).sources or (where(node),)
