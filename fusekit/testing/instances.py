"""Instances of patterns: rows of maps, each with an input, as a pass may get them."""

import math
import operator
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra import (
    Affine,
    Conv,
    Cut,
    EdgePad,
    Elementwise,
    Identity,
    Map,
    Mixing,
    Nearest,
    Normalization,
    Pad,
    Picking,
    SpaceToDepth,
    ValuePad,
)
from fusekit.algebra.factor import factored
from fusekit.algebra.kernel import coarsen
from fusekit.algebra.pool import AvgPool
from fusekit.algebra.products.product_conv import algebra_of, without_zero_blocks
from fusekit.algebra.rearrange import Flatten, GlobalMean, MergeLeading, Permute, PixelShuffle
from fusekit.rewriting.pattern import Compose, Having, Row, Siblings
from fusekit.testing.strategies import affines, convs, forks, gaussian, inputs_of, pads
from fusekit.testing.structured import over_algebras, partial, products, sparse

aten = torch.ops.aten


@st.composite
def chains(draw: st.DrawFn, kinds: tuple[type[Map], ...]) -> tuple[tuple[Map, ...], Tensor]:
    """Maps of these kinds (outermost first) that can be composed, and an input on which all of them are defined."""
    n = draw(
        st.integers(
            1 if {Pad, ValuePad, AvgPool, Cut, GlobalMean} & set(kinds) else 0,
            3 if len(kinds) < 2 or Conv not in kinds[1:] else 2,
        )
    )
    channels = inputs = draw(st.sampled_from((2, 3, 4, 6)))
    sizes, stride = [1] * n, [1] * n
    inner_first: list[Map] = []
    for kind in reversed(kinds):
        if kind is Conv:
            bare = ValuePad in kinds and draw(st.integers(0, 3)) > 0
            # where a value may turn out to be 0, a transposed one is refused before the value is known
            transposed = draw(st.sampled_from((False, False, False, None))) if ValuePad not in kinds else False
            conv = draw(convs(n=n, in_channels=channels, transposed=transposed, padded=not bare))
            channels = conv.out_channels
            inner_first.append(conv)
            sizes = [s + t * (r + 1) for s, t, r in zip(sizes, stride, conv.reach, strict=True)]
            stride = [t * (1 if conv.transposed else s) for t, s in zip(stride, conv.stride, strict=True)]
        elif kind is Affine:
            inner_first.append(draw(affines(channels, draw(st.sampled_from((-n - 1,) * 5 + (-1,))) if n else -1)))
        elif kind is Pad:
            inner_first.append(draw(pads(n)))
            sizes = [s + 2 for s in sizes]  # it may crop one on each side
        elif kind is AvgPool:
            window = tuple(draw(st.integers(1, 3)) for _ in range(n))
            steps = tuple(draw(st.integers(1, 3)) for _ in range(n))
            inner_first.append(AvgPool(window, steps, tuple(draw(st.integers(0, k // 2)) for k in window)))
            sizes = [s + t * k for s, t, k in zip(sizes, stride, window, strict=True)]
            stride = [t * s for t, s in zip(stride, steps, strict=True)]
        elif kind is Cut:
            crop = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(n))
            every = tuple(draw(st.integers(1, 3)) for _ in range(n))
            inner_first.append(Cut(crop, every))
            sizes = [s + t * sum(pair) for s, t, pair in zip(sizes, stride, crop, strict=True)]
            stride = [t * s for t, s in zip(stride, every, strict=True)]
            sizes = [s + t for s, t in zip(sizes, stride, strict=True)]
        elif kind is ValuePad:
            shifts = (m.shift if isinstance(m, Affine) else m.bias for m in inner_first if isinstance(m, Affine | Conv))
            shift = next((shift.flatten() for shift in shifts if shift is not None), torch.zeros(1))
            of_zero = draw(st.booleans())  # at least in the first channel
            amounts = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(n))
            value: float | Tensor = float(shift[0]) if of_zero else draw(st.floats(-3, 3))
            if draw(st.booleans()):  # for each channel
                value = shift.expand(channels) if of_zero and len(shift) in (1, channels) else gaussian(draw, channels)
            inner_first.append(ValuePad(amounts, value))
        elif kind is Normalization:
            weight, bias = gaussian(draw, channels), gaussian(draw, channels) if draw(st.booleans()) else None
            group = n > 0 or draw(st.booleans())
            word = "group" if group else draw(st.sampled_from(("layer", "rms")))
            inner_first.append(Normalization(word, channels, 0.1, weight, None if word == "rms" else bias, 1, n))
        elif kind is Picking:
            picked = tuple(draw(st.lists(st.integers(0, channels - 1), min_size=1, max_size=6)))
            inner_first.append(Picking(picked, channels, n))
            channels = len(picked)
        elif kind is GlobalMean:
            inner_first.append(GlobalMean(n, draw(st.booleans())))
        elif kind is Identity:
            inner_first.append(Identity())
        else:
            raise AssertionError(f"no way to draw a {kind.__name__} yet")
    spatial = [size + draw(st.integers(0, 3)) for size in sizes]
    if any(isinstance(m, Affine) and m.axis not in (None, -n - 1) for m in inner_first):
        spatial = [channels] * n if len(kinds) == 1 else spatial
    leading = [draw(st.integers(1, 3))] if n or draw(st.booleans()) else []
    return tuple(reversed(inner_first)), gaussian(draw, *leading, inputs, *spatial)


@st.composite
def rearranged(draw: st.DrawFn, kinds: tuple[type[Map], ...]) -> tuple[tuple[Map, ...], Tensor]:
    """A convolution, a rearrangement or mean of its output, and perhaps a map after that. Mostly pointwise, because few
    others can be moved through."""
    n = 2 if PixelShuffle in kinds else draw(st.integers(1, 2))
    times = 4 if PixelShuffle in kinds else 1
    if MergeLeading in kinds:
        linear = draw(convs(n=0))
        leading = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(1, 3)))]
        affine = draw(affines(linear.out_channels, draw(st.sampled_from((-1, -1, -2)))))
        kept = draw(st.integers(1, len(leading)))
        return (affine, MergeLeading(kept), linear), gaussian(draw, *leading, linear.in_channels)
    if kinds[-1] is Affine:
        x = gaussian(draw, 2, channels := draw(st.integers(1, 3)), *(draw(st.integers(1, 4)) for _ in range(n)))
        flatten = Flatten(tuple(x.shape[2:]) if draw(st.booleans()) else None)
        linear = draw(convs(n=0, in_channels=math.prod(x.shape[1:])))
        return (linear, flatten, draw(affines(channels, -n - 1))), x
    inner = draw(convs(n=n, out_channels=times * draw(st.integers(1, 3))))
    if draw(st.booleans()):
        inner = Conv.from_torch(gaussian(draw, inner.out_channels, 3, *(1,) * n), inner.bias)
    x = draw(inputs_of(inner))
    flatten = Flatten(tuple(inner(x).shape[2:]) if draw(st.booleans()) else None)
    mean = GlobalMean(n, draw(st.booleans()))
    middle: Any = {PixelShuffle: PixelShuffle(2, draw(st.booleans())), Flatten: flatten, GlobalMean: mean}[kinds[-2]]
    if len(kinds) == 2:
        return (middle, inner), x
    channels = middle(inner(x)).shape[1]
    if kinds[0] is Affine:
        return (draw(affines(channels, -n - 1)), middle, inner), x
    if kinds[-2] is Flatten:
        return (draw(convs(n=0, in_channels=channels)), middle, inner), x
    outer = draw(convs(n=n, in_channels=channels))
    if draw(st.integers(0, 3)):
        outer = Conv.from_torch(gaussian(draw, 3, channels, *(1,) * n), gaussian(draw, 3))
    return (outer, middle, inner), x


