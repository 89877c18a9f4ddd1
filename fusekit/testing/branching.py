"""Branches of maps and small expressions, each with its inputs, as a pass may get them."""

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra import (
    Affine,
    Combination,
    Conv,
    Cut,
    Elementwise,
    Map,
    Pad,
    Selection,
)
from fusekit.algebra.combination import Term
from fusekit.algebra.composition import Composition
from fusekit.ir import Graph
from fusekit.rewriting.pattern import Expression, Match
from fusekit.testing.strategies import affines, convs, gaussian

aten = torch.ops.aten


def _of_each_channel(draw: st.DrawFn, channels: int, n: int) -> Composition:
    """The identity, or one or two maps of each channel."""
    return Composition(tuple(draw(affines(channels, -n - 1)) for _ in range(draw(st.integers(0, 2)))))


@st.composite
def branches(draw: st.DrawFn, *, concat: bool) -> tuple[Combination, list[Tensor]]:
    """Branches with equal output sizes on a first source: convolutions, chains of two, per-channel maps, the identity.
    Sometimes one branch has another source."""
    n, channels = draw(st.integers(0, 2)), draw(st.sampled_from((2, 4)))

    def same_size(outputs: int | None = None) -> Conv:
        conv = draw(convs(n=n, in_channels=channels, out_channels=outputs, padded=False, stride=(1,) * n))
        low = [draw(st.integers(0, reach)) for reach in conv.reach]
        return replace(conv, padding=tuple((p, reach - p) for p, reach in zip(low, conv.reach, strict=True)))

    def branch() -> Composition:
        kind = draw(st.sampled_from(("conv", "conv", "conv", "chain", "affine", "identity")))
        if concat or kind == "conv":
            return Composition((same_size(None if concat else channels),))
        if kind == "chain":
            return Composition((draw(affines(channels, -n - 1)), same_size(channels)))
        return Composition((draw(affines(channels, -n - 1)),) if kind == "affine" else ())

    if not concat and draw(st.integers(0, 4)) == 0:  # nothing but maps of each channel
        of_channel = Affine(gaussian(draw, channels), gaussian(draw, channels), -n - 1)
        others = [_of_each_channel(draw, channels, n) for _ in range(draw(st.integers(1, 2)))]
        chains = [Composition((of_channel,)), *others]
        return Combination(tuple(Term(0, each) for each in chains)), [gaussian(draw, 2, channels, *(3,) * n)]
    terms = [Term(0, Composition((same_size(None if concat else channels),)))]
    if n and not concat and draw(st.integers(0, 3)) == 0:  # a crop beside what does not pad
        first: Conv = terms[0].map.maps[0]
        low = [draw(st.integers(0, reach)) for reach in first.reach]
        crop = tuple((p, reach - p) for p, reach in zip(low, first.reach, strict=True))
        cut: Map = Cut(crop, (1,) * n) if draw(st.booleans()) else Pad(tuple((-a, -b) for a, b in crop))
        ends = (draw(affines(channels, -n - 1)),) if draw(st.booleans()) else ()
        terms = [Term(0, Composition((replace(first, padding=((0, 0),) * n),))), Term(0, Composition((*ends, cut)))]
        return Combination(tuple(terms)), [gaussian(draw, 2, channels, *(draw(st.integers(7, 9)) for _ in range(n)))]
    terms += [Term(0, branch()) for _ in range(draw(st.integers(1, 3)))]
    sizes = [draw(st.integers(7, 9)) for _ in range(n)]
    sources = [gaussian(draw, 2, channels, *sizes)]
    if draw(st.booleans()):
        terms.insert(draw(st.integers(1, len(terms))), Term(1, Composition(())))
        sources.append(gaussian(draw, 2, channels, *sizes))
    return Combination(tuple(terms), -n - 1 if concat else None), sources


