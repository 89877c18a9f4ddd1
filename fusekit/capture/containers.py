"""Containers that a graph carries: what a forward returns, and what it passes on, keeps its type.

torch.fx knows tuples, named tuples, lists and dicts. An OrderedDict, a dataclass and what torch's own functions return
are made by a call when the graph runs. Any other would come out as another: it is refused.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import fx

Leaf = Callable[[Any], Any]
Call = Callable[[Any, tuple[Any, ...], dict[str, Any]], fx.Node]


def is_container(value: Any) -> bool:
    """Whether it is one that holds values, of whatever type."""
    return isinstance(value, tuple | list | dict | set | frozenset) or (
        is_dataclass(value) and not isinstance(value, type)
    )


def carried(value: Any, leaf: Leaf, call: Call) -> Any:
    """The container as an argument of a graph: its values by `leaf`, itself by `call(kind, args, kwargs)` if need be.

    Raises TypeError for a kind that cannot be carried.
    """
    kind = type(value)
    if kind is list or kind is tuple:
        return kind(leaf(v) for v in value)
    if kind is dict:
        return {key: leaf(v) for key, v in value.items()}
    if kind is OrderedDict:
        return call(OrderedDict, ([(key, leaf(v)) for key, v in value.items()],), {})
    if is_dataclass(value) and all(f.init for f in fields(value)):
        return call(kind, (), {f.name: leaf(getattr(value, f.name)) for f in fields(value)})
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return kind(*(leaf(v) for v in value))
    if kind is torch.Size:
        return call(torch.Size, ([leaf(v) for v in value],), {})
    if isinstance(value, tuple) and kind.__module__ == "torch.return_types":
        return call(kind, ([leaf(v) for v in value],), {})
    raise TypeError(f"a {kind.__name__} cannot be carried by a graph; use tuples, lists, dicts or dataclasses")
