"""One axis of a convolution by matrix products: how it may be cut into frames and its transform into factors.

Stride is taken by the phases of the input, y[m] = Σ_r Σ_v w[s v + r] x[s (m + v) + r], where channels are mixed anyway:
s times the channels, transforms s times smaller; elsewhere by the rows of the last matrix. Dilation and transposition
cost nothing, they are in the matrices.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fusekit.algebra.transforms.dft import Dft
from fusekit.algebra.transforms.spectral import Frames, Line, one_shot

INNER = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64)
THREE_LEVELS = 1024  # points from which on they are tried
TILES = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)  # times the window
POINTS = (16, 32, 64, 128, 256, 512)
PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # of all outputs


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
    def block(self) -> int:
        """The common measure of step and frame, in samples of the input: tiles are gathered in pieces of it."""
        return self.phases * math.gcd(self.step, self.samples)

    @property
    def kept(self) -> int:
        """Outputs that a frame computes: those it keeps, rounded up where several levels ask for it."""
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


def candidates(
    line: Line, size: int | None, mixes: bool, *, half: bool, nominal: int | None = None
) -> Iterator[AxisPlan]:
    """Plans for one axis, all of them right. A size of None is free, and most often `nominal`. `mixes`: channels are
    mixed; `half`: the data is real.

    Raises ValueError if an input of a known size is shorter than the kernel.
    """
    phases, before = 1, 0
    if size is not None:
        whole = one_shot(line, size, by_matrices=True)  # raises
    expected = size if size is not None else nominal
    outputs = 0 if expected is None else max(1, line.outputs(expected))
    if mixes and line.stride > 1:
        phases, before, line = line.stride, line.low, Line(line.reach // line.stride)
        if size is not None:
            whole = one_shot(line, outputs + line.reach, by_matrices=True)
    if size is not None:
        for inner in _factors(whole.points):
            points = _multiple(whole.points, math.prod(inner))
            axis = AxisPlan(replace(whole, points=points), Dft(points, inner, half), phases, before)
            if axis.is_sound():
                yield axis
    for keep in _keeps(line, outputs):
        for inner in _factors(line.reach + 1 + line.stride * (keep - 1)):
            axis = AxisPlan(*_tile(line, keep, inner, outputs if size is not None else None, half), phases, before)
            if axis.is_sound():
                yield axis


def _keeps(line: Line, outputs: int) -> list[int]:
    """How many outputs a tile may give: an even part of those there are, or what a multiple of the window allows."""
    window = line.reach + 1
    lengths = {*POINTS, *(math.ceil(window * factor) + line.stride * line.spread for factor in TILES)}
    keeps = {(points - window) // line.stride + 1 for points in lengths if points >= window}
    keeps = {keep for keep in keeps if not outputs or keep < 1.5 * outputs}
    return sorted(keeps | {-(-outputs // parts) for parts in PARTS if outputs >= parts})


def _tile(line: Line, keep: int, inner: tuple[int, ...], outputs: int | None, half: bool) -> tuple[Frames, Dft]:
    """A tile that gives so many outputs, rounded up to whole rows of the matrices and to whole samples."""
    unit = math.prod(inner)
    rows = unit // math.gcd(unit, line.stride)
    keep = _multiple(keep, math.lcm(rows, line.spread))
    samples = line.reach + 1 + line.stride * (keep - 1)
    points = _multiple(samples, unit)
    tiles = None if outputs is None else -(-outputs // keep)
    frames = Frames(points, samples, -line.low, keep * line.stride, 0, line.stride, keep, tiles, line.spread)
    return frames, Dft(points, inner, half)


def _multiple(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _factors(points: int) -> Iterator[tuple[int, ...]]:
    """Inner factors for transforms of about so many points."""
    yield ()
    yield from ((inner,) for inner in INNER if 2 * inner <= points)
    if points >= THREE_LEVELS:
        middle = round(points ** (1 / 3))
        yield from ((second, third) for second in (middle, 2 * middle) for third in INNER[4:] if third <= 2 * middle)
