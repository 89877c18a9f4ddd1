"""Padding that repeats what is there: circular, reflect, replicate. A map of its own, before a convolution.

    E ∘ f = f ∘ E                          f of each entry alone: an affine map, a pointwise convolution; any mode
    E_q ∘ c ∘ E_p = c ∘ E_(p, q)           circular, c of stride 1 with p the reach of its window

On a circle a convolution of stride 1 does not care where it starts, so the second holds, bias and all. Reflected or
repeated rows are no such thing: c of a reflection is the reflection of c only for symmetric kernels.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Pairs, Shape
from fusekit.algebra.pad import flat_padding
from fusekit.algebra.span import Span
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class EdgePad(Map):
    """Padding by what is there. `mode`: "circular", "reflect" or "replicate", as in torch. `stages`: paddings one after
    the other, each a (low, high) pair for each of the last n axes.

    Each stage takes at most one period of the *unpadded* tensor, as torch does, so (p, q) is defined wherever p and q
    are; only circular padding has more than one.
    """

    mode: str
    stages: tuple[Pairs, ...]

    def __call__(self, x: Tensor) -> Tensor:
        first, *others = self.stages
        x = F.pad(x, flat_padding(first), mode=self.mode)
        for index, stage in enumerate(others, 1):
            for axis, amounts in enumerate(stage):
                x = _extended(x, axis - len(stage), self.before(index, axis), amounts)
        return x

    def before(self, index: int, axis: int) -> tuple[int, int]:
        """What the stages before number `index` have added on an `axis`: (low, high)."""
        done = [stage[axis] for stage in self.stages[:index]]
        return sum(low for low, _ in done), sum(high for _, high in done)

    @property
    def padding(self) -> Pairs:
        """All stages together."""
        return tuple(self.before(len(self.stages), axis) for axis in range(len(self.stages[0])))

    def before_pointwise(self, inner: Conv) -> "EdgePad":
        """The pad e with self ∘ inner = inner ∘ e, for an inner convolution that sees one position at a time. Raises
        Inapplicable if the inner convolution sees more."""
        if not inner.is_pointwise():
            raise Inapplicable(f"{self.mode} padding repeats the inner convolution's output, not its input")
        return self

    def before_conv(self, inner: Conv, pad: "EdgePad") -> "EdgePad":
        """The pad e with self ∘ inner ∘ pad = inner ∘ e. Inapplicable unless all is circular and `inner` keeps the size
        of its input, at stride 1."""
        if not self.mode == pad.mode == "circular":
            raise Inapplicable(f"{self.mode} padding repeats the inner convolution's output, not its input")
        whole = all(sum(pair) == reach for pair, reach in zip(pad.padding, inner.reach, strict=True))
        bare = not inner.transposed and not any(low or high for low, high in inner.padding)
        if not whole or not bare or any(s != 1 for s in inner.stride):
            raise Inapplicable("the inner convolution does not keep the size of its circular input")
        return EdgePad("circular", (*pad.stages, *self.stages))

    def output_shape(self, shape: Shape) -> Shape:
        n = len(self.padding)
        return (*shape[: len(shape) - n], *(s + a + b for s, (a, b) in zip(shape[-n:], self.padding, strict=True)))

    def macs(self, shape: Shape) -> int:
        return 0

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """A further stage cuts two ends and joins three parts, axis by axis."""
        further = (len(self.stages) - 1) * len(self.padding)
        copied = further * 2 * math.prod(self.output_shape(shape)) * itemsize
        return super().work(shape, itemsize, rates) + Work(0, copied, 3 * further)

    def span(self) -> Span:
        """Of what it repeats, nothing: that lies in the ring."""
        return Span.of_ring(tuple(map(sum, self.padding)))

    def linear_part(self) -> "EdgePad":
        return self

    def on_meta(self) -> "EdgePad":
        return self


def circular_pad(x: Tensor, stages: tuple[Pairs, ...]) -> Tensor:
    """Circular padding in several stages, each of at most one period of x (a ValueError or IndexError else)."""
    return EdgePad("circular", stages)(x)


def _extended(x: Tensor, dim: int, done: tuple[int, int], amounts: tuple[int, int]) -> Tensor:
    """Extend a periodic axis, of which `done` entries beyond one period are there already, by further ones.

    Of N entries, a before and a' behind: position -a - b is position N - b of the period, which is a + a' + b entries
    from the end; position N + a' is position a', a + a' entries from the start.
    """
    known = sum(done)
    low, high = x.narrow(dim, -(known + amounts[0]), amounts[0]), x.narrow(dim, known, amounts[1])
    return torch.cat([low, x, high], dim)
