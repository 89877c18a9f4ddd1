"""How a convolution by constant matrix products is cut and factored, and what it costs: on shapes alone.

Per axis: one frame or overlap-save tiles (`spectral.py`), the size of the transform and its factors (`dft.py`).

The price is that of ONNX Runtime on one thread (measured: 1.32, a server core with AVX-512; the 18 convolutions it was
tried on took 0.65 to 1.3 times as long): a product [M, K] x [K, n] takes 2 M K n flop, n rounded up to 16, at FLOPS,
and CALL for each of a batch; what is moved or multiplied entry by entry TOUCH an entry, a piece of a tile PIECE; an
operator NODE.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fusekit.algebra.transforms.dft import Level
from fusekit.algebra.transforms.matrix_axis import AxisPlan, candidates
from fusekit.algebra.transforms.spectral import Line

FLOPS = 85.0  # flop a nanosecond
CALL = 150.0  # nanoseconds a matrix product of a batch
NODE = 4000.0  # nanoseconds an operator
TOUCH = 0.3  # nanoseconds an entry moved or multiplied
PIECE = 5.0  # nanoseconds a piece gathered
LANES = 16  # columns a kernel computes at once
CHANNELS_LAST = 8  # from so many channels on the elementwise product runs along them, else along the tiles

NOMINAL = {1: 8192, 2: 112, 3: 32}  # the size a free axis is planned for

Axes = tuple[AxisPlan, ...]


@dataclass(frozen=True)
class Work:
    """Flops of the products, entries moved or multiplied one by one, products of a batch, operators."""

    flops: float = 0
    touched: float = 0
    calls: float = 0
    nodes: int = 0
    padded: float = 0  # flops as the kernels do them, columns rounded up

    def __add__(self, other: "Work") -> "Work":
        pairs = zip(self._all, other._all, strict=True)
        flops, touched, calls, nodes, padded = (a + b for a, b in pairs)
        return Work(flops, touched, calls, int(nodes), padded)

    @property
    def _all(self) -> tuple[float, ...]:
        return self.flops, self.touched, self.calls, self.nodes, self.padded

    @property
    def nanoseconds(self) -> float:
        """The price in ONNX Runtime, one thread."""
        return self.padded / FLOPS + self.touched * TOUCH + self.calls * CALL + self.nodes * NODE

    @property
    def bytes(self) -> float:
        """Of float32 entries read and written."""
        return 8 * self.touched


@dataclass(frozen=True)
class MatrixPlan:
    """All axes, and the channels: `inputs` and `outputs` of each of `groups`."""

    axes: tuple[AxisPlan, ...]
    groups: int
    outputs: int
    inputs: int

    @property
    def depthwise(self) -> bool:
        """One channel in, one out: spectra are multiplied entry by entry."""
        return self.inputs == self.outputs == 1

    @property
    def channels_last(self) -> bool:
        """Whether tiles and images come before the channels."""
        return self.depthwise and self.groups >= CHANNELS_LAST

    @property
    def phases(self) -> int:
        return math.prod(axis.phases for axis in self.axes)

    @property
    def bins(self) -> int:
        """Real products a frame and pair of channels."""
        return 3 * math.prod(axis.dft.bins for axis in self.axes)

    @property
    def spectrum_entries(self) -> int:
        """Numbers that ONNX Runtime holds in memory in place of the kernel's."""
        return self.bins * self.groups * self.outputs * self.inputs * self.phases

    def work(self, batch: int, tiles: Sequence[int]) -> Work:
        """For a batch of images, each cut into so many tiles an axis."""
        frames = batch * math.prod(tiles)
        inputs, outputs = self.groups * self.inputs * self.phases, self.groups * self.outputs
        samples = math.prod(axis.samples for axis in self.axes)
        kept = math.prod(axis.kept for axis in self.axes)
        taken = samples * inputs * frames
        work = Work(touched=2.5 * taken, nodes=4 + 2 * sum(tile > 1 for tile in tiles))
        run = self.groups if self.channels_last else 1
        for axis, tile in reversed(list(zip(self.axes, tiles, strict=True))):
            if not axis.frames.one_shot:
                work += Work(touched=taken / (run * axis.block) * PIECE / TOUCH)
            run *= tile * axis.phases * axis.samples
        prefix, rest = 1, taken
        for i, axis in enumerate(self.axes):
            rest //= axis.samples
            levels = axis.dft.levels(axis.samples)
            work += _transform(axis, prefix, rest, levels, last=i == len(self.axes) - 1, inverse=False)
            prefix *= axis.dft.bins
        if self.depthwise:
            work += Work(flops=self.bins * frames * outputs, touched=self.bins * frames * outputs, nodes=1)
        else:
            work += _product(self.bins * self.groups, self.outputs, self.inputs * self.phases, frames)
            work += Work(touched=self.bins * outputs * inputs / self.groups / 2)  # the spectrum comes from memory
        rest = outputs * frames
        for i, axis in reversed(list(enumerate(self.axes))):
            prefix //= axis.dft.bins
            levels = axis.dft.levels(axis.kept, axis.frames.stride)
            work += _transform(axis, prefix, rest, levels, last=i == len(self.axes) - 1, inverse=True)
            rest *= axis.kept
        return work + Work(touched=2.5 * kept * outputs * frames, nodes=5)


