"""One axis of a convolution by matrix products: how it may be cut into frames and its transform into factors.

Stride is taken by the phases of the input, y[m] = Σ_r Σ_v w[s v + r] x[s (m + v) + r], where channels are mixed anyway:
s times the channels, transforms s times smaller; elsewhere by the rows of the last matrix. Dilation and transposition
cost nothing, they are in the matrices.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fusekit.algebra.dft import Dft
from fusekit.algebra.spectral import Frames, Line, one_shot, tiled

INNER = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64)
THREE_LEVELS = 1024  # points from which on they are tried
TILES = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)  # times the window
POINTS = (16, 32, 64, 128, 256, 512)


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


def candidates(line: Line, size: int | None, mixes: bool, *, half: bool) -> Iterator[AxisPlan]:
    """Plans for one axis, all of them right. A size of None is free. `mixes`: channels are; `half`: the data is real.

    Raises ValueError if an input of a known size is shorter than the kernel.
    """
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
    lengths = {math.ceil(window * factor) + line.stride * line.spread for factor in TILES}
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