@st.composite
def after_concats(draw: st.DrawFn, kind: type[Map]) -> tuple[Affine | Conv, Combination, list[Tensor]]:
    """A per-channel map after a concatenation of convolutions; or a convolution after a concatenation that also has
    other parts."""
    whole, sources = draw(branches(concat=True))
    if kind is Conv:
        value = whole(*sources)
        axis: Any = whole.axis
        padded = draw(st.integers(0, 3)) == 0
        return draw(convs(n=-1 - axis, in_channels=value.shape[axis], padded=padded)), whole, sources
    terms = tuple(term for term in whole.terms if term.source == 0)
    channels = sum(term.map.maps[0].out_channels for term in terms)
    axis = whole.axis
    return draw(affines(channels, axis)), Combination(terms, axis), sources[:1]


@st.composite
def parts_of(draw: st.DrawFn) -> tuple[Combination, list[Tensor]]:
    """A concatenation whose parts are sums of maps of parts: of one tensor, perhaps from a convolution, or of
    several."""
    n, width = draw(st.integers(0, 2)), draw(st.integers(1, 2))
    count, places = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    total = width * draw(st.integers(1, 3))
    before = draw(convs(n=n, in_channels=2, out_channels=total, transposed=None)) if draw(st.booleans()) else None
    kind = draw(st.sampled_from(("affine", "pointwise", "conv")))
    like = draw(convs(n=n, in_channels=width, out_channels=width, stride=(1,) * n, padded=kind == "conv"))

    def path(place: int) -> tuple[Any, ...]:
        start = width * draw(st.integers(0, total // width - 1))
        select = Selection(start, width, total, n)
        kernel = gaussian(draw, *like.kernel.shape)
        pointwise = Conv.from_torch(gaussian(draw, width, width, *(1,) * n), gaussian(draw, width))
        between = {"affine": draw(affines(width, -n - 1)), "pointwise": pointwise, "conv": replace(like, kernel=kernel)}
        maps = (Selection(width * place, width, width * places, n, places=True), between[kind], select)
        return maps if before is None else (*maps, before)

    paths = [(source, path(place)) for place in range(places) for source in range(count)]
    terms = tuple(Term(source, Composition(maps)) for source, maps in paths)
    size = [reach + 1 + draw(st.integers(0, 2)) for reach in like.reach]
    if before is not None:
        size = [k * s + reach for k, s, reach in zip(size, before.stride, before.reach, strict=True)]
    sources = [gaussian(draw, 2, total if before is None else 2, *size) for _ in range(count)]
    return Combination(terms), sources


@st.composite
def alike_parts(draw: st.DrawFn) -> tuple[Combination, list[Tensor]]:
    """The same function applied to several tensors."""
    n = draw(st.integers(0, 3))
    function = draw(st.sampled_from((Elementwise(torch.relu), Elementwise(torch.tanh), Elementwise(F.elu, (0.5,)))))
    widths = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(2, 4)))]
    sizes = [draw(st.integers(1, 4)) for _ in range(n)]
    sources = [gaussian(draw, 2, width, *sizes) for width in widths]
    terms = tuple(Term(k, Composition((function,))) for k in range(len(widths)))
    return Combination(terms, -n - 1), sources


_UNARY = (aten.neg.default, aten.exp.default, aten.abs.default, aten.tanh.default)
_BINARY = (aten.add.Tensor, aten.mul.Tensor, aten.sub.Tensor)


@st.composite
def expressions(draw: st.DrawFn) -> tuple[Graph, Match]:
    """An expression of a few constants, read by an operator that is not constant."""
    graph = Graph(torch.fx.Graph())
    x = graph.fx.placeholder("x")
    values = [graph.add_constant(gaussian(draw, 3), f"w{i}") for i in range(draw(st.integers(1, 3)))]
    value = values[0]
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            value = graph.fx.call_function(draw(st.sampled_from(_UNARY)), (value,))
        else:
            value = graph.fx.call_function(draw(st.sampled_from(_BINARY)), (value, draw(st.sampled_from(values))))
    graph.fx.output(graph.fx.call_function(aten.add.Tensor, (x, value)))
    match = Expression().match(graph, value)
    assert match is not None
    return graph, match