@st.composite
def permuted(draw: st.DrawFn, kinds: tuple[type[Map], ...]) -> tuple[tuple[Map, ...], Tensor]:
    """Maps before and behind an order of the axes, which mostly moves the channels last."""
    n = draw(st.integers(1, 3))
    rank = n + 2
    last = (0, *range(2, rank), 1)
    free = draw(st.integers(0, 3)) == 0
    order = Permute(tuple(draw(st.permutations(range(rank)))) if free else last)
    if kinds == (Conv, Permute):
        first = Permute((0, rank - 1, *range(1, rank - 1)))
        dense = draw(convs(n=n))
        if draw(st.integers(0, 3)):
            dense = replace(dense, kernel=coarsen(dense.kernel, 1), dilation=(*dense.dilation[:-1], 1))
        return (dense, order if free else first), draw(inputs_of(dense)).movedim(1, -1)
    if kinds == (Permute, Permute):
        back = tuple(draw(st.permutations(range(rank)))) if free else (0, rank - 1, *range(1, rank - 1))
        return (Permute(back), order), gaussian(draw, *range(1, rank + 1))
    if kinds[0] is Permute:
        linear = draw(convs(n=0))
        back = (0, rank - 1, *range(1, rank - 1))
        return (Permute(back), linear, order), gaussian(draw, 2, linear.in_channels, *range(2, rank))
    if kinds[0] is Affine:
        inner = draw(convs(n=n, transposed=None))
        x = draw(inputs_of(inner))
        made = order(inner(x))
        axis = draw(st.sampled_from((-1, -1, -2)))
        return (draw(affines(made.shape[axis], axis)), order, inner), x
    before: Any = draw(convs(n=n, transposed=None))
    if kinds[2] is Conv:
        x = draw(inputs_of(before))
    else:
        x = gaussian(draw, 2, 3, *range(2, rank))
        axis = draw(st.sampled_from((-n - 1, -n - 1, -1)))
        before = draw(affines(x.shape[axis], axis))
    return (draw(convs(n=0, in_channels=order(before(x)).shape[-1])), order, before), x