def _product(count: float, rows: int, depth: int, columns: float) -> Work:
    flops = 2.0 * count * rows * depth
    entries = count * columns * (rows + depth)
    padded = flops * -(-columns // LANES) * LANES
    return Work(flops * columns, entries / 2, count, 2, padded)


def _transform(axis: AxisPlan, prefix: int, rest: float, levels: list[Level], *, last: bool, inverse: bool) -> Work:
    """All levels of one axis, `rest` columns to each sample."""
    work = Work()
    for level in levels:
        later = level.spacing if not inverse else math.prod(other.samples for other in levels[len(level.digits) :])
        rows = level.bins * (3 if last and level.is_last else 2)
        depth = level.parts * level.samples
        rows, depth = (depth, rows) if inverse else (rows, depth)
        work += _product(prefix * level.earlier, rows, depth, later * rest)
        work += Work(touched=level.earlier * rows * depth / 2)  # the matrices come from memory
    return work


@lru_cache(maxsize=512)
def plan_matrices(
    lines: tuple[Line, ...],
    sizes: tuple[int | None, ...],
    *,
    groups: int,
    outputs: int,
    inputs: int,
    batch: int | None = None,
    nominal: tuple[int, ...] = (),
) -> MatrixPlan:
    """The cheapest plan for a convolution of these lines; a size of None is free, and planned as if it were `nominal`.

    Raises ValueError if an input of a known size is shorter than the kernel.
    """
    n = len(lines)
    usual = nominal or tuple(max(NOMINAL[n], 4 * (line.reach + 1)) for line in lines)
    planned = tuple(free if size is None else size for size, free in zip(sizes, usual, strict=True))
    mixes = inputs > 1 or outputs > 1
    choices = [
        list(candidates(line, size, mixes, half=i == 0, nominal=free))
        for i, (line, size, free) in enumerate(zip(lines, sizes, planned, strict=True))
    ]
    wanted = [max(1, line.outputs(size)) for line, size in zip(lines, planned, strict=True)]

    def price(axes: Axes) -> float:
        tiles = tuple(axis.frames.count(outputs) for axis, outputs in zip(axes, wanted, strict=True))
        return MatrixPlan(axes, groups, outputs, inputs).work(batch or 1, tiles).nanoseconds

    starts = [tuple(options[place] for options in choices) for place in (0, -1)]
    return MatrixPlan(min((_descent(start, choices, price) for start in starts), key=price), groups, outputs, inputs)


def _descent(axes: Axes, choices: list[list[AxisPlan]], price: Callable[[Axes], float]) -> Axes:
    """The best choice for one axis after the other, until none is better."""
    best = price(axes)
    while True:
        for i, options in enumerate(choices):
            axes = min(((*axes[:i], option, *axes[i + 1 :]) for option in options), key=price)
        if price(axes) >= best:
            return axes
        best = price(axes)
