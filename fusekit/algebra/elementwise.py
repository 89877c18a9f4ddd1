"""Functions of each entry alone, which no linear law composes with but some look through: activations."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fusekit.algebra.map import Map, Shape
from fusekit.algebra.span import POINT, Span


@dataclass(frozen=True, eq=False)
class Elementwise(Map):
    """x ↦ f(x, *arguments, **options), entry by entry, f = `function`.

    `spelling`: how the program calls it, (kind of call, target).
    """

    function: Callable[..., Tensor]
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    spelling: tuple[str, Any] | None = field(default=None, repr=False)

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x, *self.arguments, **self.options)

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def macs(self, shape: Shape) -> int:
        return math.prod(shape)

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def span(self) -> Span:
        return POINT

    def on_meta(self) -> "Elementwise":
        return self