@st.composite
def resampled(draw: st.DrawFn, kinds: tuple[type[Map], ...]) -> tuple[tuple[Map, ...], Tensor]:
    """A map behind an upsampling that repeats entries, or behind blocks of positions; a convolution is pointwise or of
    stride 1 in most cases."""
    n = 2 if SpaceToDepth in kinds else draw(st.integers(1, 3))
    channels = draw(st.integers(1, 4))
    size = st.integers(1, 4).map(lambda half: 2 * half) if SpaceToDepth in kinds else st.integers(2, 7)
    x = gaussian(draw, draw(st.integers(1, 2)), channels, *(draw(size) for _ in range(n)))
    blocks = SpaceToDepth(2, draw(st.booleans()))
    before = blocks if SpaceToDepth in kinds else Nearest(tuple(draw(st.integers(1, 3)) for _ in range(n)))
    if kinds[0] is Affine:
        return (draw(affines(channels, draw(st.sampled_from((-n - 1, -n - 1, -1))))), before), x
    conv = draw(convs(n=n, in_channels=before(x).shape[1]))
    kind = draw(st.sampled_from(("pointwise", "same", "same", "any")))
    if kind == "pointwise":
        conv = Conv.from_torch(gaussian(draw, 3, conv.in_channels, *(1,) * n), gaussian(draw, 3))
    elif kind == "same" and before is not blocks:
        padding = tuple((draw(st.integers(0, reach)), draw(st.integers(0, reach))) for reach in conv.reach)
        conv = replace(conv, stride=(1,) * n, padding=padding)
    return (conv, before), x


@st.composite
def edged(draw: st.DrawFn, kinds: tuple[type[Map], ...]) -> tuple[tuple[Map, ...], Tensor]:
    """A convolution after padding that repeats values, and a map before that. The map is mostly of a kind that can be
    moved through the padding."""
    n = draw(st.integers(1, 2))
    outer = draw(convs(n=n, padded=draw(st.integers(0, 3)) == 0))
    mode = draw(st.sampled_from(("circular", "reflect", "replicate")))
    pad = EdgePad(mode, (tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(n)),))
    spatial = [max(3, reach + 1) + draw(st.integers(0, 3)) for reach in outer.reach]
    if kinds[2] is Affine:
        x = gaussian(draw, 2, outer.in_channels, *spatial)
        return (outer, pad, draw(affines(outer.in_channels, -n - 1))), x
    inner = draw(convs(n=n, out_channels=outer.in_channels, padded=False, stride=(1,) * n))
    if len(kinds) == 3:
        if draw(st.booleans()):
            inner = Conv.from_torch(gaussian(draw, outer.in_channels, 2, *(1,) * n), inner.bias)
        return (outer, pad, inner), gaussian(draw, 2, inner.in_channels, *map(operator.add, spatial, inner.reach))
    low = [draw(st.integers(0, reach)) for reach in inner.reach]
    first = EdgePad("circular", (tuple((p, reach - p) for p, reach in zip(low, inner.reach, strict=True)),))
    spatial = [max(size, reach) for size, reach in zip(spatial, inner.reach, strict=True)]
    return (outer, replace(pad, mode="circular"), inner, first), gaussian(draw, 2, inner.in_channels, *spatial)


