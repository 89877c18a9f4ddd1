"""What a node of a file means to the algebra.

    Linear    a map of one tensor, made of constants         y = build(constants)(x)
    Called    an operator of torch that patterns look for: sums, concatenations, parts, activations

What is neither stays the node that it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fusekit.algebra import Map
from fusekit.grafting.constants import Constants
from fusekit.grafting.operator_node import OperatorNode
from fusekit.grafting.shapes import Shapes
from fusekit.ir import Facts


@dataclass(frozen=True)
class Value:
    """A value of the file, by name, among the arguments of a call."""

    name: str


@dataclass(frozen=True)
class Linear:
    """The value of `source` under the map that `build` makes of the constants. `absorbs`: a value on the way to it
    that nobody else reads, and that is none any more."""

    source: str
    build: Callable[..., Map]
    constants: tuple[str, ...] = ()
    absorbs: str = ""


@dataclass(frozen=True)
class Called:
    """`target(*arguments)`; a `Value` among these stands for what has this name. `absorbs`: as above."""

    target: Any
    arguments: tuple[Any, ...]
    absorbs: str = ""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of the values that a node reads. `read_once`: what makes those that one node reads, and nobody
    else: such a pair of nodes can be one."""

    constants: Constants
    shapes: Shapes
    read_once: Mapping[str, OperatorNode]

    def facts(self, name: str) -> Facts:
        """Of a value's shape and element type, whatever the inputs."""
        return self.shapes.facts(name)

    def is_floating(self, name: str) -> bool:
        """Whether it is known to hold floating numbers that the algebra computes with."""
        dtype = self.facts(name).dtype
        return dtype is not None and dtype.is_floating_point and dtype.itemsize != 1

    def weights(self, *names: str) -> list[Tensor] | None:
        """Floating constants; None if one of them is none, or is not there."""
        found = [self.constants.tensor(name) for name in names]
        return None if any(tensor is None for tensor in found) else [t for t in found if t is not None]


Meaning = Linear | Called
Reader = Callable[[OperatorNode, Known], Meaning | None]


@dataclass(frozen=True)
class FileReaders:
    """Readers of operators of files that another package brings: by name, with the domain before it if that is not the
    standard one ("com.example::Scale")."""

    readers: Mapping[str, Reader]
