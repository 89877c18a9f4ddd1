"""What a map costs, and how whoever runs it runs it: one price, used on both sides of every rewrite.

    price = MACs + 4 · bytes + 100,000 · operators

in multiply-accumulates. A core that does some 30 GMAC/s in float32 moves some 8 GB/s and needs a few microseconds to
start an operator; only the ratios matter. Bytes are those read (input, constants) and written (output).
"""

from dataclasses import dataclass

BYTE = 4.0
OPERATOR = 100_000.0


@dataclass(frozen=True)
class Work:
    """What a map costs at one shape: multiply-accumulates (`macs`), `bytes` read and written, `operators` started."""

    macs: int
    bytes: int
    operators: int

    def __add__(self, other: "Work") -> "Work":
        return Work(self.macs + other.macs, self.bytes + other.bytes, self.operators + other.operators)

    @property
    def price(self) -> float:
        """In multiply-accumulates."""
        return self.macs + BYTE * self.bytes + OPERATOR * self.operators


FREE = Work(0, 0, 0)


@dataclass(frozen=True)
class Rates:
    """How a runtime runs linear operators, as far as a price depends on it. The defaults are those of a library that
    calls one operator after the other; each runtime brings its own.

    Args:
        direct: multiply-accumulates a nanosecond, on one thread, of a direct convolution with a large kernel in its
            better memory layout, which one by transforms must beat: dense, depthwise.
        lanes: the channels that fill a vector: with 1 of 16 channels, such a convolution takes as long as with 16.
        volumes: `direct` times this for convolutions of three axes.
        line_depthwise: how many times as long a depthwise convolution of one axis takes as the same one of a plane.
        ring_side: operators that each side of a ring at the border counts as.
        pads_each_side: a convolution pads each side of an axis on its own, and takes in a pad that stands before it.
        copies_slices: a slice of channels is copied; else it is a view.
        scales_norms: a layer or group norm always scales; one that has no scale is given ones when it runs.
        owns_layout: the runtime lays its tensors out itself, and nobody else can.
        sums_columns: a transposed convolution writes all its products, and then adds up those that meet.
        by_matrices: Fourier transforms are products with constant matrices; else the runtime has fast ones.
        fast_windows: what Winograd's filters save is more than the copies of their windows cost.
        batched_rows: with more rows than this, calls of a recurrent layer are as fast one by one as in one batch.
    """

    direct: tuple[float, float] = (60.0, 50.0)
    lanes: tuple[int, int] = (16, 16)
    volumes: tuple[float, float] = (1.0, 1.0)
    line_depthwise: int = 1
    ring_side: int = 48
    pads_each_side: bool = False
    copies_slices: bool = False
    scales_norms: bool = False
    owns_layout: bool = False
    sums_columns: bool = False
    by_matrices: bool = False
    fast_windows: bool = False
    batched_rows: float = float("inf")

    def direct_rate(self, axes: int, channels: int, *, depthwise: bool) -> float:
        """Multiply-accumulates a nanosecond of a direct convolution on so many `axes`, with so many output `channels`;
        `depthwise`: each from one input channel."""
        kind = int(depthwise)
        rate = self.direct[kind] * min(1.0, channels / self.lanes[kind])
        return rate * self.volumes[kind] if axes == 3 else rate


EAGER = Rates()  # one operator after the other