@st.composite
def pruned(draw: st.DrawFn, kinds: tuple[type[Map], ...]) -> tuple[tuple[Map, ...], Tensor]:
    """Two convolutions with many channels between them, some of which are masked on either side; perhaps with a
    function between them."""
    n, channels = draw(st.integers(0, 2)), draw(st.sampled_from((9, 16, 20)))
    inner = draw(convs(n=n, in_channels=draw(st.integers(1, 2)), out_channels=channels))
    outer = draw(convs(n=n, in_channels=channels, out_channels=2, transposed=draw(st.sampled_from((False, None)))))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    mute, unread = (torch.rand(channels, generator=generator) < draw(st.sampled_from((0.1, 0.7))) for _ in range(2))
    bias = gaussian(draw, channels) * (~mute if draw(st.booleans()) else torch.ones(channels))
    inner = replace(inner, kernel=coarsen(inner.kernel, 1), bias=bias)
    inner.kernel[:, mute] = 0
    outer = replace(outer, kernel=coarsen(outer.kernel, 1))
    outer.kernel[:, :, unread] = 0
    functions = (Elementwise(torch.relu), Elementwise(torch.sigmoid), Elementwise(F.leaky_relu, (0.1,)))
    between = (draw(st.sampled_from(functions)),) if len(kinds) == 3 else ()
    return (outer, *between, inner), draw(inputs_of(inner, outer))


@st.composite
def short_windows(draw: st.DrawFn) -> tuple[tuple[Map, ...], Tensor]:
    """A convolution with one to three taps on its last axis; stride and dilation there are mostly 1."""
    like = draw(convs(n=draw(st.integers(1, 3)), transposed=draw(st.sampled_from((False, False, False, None)))))
    if draw(st.integers(0, 5)) and not like.transposed:
        like = replace(like, kernel=coarsen(like.kernel, 1))
        like = replace(like, stride=(*like.stride[:-1], 1), dilation=(*like.dilation[:-1], 1))
    return (like,), draw(inputs_of(like))


@st.composite
def mixings(draw: st.DrawFn) -> tuple[tuple[Map, ...], Tensor]:
    """Two mixings of blocks, with biases and layouts, that can mostly be composed."""
    n, channels = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    read, written, last = (draw(st.integers(1, 4)) for _ in range(3))
    between = draw(st.booleans())

    def mixing(out: int, inputs: int, reads_inner: bool, writes_inner: bool) -> Mixing:
        bias = gaussian(draw, out * channels) if draw(st.booleans()) else None
        return Mixing(gaussian(draw, out, inputs), n, bias, reads_inner, writes_inner)

    inner = mixing(written, read, draw(st.booleans()), between)
    outer = mixing(last, written, between != (draw(st.integers(0, 5)) == 0), draw(st.booleans()))
    leading = [draw(st.integers(0, 2)) for _ in range(draw(st.integers(0, 2)))]
    return (outer, inner), gaussian(draw, *leading, read * channels, *(draw(st.integers(1, 3)) for _ in range(n)))


def instances(pattern: Any) -> st.SearchStrategy[tuple[tuple[Map, ...], Tensor]]:
    """Chains of maps that match the pattern, each with an input."""
    if isinstance(pattern, Having):
        strategies: dict[Any, Any] = {factored: products(), algebra_of: over_algebras(), without_zero_blocks: partial()}
        chosen: st.SearchStrategy[tuple[Conv, Tensor]] = strategies.get(pattern.law, sparse())
        return chosen.map(lambda drawn: ((drawn[0],), drawn[1]))
    if isinstance(pattern, Siblings):
        return forks().map(lambda drawn: ((drawn[0],), drawn[1]))
    if isinstance(pattern, Row):
        return st.integers(2, 3).flatmap(lambda count: chains((pattern.kind,) * count))
    assert isinstance(pattern, Compose), f"{type(pattern).__name__} has no instances to draw yet"
    if pattern.when is not None and pattern.when.__name__ == "_has_dead_channels":
        return pruned(pattern.kinds)
    if pattern.when is not None and pattern.when.__name__ == "_is_wide":
        return short_windows()
    if Mixing in pattern.kinds:
        return mixings()
    if Permute in pattern.kinds:
        return permuted(pattern.kinds)
    if EdgePad in pattern.kinds:
        return edged(pattern.kinds)
    if {Nearest, SpaceToDepth} & set(pattern.kinds):
        return resampled(pattern.kinds)
    special = {PixelShuffle, GlobalMean, Flatten, MergeLeading} & set(pattern.kinds) and pattern.kinds != (
        GlobalMean,
        Affine,
    )
    return rearranged(pattern.kinds) if special else chains(pattern.kinds)
