"""What a plan costs, from shapes alone; and, of all plans, the one that costs least.

    transforms    2.5 P log2 P flops each, one a frame and channel, in and out        P: points of a frame
    mixing        8 flops a bin and pair of channels, P / 2 bins
    bytes         input, output and frames once; the kernel's spectrum, 4 P a pair of channels, once a block

`nanoseconds` is what all this takes in torch, on one thread (measured: torch 2.13, MKL, a server core with AVX-512;
fitted to 935 random plans of 1 to 3 axes, half of the predictions within 20 %, four fifths within 1.7 times; two
axes and streaming corrected upwards on 25 layers more):

    a point, transformed there or back     0.6, 2.0, 3.7 ns on 1, 2, 3 axes, and 0.08 ns more a level
                                           (1.08 ns for those above 15, where a frame no longer fits the cache)
    on 1 axis, c transforms at once        1 + 3 / c times that: MKL computes some sixteen side by side; a single one
                                           of more than 8,192 points 8 times
    a product of bins                      1.1 ns one by one, 0.15 ns in matrix products
    a bin transposed for these             3.9 ns
    a byte of spectrum streamed            0.14 ns
    a block                                0.1 ms
    cutting into tiles                     0.04 ms
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from fusekit.algebra.map import Shape
from fusekit.algebra.transforms.spectral import Frames, Line, Plan, fast_size, one_shot, tiled
from fusekit.algebra.transforms.transform import Transform

_POINT = {1: 0.6, 2: 2.0, 3: 3.7}
_LEVEL = 0.08
_CACHED_LEVELS = 15
_PRODUCT, _PRODUCT_IN_MATRICES, _TRANSPOSED = 1.1, 0.15, 3.9
_BLOCK_NS = 100_000.0
_CUT_NS = 40_000.0
_ALONE, _ALONE_POINTS = 2.0, 8192
_BYTE_NS = 0.14


@dataclass(frozen=True)
class Effort:
    """Work of a convolution by transforms: what is computed and moved, and the time it takes."""

    flops: int
    bytes: int
    nanoseconds: float


def effort(transform: Transform, batch: int, tiles: int, itemsize: int = 4, *, is_complex: bool = False) -> Effort:
    """The work on `batch` images of `tiles` frames each, the spectrum of the kernel being at hand."""
    points, n = math.prod(transform.plan.points), len(transform.plan.axes)
    frames, factor = batch * tiles, 2 if is_complex else 1
    channels = transform.groups * (transform.inputs + transform.outputs)
    pairs = transform.groups * transform.inputs * transform.outputs
    levels = math.log2(max(2, points))
    samples, bins = factor * frames * channels * points, factor * frames * points // 2
    blocks = transform.blocks(batch, tiles)
    spectrum = factor * pairs * points * itemsize
    streamed = spectrum * max(1, blocks // transform.groups)
    point = _POINT[n] + _LEVEL * levels + max(0.0, levels - _CACHED_LEVELS)
    if n == 1:
        at_once = max(1.0, frames * channels / 2 / blocks)
        point *= 1 + 3 / at_once
        if at_once == 1 and points > _ALONE_POINTS:
            point *= _ALONE
    nanoseconds = samples * point + blocks * _BLOCK_NS + streamed * _BYTE_NS
    if not all(axis.one_shot for axis in transform.plan.axes):
        nanoseconds += _CUT_NS
    if transform.by_matrices:
        nanoseconds += bins * (pairs * _PRODUCT_IN_MATRICES + channels * _TRANSPOSED)
    else:
        nanoseconds += bins * pairs * _PRODUCT
    flops = int(2.5 * samples * levels) + 8 * bins * pairs
    return Effort(flops, samples * itemsize + streamed, nanoseconds * itemsize / 4)


@lru_cache(maxsize=1024)
def choose(
    lines: tuple[Line, ...],
    sizes: Shape,
    batch: int,
    channels: tuple[int, int, int],
) -> Plan:
    """The plan of least effort: one shot, or on any axes tiles. `channels`: groups, outputs and inputs of each."""

    def time(plan: Plan) -> float:
        return effort(Transform(plan, *channels), batch, math.prod(axis.tiles or 1 for axis in plan.axes)).nanoseconds

    best = Plan(tuple(one_shot(line, size) for line, size in zip(lines, sizes, strict=True)))
    for i, (line, size) in enumerate(zip(lines, sizes, strict=True)):
        candidates = (Plan((*best.axes[:i], axis, *best.axes[i + 1 :])) for axis in _tilings(line, size))
        best = min((best, *candidates), key=time)
    return best


def _tilings(line: Line, size: int) -> Iterator[Frames]:
    """Tiles from just above the window to the whole, powers of two and one and a half times these; halves, thirds and
    quarters of the outputs, which one axis alone prefers to the whole."""
    whole, outputs = one_shot(line, size).points, line.outputs(size)
    for parts in (2, 3, 4):
        if outputs >= parts * line.stride:
            yield tiled(line, fast_size(line.reach + -(-outputs // parts)), size)
    points = 1 << max(4, (line.reach + 1).bit_length())
    while points < whole:
        for candidate in (points, fast_size(points + points // 2)):
            if line.reach < candidate < whole:
                yield tiled(line, candidate, size)
        points *= 2
