"""One price for maps, used on both sides of every rewrite.

    price = MACs + 4 · bytes + 100,000 · operators

in multiply-accumulates. A core that does some 30 GMAC/s in float32 moves some 8 GB/s and needs a few microseconds to
start an operator; only the ratios matter. Bytes are those read (input, constants) and written (output). The same
function prices what is and what is proposed, at the shape of the example inputs, or at a nominal one if there is none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from fusekit.algebra import (
    Affine,
    BorderedConv,
    Combination,
    Composition,
    Conv,
    EdgePad,
    Flatten,
    Identity,
    Map,
    Mixing,
    Pad,
    Relaid,
    Selection,
    Shape,
    SpectralConv,
    Split,
    WinogradConv,
)
from fusekit.algebra.combination import preimage
from fusekit.errors import Inapplicable

BYTE = 4.0
OPERATOR = 100_000.0

# Each side of a ring is slices, pads, two small convolutions, a subtraction and a concatenation, beside the copies.
# Measured on small maps, one thread: 0.02 ms a side in ONNX Runtime, 0.16 ms in eager torch.
_OPERATORS_A_SIDE = {"onnxruntime": 7, "torch": 48}

# Multiply-accumulates a nanosecond of a direct convolution with a large kernel in its better memory layout, which one
# by transforms must beat: dense, depthwise; and of how many channels a vector is full: with one of 16 channels, such a
# convolution takes as long as with 16. Measured on 107 shapes, one thread of a core with AVX-512.
_DIRECT = {"torch": (60.0, 50.0), "onnxruntime": (50.0, 30.0)}
_LANES = {"torch": (16, 16), "onnxruntime": (16, 8)}
_DIRECT_3D = {"torch": (1.0, 1.0), "onnxruntime": (0.5, 0.15)}  # times that: ONNX Runtime has no kernels for it

# A depthwise convolution of one axis takes 1.3 to 6 times as long in ONNX Runtime as the same one of a plane.
_ONE_AXIS_DEPTHWISE = 3

_NOMINAL = {0: (), 1: (4096,), 2: (56, 56), 3: (16, 28, 28)}


@dataclass(frozen=True)
class Work:
    """What a map costs at one shape."""

    macs: int
    bytes: int
    operators: int

    def __add__(self, other: "Work") -> "Work":
        return Work(self.macs + other.macs, self.bytes + other.bytes, self.operators + other.operators)

    @property
    def price(self) -> float:
        return self.macs + BYTE * self.bytes + OPERATOR * self.operators


FREE = Work(0, 0, 0)


def work(value: Map, shape: Shape, itemsize: int, *, target: str = "torch") -> Work:
    """The work of one map on an input of this shape. A pad that the convolution cannot do itself is an operator of
    its own, and the convolution then reads the padded tensor."""
    if isinstance(value, Flatten):
        return FREE  # a view
    if isinstance(value, Split):  # views, where the channels of one image lie together; copies else
        views = target == "torch" and (len(shape) == value.conv.n + 1 or shape[0] == 1)
        copied = 0 if views else 2 * math.prod(value.output_shape(shape)) * itemsize
        return work(value.conv, shape, itemsize, target=target) + Work(0, copied, 1)
    if isinstance(value, Selection):
        copied = value.copied(shape, target) * itemsize
        return Work(0, copied, 1) if copied else FREE
    if isinstance(value, Relaid):
        return _work_relaid(value, shape, itemsize, target)
    if isinstance(value, SpectralConv):
        # its time is known better than the bytes it moves, most of which stay in the cache
        moved = (math.prod(shape) + math.prod(value.output_shape(shape))) * itemsize
        return Work(int(_direct_rate(value.conv, target) * value.nanoseconds(shape, itemsize, target)), moved, 1)
    if isinstance(value, WinogradConv):
        return _work_winograd(value, shape, itemsize, target)
    if isinstance(value, Conv) and not value.transposed and _pads_first(value, target):
        first, common = value.symmetric_padding()
        bare = replace(value, padding=tuple((amount, amount) for amount in common))
        padded = Pad(first).output_shape(shape)
        return work(Pad(first), shape, itemsize) + work(bare, padded, itemsize, target=target)
    moved = (math.prod(shape) + math.prod(value.output_shape(shape)) + _entries(value.constants())) * itemsize
    total = Work(value.macs(shape), moved, 1)
    if target == "onnxruntime" and isinstance(value, Conv) and value.n == 1 and value.groups == value.in_channels > 1:
        total = replace(total, macs=_ONE_AXIS_DEPTHWISE * total.macs)
    if isinstance(value, BorderedConv):
        sides = len(value.ring.sides)
        total = total + Work(0, value.copied(shape) * itemsize, _OPERATORS_A_SIDE[target] * sides)
    if isinstance(value, Mixing):  # with its blocks as an axis, and back
        copies = (value.reads_inner * math.prod(shape) + value.writes_inner * math.prod(value.output_shape(shape))) * 2
        total = total + Work(0, copies * itemsize, 2)
    if isinstance(value, EdgePad):  # a further stage cuts two ends and joins three parts, axis by axis
        further = (len(value.stages) - 1) * len(value.padding)
        total = total + Work(0, further * 2 * math.prod(value.output_shape(shape)) * itemsize, 3 * further)
    return total


def _direct_rate(conv: Conv, target: str) -> float:
    """Multiply-accumulates a nanosecond of the direct convolution."""
    kind = int(conv.groups == conv.in_channels)
    rate = _DIRECT[target][kind] * min(1.0, conv.out_channels / _LANES[target][kind])
    return rate * _DIRECT_3D[target][kind] if conv.n == 3 else rate


def _work_relaid(value: Relaid, shape: Shape, itemsize: int, target: str) -> Work:
    """The copies that channels last needs, and the better kernel that a depthwise convolution of one axis finds as one
    of a plane in ONNX Runtime; what layouts are worth otherwise, no formula knows."""
    conv = value.conv
    if target == "onnxruntime" and value.channels_last:
        raise Inapplicable("ONNX Runtime lays out its tensors itself")
    if value.channels_last and len(shape) != conv.n + 2:
        raise Inapplicable("channels can be last only behind a batch")
    plain = work(conv, shape, itemsize, target=target)
    if value.channels_last:
        copied = 2 * (math.prod(shape) + math.prod(value.output_shape(shape))) * itemsize
        return plain + Work(0, copied, 2)
    return replace(plain, macs=conv.macs(shape))


def _work_winograd(value: WinogradConv, shape: Shape, itemsize: int, target: str) -> Work:
    """The products and both mixings; the columns of the windows copied one by one and then together, the outputs once
    or twice. In PyTorch the copies take 2.5 times as long, and whole networks gained nothing."""
    if target == "torch":
        raise Inapplicable("in PyTorch the copies take what the products save")
    columns = value.cut_shape(shape)
    made = value.products.output_shape(columns)
    windows, outputs = math.prod(columns), math.prod(value.output_shape(shape))
    copied = (2 * math.prod(shape) + 3 * windows + 2 * outputs) * itemsize
    steps = ((value.before, columns), (value.products, columns), (value.after, made))
    works = (work(each, seen, itemsize, target=target) for each, seen in steps)
    return sum(works, Work(0, copied, value.algorithm.rank + 5))


def work_of(value: Map | Combination, shapes: Sequence[Shape], itemsize: int, *, target: str = "torch") -> Work:
    """The work of any proposal, on sources of these shapes."""
    if isinstance(value, Combination):
        terms = (work_of(term.map, [shapes[term.source]], itemsize, target=target) for term in value.terms)
        total = sum(terms, joint(value, shapes, itemsize) if len(value.terms) > 1 else FREE)
        return total + work_of(value.after, [value.joint_shape(*shapes)], itemsize, target=target)
    maps = [m for m in (value.maps if isinstance(value, Composition) else (value,)) if not isinstance(m, Identity)]
    return sum(work_of_chain(tuple(maps), shapes[0], itemsize, target=target), FREE)


def joint(value: Combination, shapes: Sequence[Shape], itemsize: int) -> Work:
    """Adding branches reads two tensors and writes one, each time; concatenating reads and writes everything once."""
    entries, count = math.prod(value.joint_shape(*shapes)), len(value.terms) - 1
    if value.axis is None:
        return Work(0, 3 * count * entries * itemsize, count)
    return Work(0, 2 * entries * itemsize, 1)


def _pads_first(conv: Conv, target: str) -> bool:
    """torch pads both sides of an axis alike; ONNX convolutions pad each side on its own, but do not crop."""
    first, _ = conv.symmetric_padding()
    return any(low < 0 or high < 0 or (target == "torch" and low != high) for low, high in first)


def work_of_chain(maps: tuple[Map, ...], shape: Shape, itemsize: int, *, target: str = "torch") -> list[Work]:
    """The work of each map of outer ∘ ... ∘ inner, in the order given (outer first)."""
    works: list[Work] = []
    inner_first = maps[::-1]
    joined: Conv | None = None
    for value, outer in zip(inner_first, (*inner_first[1:], None), strict=False):
        value, joined = joined or value, _joined(outer, value, target)
        works.append(FREE if joined else work(value, shape, itemsize, target=target))
        shape = shape if joined else value.output_shape(shape)
    return works[::-1]


def _joined(outer: Map | None, inner: Map, target: str) -> Conv | None:
    """outer @ inner if the runtime joins this pad to the convolution behind it by itself.

    A pad that differs between the sides is always written as an operator of its own (`view.write`): if joining it
    lowered the price, the driver would join it for ever.
    """
    if target == "torch" or not isinstance(inner, Pad) or not isinstance(outer, Conv):
        return None
    try:
        joined = outer @ inner
    except Inapplicable:
        return None
    differs = any(low != high for low, high in joined.padding)
    return joined if differs and not _pads_first(joined, target) else None


def nominal_shape(maps: tuple[Map, ...]) -> Shape | None:
    """An input shape for a chain (outer first) whose real one is unknown: batch 1 and a usual size, or as many times
    larger as the windows need; None if the chain says nothing about its channels."""
    flat = flat_sizes(maps)
    for value in reversed(maps):
        if isinstance(value, Conv):
            if flat is not None:
                return preimage(Composition((value,)), (1, value.in_channels, *flat), flat)
            shape: Shape = (1, value.in_channels, *_NOMINAL[value.n])
            while not _fits(maps, shape):
                shape = (*shape[:2], *(2 * size for size in shape[2:]))
            return shape
        if isinstance(value, Affine) and value.axis is not None and value.channels is not None:
            return (1, value.channels, *_NOMINAL[-value.axis - 1])
    return None


def flat_sizes(maps: tuple[Map, ...]) -> Shape | None:
    """The spatial sizes that a chain `linear ∘ flatten ∘ conv` (outer first) must have before it is flattened:
    the fixed ones, or all positions on the last axis."""
    for outer, value, inner in zip(maps, maps[1:], maps[2:], strict=False):
        if isinstance(value, Flatten) and isinstance(outer, Conv) and isinstance(inner, Conv):
            return value.sizes or (*(1,) * (inner.n - 1), outer.in_channels // inner.out_channels)
    return None


def nominal_shapes(whole: Combination, outer: tuple[Map, ...] = ()) -> list[Shape] | None:
    """Shapes for the sources of a sum or concatenation, and what stands behind it, whose real ones are unknown; None if
    no branch says anything about its channels."""
    chains = [nominal_shape(term.map.maps) for term in whole.terms]
    if not any(chains):
        return None
    channels = next((value.in_channels for value in outer if isinstance(value, Conv)), None)
    return whole.source_shapes(max(shape for shape in chains if shape is not None), channels)


def _fits(maps: tuple[Map, ...], shape: Shape) -> bool:
    """Every map of the chain has an output."""
    for value in reversed(maps):
        shape = value.output_shape(shape)
        if any(size < 1 for size in shape[2:]):
            return False
    return True


def _entries(constants: tuple[Tensor, ...]) -> int:
    return sum(constant.numel() for constant in constants)
