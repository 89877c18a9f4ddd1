"""The two trivial maps: x ↦ x, and x ↦ v."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fusekit.algebra.map import Map, Shape
from fusekit.algebra.span import Span


@dataclass(frozen=True, eq=False)
class Identity(Map):
    """x ↦ x: inference dropout, nn.Identity; where it acts on `axes` last axes, a reflected pad of zero, also."""

    axes: int | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return x

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def macs(self, shape: Shape) -> int:
        return 0

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def span(self) -> Span:
        return Span.of_ring((0,) * (self.axes or 0))

    def linear_part(self) -> "Identity":
        return self

    def steps(self) -> tuple[Map, ...]:
        return ()

    def on_meta(self) -> "Identity":
        return self


@dataclass(frozen=True, eq=False)
class Constant(Map):
    """x ↦ v, whatever x: the value of an expression that reads no input."""

    value: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.value

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(self.value.shape)

    def macs(self, shape: Shape) -> int:
        return 0

    def constants(self) -> tuple[Tensor, ...]:
        return (self.value,)

    def linear_part(self) -> "Constant":
        return Constant(torch.zeros_like(self.value))

    def on_meta(self) -> "Constant":
        return Constant(self.value.to("meta"))
