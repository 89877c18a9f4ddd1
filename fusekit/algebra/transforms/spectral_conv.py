"""A convolution computed by transforms: the same linear map as a `Conv`, at another price.

    x -> phases -> frames -> F -> Σ_i H[o, i] · -> F⁻¹ -> kept outputs -> phases interleaved

What is computed is decided from shapes alone (`realize`) and is right at every size; where several ways are right, the
one of least effort is taken.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Pairs, Shape
from fusekit.algebra.transforms.effort import Effort, choose, effort
from fusekit.algebra.transforms.matrix_plan import plan_matrices
from fusekit.algebra.transforms.phases import Phases, deal, deal_kernel, gather
from fusekit.algebra.transforms.spectral import Line, Plan, one_shot, tiled
from fusekit.algebra.transforms.transform import Transform
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable

Tile = tuple[int | None, ...]


@dataclass(frozen=True)
class Geometry:
    """What a convolution is beside its kernel: as in `Conv`, hashable."""

    stride: Shape
    padding: Pairs
    dilation: Shape
    groups: int
    transposed: bool = False
    output_padding: Shape = ()

    @classmethod
    def of(cls, conv: Conv) -> "Geometry":
        return cls(conv.stride, conv.padding, conv.dilation, conv.groups, conv.transposed, conv.output_padding)


@dataclass(frozen=True)
class Realization:
    """How one convolution is computed at one size: its axes' phases, the transform of the unit convolution that they
    leave, and the size of that one's output."""

    axes: tuple[Phases, ...]
    transform: Transform
    unit_sizes: Shape
    sizes: Shape
    transposed: bool

    @cached_property
    def key(self) -> tuple[object, ...]:
        """What the spectrum depends on beside the kernel: sizes that share it have the same key."""
        axes = self.transform.plan.axes
        turned = tuple((axis.points, axis.first) for axis in axes)
        return turned, tuple((a.taps, a.inputs, a.outputs, a.stuffing) for a in self.axes), self.transposed

    def spectrum_bytes(self, dtype: torch.dtype) -> int:
        """The size of the spectrum for signals of this dtype; of real ones only half the bins are stored."""
        is_complex = dtype.is_complex
        return self._entries[is_complex] * dtype.itemsize * (1 if is_complex else 2)

    @cached_property
    def _entries(self) -> tuple[int, int]:
        """How many complex numbers the spectrum for real signals has, and that for complex ones."""
        transform = self.transform
        *others, last = transform.plan.points
        pairs = transform.groups * transform.outputs * transform.inputs
        return pairs * math.prod(others) * (last // 2 + 1), pairs * math.prod(others) * last

    def spectrum(self, kernel: Tensor) -> Tensor:
        """The spectrum of a kernel [g, out, in, *window], in its precision."""
        return self.transform.spectrum(deal_kernel(kernel, self.axes, self.transposed))

    def __call__(self, x: Tensor, spectrum: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution of x [B, g·in, *size], contiguous, without gradients."""
        if self._is_unit:
            return self.transform(x, spectrum, self.unit_sizes, bias)
        phases = math.prod(axis.outputs for axis in self.axes)
        bias = bias if bias is None or phases == 1 else bias.repeat_interleave(phases)
        y = self.transform(deal(x, self.axes), spectrum, self.unit_sizes, bias)
        return gather(y, self.axes).contiguous()

    @cached_property
    def _is_unit(self) -> bool:
        """Whether nothing is dealt to phases, and all outputs are kept."""
        dealt = any(axis.deals or axis.outputs > 1 or axis.skipped for axis in self.axes)
        return not dealt and self.unit_sizes == self.sizes

    def effort(self, batch: int, itemsize: int = 4) -> Effort:
        """The work for so many images."""
        tiles = math.prod(frames.tiles or 1 for frames in self.transform.plan.axes)
        batch *= math.prod(phases.batch for phases in self.axes)
        return effort(self.transform, batch, tiles, itemsize)


@lru_cache(maxsize=1024)
def realize(
    geometry: Geometry, window: Shape, channels: tuple[int, int], size: Shape, batch: int = 1, tile: Tile | None = None
) -> Realization:
    """The realization for an input [batch, g·in, *size]; `channels`: outputs and inputs of a group.

    `tile`: per axis the points of a tile of the unit convolution, None for one shot; by default the least effort. What
    is too small a tile for the window is one shot. Raises ValueError where the convolution has no output.
    """
    axes = tuple(_phases(geometry, window, size))
    if any(axis.kept < 1 for axis in axes):
        raise ValueError(f"an input of {list(size)} gives a window of {list(window)} no output")
    outputs, inputs = channels
    for axis in axes:
        outputs, inputs = outputs * axis.outputs, inputs * axis.inputs
        batch *= axis.batch
    lines = tuple(Line(axis.taps - 1, 1, axis.low, axis.high) for axis in axes)
    sizes = tuple(axis.size for axis in axes)
    if tile is None:
        plan = choose(lines, sizes, batch, (geometry.groups, outputs, inputs))
    else:
        cuts = zip(lines, sizes, tile, strict=True)
        plan = Plan(tuple(tiled(li, t, s) if t and t > li.reach else one_shot(li, s) for li, s, t in cuts))
    unit = tuple(line.outputs(s) for line, s in zip(lines, sizes, strict=True))
    kept = tuple(axis.kept for axis in axes)
    return Realization(axes, Transform(plan, geometry.groups, outputs, inputs), unit, kept, geometry.transposed)


def _phases(geometry: Geometry, window: Shape, size: Shape) -> list[Phases]:
    per_axis = list(zip(size, window, geometry.stride, geometry.dilation, geometry.padding, strict=True))
    if not geometry.transposed:
        return [Phases.of(s, k, step, d, low, high) for s, k, step, d, (low, high) in per_axis]
    extra = geometry.output_padding or (0,) * len(window)
    return [
        Phases.transposed(s, k, step, d, low, high, op)
        for (s, k, step, d, (low, high)), op in zip(per_axis, extra, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class SpectralConv(Map):
    """The map of `conv`, computed by transforms. `tile` as in `realize`."""

    conv: Conv
    tile: Tile | None = None

    @classmethod
    def of(cls, conv: Conv, tile: Tile | None = None) -> "SpectralConv":
        """`conv` by transforms, in tiles of so many points as `tile` says. Inapplicable without spatial axes."""
        if conv.n == 0:
            raise Inapplicable("a linear layer has no axis to transform")
        return cls(conv, tile)

    def realization(self, shape: Shape) -> Realization:
        """What is computed for an input of this shape."""
        conv, n = self.conv, self.conv.n
        channels = (int(conv.kernel.shape[1]), int(conv.kernel.shape[2]))
        return realize(
            Geometry.of(conv), conv.window, channels, tuple(shape[-n:]), max(1, math.prod(shape[: -n - 1])), self.tile
        )

    def __call__(self, x: Tensor) -> Tensor:
        batched = x.reshape(-1, *x.shape[-self.conv.n - 1 :])
        realized = self.realization(tuple(x.shape))
        bias = None if self.conv.bias is None else self.conv.bias.to(x.dtype)
        y = realized(batched, realized.spectrum(self.conv.kernel.to(x.dtype)), bias)
        return y.reshape(self.output_shape(tuple(x.shape)))

    def output_shape(self, shape: Shape) -> Shape:
        return self.conv.output_shape(shape)

    def effort(self, shape: Shape, itemsize: int = 4) -> Effort:
        """The work in torch on an input of this `shape`, of entries of `itemsize` bytes."""
        return self.realization(shape).effort(math.prod(shape[: -self.conv.n - 1]), itemsize)

    def nanoseconds(self, shape: Shape, itemsize: int, *, by_matrices: bool) -> float:
        """The time on one thread for an input of this `shape`, of entries of `itemsize` bytes: by fast transforms, or
        `by_matrices`, products with constant ones."""
        if not by_matrices:
            return self.effort(shape, itemsize).nanoseconds
        conv, n = self.conv, self.conv.n
        outputs, inputs = (int(size) for size in conv.kernel.shape[1:3])
        batch = math.prod(shape[: -n - 1])
        plan = plan_matrices(
            lines_of(conv), tuple(shape[-n:]), groups=conv.groups, outputs=outputs, inputs=inputs, batch=batch
        )
        return plan.work(batch, [axis.frames.tiles or 1 for axis in plan.axes]).nanoseconds * itemsize / 4

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """Its time, as the multiply-accumulates of a direct convolution: time is known better here than the bytes it
        moves, most of which stay in the cache."""
        conv = self.conv
        moved = (math.prod(shape) + math.prod(self.output_shape(shape))) * itemsize
        rate = rates.direct_rate(conv.n, conv.out_channels, depthwise=conv.groups == conv.in_channels)
        return Work(int(rate * self.nanoseconds(shape, itemsize, by_matrices=rates.by_matrices)), moved, 1)

    def macs(self, shape: Shape) -> int:
        """Half the flops of transforms and products."""
        return self.effort(shape).flops // 2

    def constants(self) -> tuple[Tensor, ...]:
        return self.conv.constants()

    def describe(self) -> str:
        return f"spectral {'' if self.tile is None else f'in tiles {self.tile} '}{self.conv.describe()}"

    def plain(self) -> Conv:
        return self.conv

    def linear_part(self) -> "SpectralConv":
        return replace(self, conv=self.conv.linear_part())

    def on_meta(self) -> "SpectralConv":
        return replace(self, conv=self.conv.on_meta())


def lines_of(conv: Conv) -> tuple[Line, ...]:
    """The geometry of a convolution axis by axis, stride and dilation included."""
    axes = zip(conv.reach, conv.stride, conv.padding, conv.output_padding, strict=True)
    if conv.transposed:
        return tuple(Line.transposed(reach, step, low, high, extra) for reach, step, (low, high), extra in axes)
    return tuple(Line(reach, step, low, high) for reach, step, (low, high), _ in axes)


def spectral_conv(x: Tensor, *arguments: Any) -> Tensor:
    """A convolution by transforms; the arguments are `spectral_of`'s."""
    return spectral_of(*arguments)(x)


def spectral_of(
    weight: Tensor,
    bias: Tensor | None,
    stride: Shape,
    padding: Pairs,
    dilation: Shape,
    groups: int,
    transposed: bool = False,
    output_padding: Shape = (),
) -> SpectralConv:
    """The value from a weight in torch's layout; `padding` is a (low, high) pair for each axis."""
    conv = Conv.from_torch(
        weight,
        bias,
        stride=stride,
        padding=tuple((low, high) for low, high in padding),
        dilation=dilation,
        groups=groups,
        transposed=transposed,
        output_padding=output_padding,
    )
    return SpectralConv.of(conv)
