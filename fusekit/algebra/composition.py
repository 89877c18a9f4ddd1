"""Maps in a row: Composition(m1, ..., mk)(x) = m1(...(mk(x))), and the one map that they are together."""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.conv import Conv
from fusekit.algebra.cut import Cut
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.pad import Pad
from fusekit.algebra.pool import AvgPool
from fusekit.algebra.span import Span, along
from fusekit.algebra.trivial import Identity
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class Composition(Map):
    """`maps` in a row, outermost first; no map at all is the identity."""

    maps: tuple[Any, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return reduce(lambda value, each: each(value), reversed(self.maps), x)

    def output_shape(self, shape: Shape) -> Shape:
        return reduce(lambda size, each: each.output_shape(size), reversed(self.maps), shape)

    def macs(self, shape: Shape) -> int:
        total = 0
        for each in reversed(self.maps):
            total += each.macs(shape)
            shape = each.output_shape(shape)
        return total

    def constants(self) -> tuple[Tensor, ...]:
        return tuple(constant for each in self.maps for constant in each.constants())

    def describe(self) -> str:
        return " after ".join(each.describe() for each in self.steps()) or Identity().describe()

    def plain(self) -> Any:
        """That of its only step."""
        steps = self.steps()
        return steps[0].plain() if len(steps) == 1 else None

    def span(self) -> Span | None:
        return along([each.span() for each in reversed(self.maps)])

    def linear_part(self) -> "Composition":
        return Composition(tuple(each.linear_part() for each in self.maps))

    def steps(self) -> tuple[Map, ...]:
        return tuple(step for each in self.maps for step in each.steps())

    def on_meta(self) -> "Composition":
        return Composition(tuple(each.on_meta() for each in self.maps))

    def as_conv(self, n: int, channels: int, device: torch.device | None = None) -> Conv:
        """One convolution for all, on an input of so many `channels` before `n` spatial axes, its kernel on a `device`;
        Inapplicable where a law of composition does not hold."""
        result: Conv | None = None
        for step in reversed(self.steps()):
            conv = as_conv(step, n, result.out_channels if result is not None else channels, device)
            result = conv if result is None else conv @ result
        return as_conv(Identity(), n, channels, device) if result is None else result

    def collapsed(self) -> Map:
        """One map for all, by m1 @ (m2 @ ...); Inapplicable where a law of composition does not hold."""
        maps: tuple[Any, ...] = self.steps()
        result = maps[-1] if maps else Identity()
        for outer in reversed(maps[:-1]):
            try:
                result = outer @ result
            except TypeError:
                kinds = f"{type(outer).__name__} after {type(result).__name__}"
                raise Inapplicable(f"there is no law for a {kinds}") from None
        return result


def as_conv(value: Map, n: int, channels: int, device: torch.device | None = None) -> Conv:
    """A map as a convolution of so many `channels` on `n` spatial axes, its kernel on a `device`; Inapplicable if it is
    none."""
    if isinstance(value, Conv):
        return value
    if isinstance(value, AvgPool):
        return value.as_conv(channels, device)
    one = torch.ones((), dtype=torch.float64, device=device)
    affine = value if isinstance(value, Affine) else Affine(one, torch.zeros_like(one), None)
    conv = Conv.from_affine(affine, n, channels, device)
    if isinstance(value, Cut | Pad):
        return conv @ value
    if not isinstance(value, Affine | Identity):
        raise Inapplicable(f"a {type(value).__name__} does not add to a convolution")
    return conv
