"""How a convolution is cut into circular ones: per axis the transform size, the frames, and where the outputs lie.

    y[m] = Σ_u w[u] x[s m + u - low],   0 <= m < Lo          (x is zero outside [0, L); w reaches over R = d (k - 1))

A circular convolution of N points adds up all indices that agree mod N. The outputs of interest are free of aliases
exactly when

    N >= max(L + low, R - low + s (Lo - 1) + 1)              (low >= 0; 'same' needs L + R/2 points, not L + R)

That is *one shot*. Cut into tiles by overlap-save, frame t is x[t s keep - low, + N), and gives the keep outputs whose
windows lie within it, keep = (N - R - 1) // s + 1: no aliases, nothing to add, and any L will do.

A transposed convolution is the same on an input whose samples stand s apart, with the kernel reversed and the padding
R - low: `spread` = s, stride 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from fusekit.algebra.map import Pairs, Shape


@dataclass(frozen=True)
class Line:
    """The geometry of a convolution on one axis: `reach` d (k - 1), stride, (low, high) padding, negative to crop;
    `spread` is the distance at which input samples stand, zeros between them (1 unless transposed)."""

    reach: int
    stride: int = 1
    low: int = 0
    high: int = 0
    spread: int = 1

    @classmethod
    def transposed(cls, reach: int, stride: int, low: int, high: int, output_padding: int = 0) -> "Line":
        """Of a transposed convolution, whose padding crops; its kernel must be reversed."""
        return cls(reach, 1, reach - low, reach - high + output_padding, stride)

    def extent(self, size: int) -> int:
        """From the first sample to the last, once they are spread."""
        return self.spread * (size - 1) + 1 if size else 0

    def outputs(self, size: int) -> int:
        """How many outputs an input of this size gives."""
        return (self.extent(size) + self.low + self.high - self.reach - 1) // self.stride + 1


@dataclass(frozen=True)
class Frames:
    """One axis as circular convolutions of `points` samples.

    Frame t holds the (spread) input from `start + t step` on, zeros beyond the input's ends and behind its first
    `samples`. Its m-th output, m < keep, is at (first + stride m) mod points of h ⊛ frame, h[-u mod N] = w[u]; it is
    output t keep + m of the whole. `tiles` frames cover the axis; None: as many as the size asks for.
    """

    points: int
    samples: int
    start: int
    step: int
    first: int
    stride: int
    keep: int
    tiles: int | None
    spread: int = 1

    @property
    def one_shot(self) -> bool:
        """The whole axis in one frame, made for one size."""
        return self.step == 0

    @property
    def kept(self) -> tuple[int, ...]:
        """Where the outputs of a frame lie."""
        return tuple((self.first + self.stride * m) % self.points for m in range(self.keep))

    def count(self, outputs: int) -> int:
        """How many frames give this many outputs."""
        return 1 if self.one_shot else max(1, -(-outputs // self.keep))


def one_shot(line: Line, size: int, *, by_matrices: bool = False) -> Frames:
    """The whole axis in one frame, alias-minimal; right for this size only. ValueError if it has no outputs."""
    outputs = line.outputs(size)
    if outputs < 1:
        raise ValueError(f"an input of {size} with padding ({line.low}, {line.high}) has no window of {line.reach + 1}")
    start, low = max(0, -line.low), max(0, line.low)
    dense = line.stride * (outputs - 1) + 1
    end = min(line.extent(size), dense + line.reach - line.low)  # behind the last sample that any window reads
    samples = max(0, end - start)
    points = fast_size(max(samples + low, line.reach - low + dense, dense, 1), by_matrices=by_matrices)
    return Frames(points, samples, start, 0, -low, line.stride, outputs, 1, line.spread)


def tiled(line: Line, points: int, size: int | None = None) -> Frames:
    """Overlap-save tiles of so many points; right for every size. ValueError if a tile does not hold the window."""
    keep = (points - line.reach - 1) // line.stride + 1
    if points <= line.reach:
        raise ValueError(f"a tile of {points} points does not hold a window of {line.reach + 1}")
    if keep % line.spread and keep > line.spread:
        keep -= keep % line.spread  # frames begin at a sample, so that all are cut alike
    tiles = None if size is None else max(1, -(-line.outputs(size) // keep))
    return Frames(points, points, -line.low, keep * line.stride, 0, line.stride, keep, tiles, line.spread)


@lru_cache(maxsize=4096)
def fast_size(points: int, *, by_matrices: bool = False) -> int:
    """The next size at which transforms are fast.

    Of fast transforms (MKL) it is a power of two, or a multiple of 8 whose other factors are 3, 5 and 7. Measured: odd
    and twice odd sizes cost 1.4 to 2.2 times as much a point, primes 6 times. The cost of products with constant
    matrices grows with the size and knows no bad one.
    """
    if by_matrices or points <= 4:
        return points
    step = 2 if points <= 16 else 8
    size = -(-points // step) * step
    while not _is_smooth(size):
        size += step
    return size


def _is_smooth(size: int) -> bool:
    for factor in (2, 3, 5, 7):
        while size % factor == 0:
            size //= factor
    return size == 1


def line_of(reach: Shape, stride: Shape, padding: Pairs) -> tuple[Line, ...]:
    """The lines of a convolution, axis by axis."""
    return tuple(Line(r, s, low, high) for r, s, (low, high) in zip(reach, stride, padding, strict=True))


@dataclass(frozen=True)
class Plan:
    """A convolution by transforms: how each axis is cut."""

    axes: tuple[Frames, ...]

    @cached_property
    def points(self) -> Shape:
        """The transform size per axis."""
        return tuple(axis.points for axis in self.axes)

    @property
    def tiles(self) -> tuple[int | None, ...]:
        return tuple(axis.tiles for axis in self.axes)


def plan_one_shot(lines: Sequence[Line], sizes: Sequence[int], *, by_matrices: bool = False) -> Plan:
    """One frame for all, made for these sizes."""
    return Plan(tuple(one_shot(line, size, by_matrices=by_matrices) for line, size in zip(lines, sizes, strict=True)))
