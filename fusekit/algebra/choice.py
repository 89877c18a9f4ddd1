"""Several spellings of one map: a law that leaves it open which is the cheapest."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fusekit.algebra.map import Map, Shape


@dataclass(frozen=True, eq=False)
class Choice(Map):
    """`options`: maps that are the same function, at least one."""

    options: tuple[Any, ...]

    def __call__(self, x: Tensor) -> Tensor:
        value: Tensor = self.options[0](x)
        return value

    def output_shape(self, shape: Shape) -> Shape:
        size: Shape = self.options[0].output_shape(shape)
        return size

    def macs(self, shape: Shape) -> int:
        return min(int(option.macs(shape)) for option in self.options)

    def constants(self) -> tuple[Tensor, ...]:
        return tuple(constant for option in self.options for constant in option.constants())

    def on_meta(self) -> "Choice":
        return Choice(tuple(option.on_meta() for option in self.options))
