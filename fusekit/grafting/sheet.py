"""What new nodes of a file are written on, and where: names that nothing else has, constants, the file's opset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from onnx import NodeProto, TensorProto, helper
from torch import Tensor

from fusekit.algebra import Map
from fusekit.grafting.constants import initializer


@dataclass
class Sheet:
    """Where nodes and their constants are written. `unique` makes a name that nothing else has."""

    opset: int
    unique: Callable[[str], str]
    nodes: list[NodeProto]
    initializers: list[TensorProto]

    def constant(self, value: Tensor, name: str) -> str:
        """A new constant; the name that it got."""
        name = self.unique(name)
        self.initializers.append(initializer(name, value))
        return name

    def integers(self, values: Sequence[int], name: str) -> str:
        """A new constant of integers."""
        return self.constant(torch.tensor(list(values), dtype=torch.int64), name)

    def node(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], path: str, **attributes: Any) -> None:
        """A new node of the place `path`."""
        self.nodes.append(helper.make_node(operator, list(inputs), list(outputs), name=path, **attributes))


@dataclass(frozen=True)
class Place:
    """What a map is applied to, `source`, a value of these `sizes` (None where one, or all of them, are not known) and
    so many axes (`rank`, None if unknown); what comes of it, `output`; and the path of the node, after which constants
    are named."""

    source: str
    output: str
    path: str
    rank: int | None
    sizes: tuple[int | None, ...] | None
    dtype: torch.dtype


def _always(value: Any, opset: int) -> bool:
    return True


@dataclass(frozen=True)
class Emitter:
    """How a kind of map is written. `when`: of which maps, in which opsets, the operators can say it."""

    write: Callable[[Sheet, Any, Place], None]
    when: Callable[[Any, int], bool] = _always


Emitters = dict[type[Map], Emitter]
