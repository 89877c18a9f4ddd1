"""How a convolution by constant matrix products is cut and factored, and what it costs: on shapes alone.

Per axis: one frame or overlap-save tiles (`spectral.py`), the size of the transform and its factors (`dft.py`). Stride
is taken by the phases of the input (y[m] = Σ_r Σ_v w[s v + r] x[s (m + v) + r]: s times the channels, transforms s times
smaller) where channels are mixed anyway, by the rows of the last matrix elsewhere; dilation and transposition cost
nothing, they are in the matrices.

The price is that of ONNX Runtime on one thread (measured, AVX2 class of machine, 64-bit x86; ratios carry over better
than the figures): a product [M, K] x [K, n] takes 2 M K n flop, n rounded up to 16, at FLOPS plus CALL for each of a
batch; whatever is moved or multiplied entry by entry costs TOUCH an entry; an operator costs NODE.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from fusekit.algebra.dft import Dft, Level
from fusekit.algebra.spectral import Frames, Line, one_shot, tiled

FLOPS = 85.0  # flop a nanosecond
CALL = 150.0  # nanoseconds a matrix product of a batch
NODE = 4000.0  # nanoseconds an operator
TOUCH = 0.3  # nanoseconds an entry moved or multiplied
LANES = 16  # columns a kernel computes at once
CHANNELS_LAST = 8  # from so many channels on the elementwise product runs along them, else along the tiles

NOMINAL = {1: 8192, 2: 112, 3: 32}  # the size a free axis is planned for
INNER = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64)
THREE_LEVELS = 1024  # points from which on they are tried
TILES = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)


@dataclass(frozen=True)
class AxisPlan:
    """One axis: frames over the input's samples, or those of each of its `phases`, `before` zeros in front, and the
    transform of each frame."""

    frames: Frames
    dft: Dft
    phases: int = 1
    before: int = 0

    @property
    def lead(self) -> int:
        """The first sample of the input that is read; below 0, so many zeros come before it."""
        return -(-self.frames.start // self.frames.spread) - self.before

    @property
    def offset(self) -> int:
        """Where in the frame it stands."""
        return -self.frames.start % self.frames.spread

    @property
    def read(self) -> int:
        """How many samples (of a phase) a frame reads."""
        return max(0, (self.frames.samples - 1 - self.offset) // self.frames.spread + 1)

    @property
    def samples(self) -> int:
        """Those of the frame as the transform takes them, a multiple of its inner factor."""
        return max(1, -(-self.read // self.dft.unit)) * self.dft.unit

    @property
    def step(self) -> int:
        """Samples (of a phase) from tile to tile; 0 if there is one."""
        return self.frames.step // self.frames.spread

    @property
    def kept(self) -> int:
        """Outputs that a frame computes: those it keeps, rounded up where two levels ask for it."""
        m = self.dft.unit // self.frames.stride if self.dft.inner else 1
        return -(-self.frames.keep // m) * m

    def is_sound(self) -> bool:
        """Whether the factors fit the stride, and rounding up brings in no sample that is not there."""
        if self.dft.inner and self.dft.inner[-1] % self.frames.stride:
            return False
        if self.frames.one_shot:
            return True
        last = self.offset + self.frames.spread * (self.samples - 1)
        return self.kept == self.frames.keep and last < self.frames.points


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
        prefix, rest = 1, taken
        for i, axis in enumerate(self.axes):
            rest //= axis.samples
            levels = axis.dft.levels(axis.samples)
            work += _transform(axis, prefix, rest, levels, last=i == len(self.axes) - 1, inverse=False)
            prefix *= axis.dft.bins
        if self.depthwise:
            work += Work(flops=self.bins * frames * outputs, touched=self.bins * frames * outputs, nodes=1)
        else:
            count = self.bins * batch * self.groups
            work += _product(count, self.outputs, self.inputs * self.phases, math.prod(tiles))
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
    nominal = nominal or tuple(max(NOMINAL[n], 4 * (line.reach + 1)) for line in lines)
    planned = tuple(size or free for size, free in zip(sizes, nominal, strict=True))
    mixes = inputs > 1 or outputs > 1
    choices = [
        list(_candidates(line, size, mixes, half=i == 0)) for i, (line, size) in enumerate(zip(lines, sizes, strict=True))
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
            axes = min((axes[:i] + (option,) + axes[i + 1 :] for option in options), key=price)
        if price(axes) >= best:
            return axes
        best = price(axes)


def _candidates(line: Line, size: int | None, mixes: bool, *, half: bool) -> Iterator[AxisPlan]:
    phases, before = 1, 0
    if size is not None and line.outputs(size) < 1:
        one_shot(line, size)  # raises
    if mixes and line.stride > 1:
        phases, before = line.stride, line.low
        size = None if size is None else line.outputs(size) + line.reach // phases
        line = Line(line.reach // phases)
    for frames, inner in _cuts(line, size):
        unit = math.prod(inner)
        points = -(-frames.points // unit) * unit
        if inner and points // unit < 2:
            continue
        if frames.one_shot:
            cut: Frames | None = replace(frames, points=points)
        else:
            cut = _rounded(line, points, inner, size)
        if cut is not None:
            axis = AxisPlan(cut, Dft(points, inner, half), phases, before)
            if axis.is_sound():
                yield axis


def _cuts(line: Line, size: int | None) -> Iterator[tuple[Frames, tuple[int, ...]]]:
    """Frames that might do, each with the inner factors to try."""
    if size is not None:
        whole = one_shot(line, size, "onnxruntime")
        yield from ((whole, inner) for inner in _factors(whole.points))
    window = line.reach + 1
    lengths = {math.ceil(window * factor) + line.stride * line.spread for factor in TILES} | {16, 32, 64, 128, 256, 512}
    for points in sorted(lengths):
        if points > line.reach and (size is None or points < 1.5 * (line.extent(size) + window)):
            frames = tiled(line, points, size)
            yield from ((frames, inner) for inner in _factors(points))


def _factors(points: int) -> Iterator[tuple[int, ...]]:
    """Inner factors for transforms of about so many points."""
    yield ()
    yield from ((inner,) for inner in INNER if 2 * inner <= points)
    if points >= THREE_LEVELS:
        middle = round(points ** (1 / 3))
        yield from ((second, third) for second in (middle, 2 * middle) for third in INNER[4:] if third <= 2 * middle)


def _rounded(line: Line, points: int, inner: tuple[int, ...], size: int | None) -> Frames | None:
    """Tiles whose outputs fall into whole rows of the matrices."""
    if points <= line.reach or (inner and inner[-1] % line.stride):
        return None
    m = math.prod(inner) // line.stride if inner else 1
    frames = tiled(line, points, size)
    unit = math.lcm(m, line.spread)
    keep = frames.keep - frames.keep % unit
    if not keep:
        return None
    tiles = None if size is None else max(1, -(-line.outputs(size) // keep))
    samples = line.reach + 1 + line.stride * (keep - 1)
    return replace(frames, samples=samples, keep=keep, step=keep * line.stride, tiles=tiles)
