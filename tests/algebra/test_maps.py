"""Every kind of map answers every question that others ask of it, and the answers are those of the map as it runs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

import fusekit
from fusekit.algebra import (
    Affine,
    AppendOnes,
    AvgPool,
    BorderedConv,
    Chain,
    Choice,
    Composition,
    Constant,
    Conv,
    Cut,
    EdgePad,
    Elementwise,
    Flatten,
    Fork,
    GlobalMean,
    GroupedLinear,
    Identity,
    Interleaved,
    Map,
    MergeLeading,
    Mixing,
    Nearest,
    Normalization,
    Pad,
    Permute,
    Picking,
    PixelShuffle,
    Relaid,
    Selection,
    Sizes,
    SpaceToDepth,
    Span,
    SpectralConv,
    Split,
    ValuePad,
    WinogradConv,
)
from fusekit.algebra.kernel import coarsen
from fusekit.algebra.rearrange import _Rearrangement
from fusekit.algebra.sizes import through
from fusekit.errors import Inapplicable
from fusekit.rewriting.pattern import Deferred
from fusekit.testing.instances import mixings
from fusekit.testing.strategies import affines, convs, forks, gaussian, gaussians, inputs_of, pads, relative_error

TOLERANCE = 1e-11
Drawn = tuple[Map, Tensor]


@st.composite
def _conv(draw: st.DrawFn, /, **options: Any) -> tuple[Conv, Tensor]:
    conv = draw(convs(**{"transposed": None, **options}))
    return conv, draw(inputs_of(conv))


@st.composite
def _spatial(
    draw: st.DrawFn, make: Callable[[st.DrawFn, int], Map], channels: int = 4, *, batched: bool = False
) -> Drawn:
    """A map of two or three axes on an input large enough for it."""
    n = draw(st.integers(1, 3))
    return make(draw, n), gaussian(
        draw, draw(st.integers(int(batched), 2)), channels, *(draw(st.integers(4, 6)) for _ in range(n))
    )


def _pool(draw: st.DrawFn, n: int) -> AvgPool:
    window = tuple(draw(st.integers(1, 3)) for _ in range(n))
    return AvgPool(window, tuple(draw(st.integers(1, 3)) for _ in range(n)), tuple(k // 2 for k in window))


def _edge(draw: st.DrawFn, n: int) -> EdgePad:
    stages = (tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(n)),)
    mode = draw(st.sampled_from(("circular", "reflect", "replicate")))
    return EdgePad(mode, stages * draw(st.integers(1, 2 if mode == "circular" else 1)))


def _cut(draw: st.DrawFn, n: int) -> Cut:
    crop = tuple((draw(st.integers(0, 1)), draw(st.integers(0, 2))) for _ in range(n))
    return Cut(crop, tuple(draw(st.integers(1, 3)) for _ in range(n)))


def _value_pad(draw: st.DrawFn, n: int) -> ValuePad:
    value: float | Tensor = gaussian(draw, 4) if draw(st.booleans()) else 1.5
    return ValuePad(tuple((draw(st.integers(0, 2)), draw(st.integers(0, 1))) for _ in range(n)), value)


def _normalization(draw: st.DrawFn, n: int) -> Normalization:
    return Normalization("group", 4, 0.1, gaussian(draw, 4), gaussian(draw, 4), draw(st.sampled_from((1, 2, 4))), n)


def _selection(draw: st.DrawFn, n: int) -> Selection:
    if draw(st.booleans()):
        return Selection(draw(st.integers(0, 3)), 4, 8, n, places=True)
    return Selection(draw(st.integers(0, 3)), 1, 4, n)


@st.composite
def _row(draw: st.DrawFn) -> tuple[tuple[Conv, Conv], Tensor]:
    """Two convolutions, innermost first."""
    inner = draw(convs(n=draw(st.integers(1, 2))))
    outer = draw(convs(n=inner.n, in_channels=inner.out_channels))
    return (inner, outer), draw(inputs_of(inner, outer))


@st.composite
def _grouped(draw: st.DrawFn) -> Drawn:
    groups, outputs, inputs = (draw(st.integers(1, 3)) for _ in range(3))
    bias = gaussian(draw, groups * outputs) if draw(st.booleans()) else None
    leading = [draw(st.integers(0, 2)) for _ in range(draw(st.integers(0, 2)))]
    return GroupedLinear(gaussian(draw, groups, outputs, inputs), bias), gaussian(draw, *leading, groups * inputs)


def _with(kind: Callable[[Conv], Map], **options: Any) -> st.SearchStrategy[Drawn]:
    return _conv(**options).map(lambda drawn: (kind(drawn[0]), drawn[1]))


def _short(conv: Conv) -> Conv:
    """Dense, with stride and dilation 1 on its last axis and more than one tap there."""
    assume(conv.window[-1] > 1)
    kernel = coarsen(conv.kernel, 1)
    return replace(conv, kernel=kernel, stride=(*conv.stride[:-1], 1), dilation=(*conv.dilation[:-1], 1))


def _bordered(row: tuple[Conv, Conv]) -> Map:
    folded = BorderedConv.fold(row[1], row[0])
    assume(isinstance(folded, BorderedConv))
    return folded


_PLAIN = {"transposed": False}
DRAWN: dict[type[Map], st.SearchStrategy[Drawn]] = {
    Affine: _spatial(lambda draw, n: draw(affines(4, -n - 1))),
    AppendOnes: _spatial(lambda draw, n: AppendOnes(n)),
    AvgPool: _spatial(_pool),
    BorderedConv: _row().map(lambda drawn: (_bordered(drawn[0]), drawn[1])),
    Chain: _row().map(lambda drawn: (Chain(drawn[0]), drawn[1])),
    Choice: _with(lambda conv: Choice((conv, conv))),
    Composition: _row().map(lambda drawn: (Composition((Identity(), *drawn[0][::-1])), drawn[1])),
    Constant: _spatial(lambda draw, n: Constant(gaussian(draw, 3, 2))),
    Conv: _conv(),
    Cut: _spatial(_cut),
    EdgePad: _spatial(_edge),
    Elementwise: _spatial(lambda draw, n: Elementwise(torch.relu)),
    Flatten: _spatial(lambda draw, n: Flatten()),
    Fork: forks(),
    GlobalMean: _spatial(lambda draw, n: GlobalMean(n, draw(st.booleans()))),
    GroupedLinear: _grouped(),
    Interleaved: _spatial(lambda draw, n: Interleaved(n), batched=True),
    Nearest: _spatial(lambda draw, n: Nearest(tuple(draw(st.integers(1, 3)) for _ in range(n)))),
    Identity: _spatial(lambda draw, n: Identity(draw(st.sampled_from((None, n))))),
    MergeLeading: _spatial(lambda draw, n: MergeLeading(draw(st.integers(0, n)))),
    Normalization: _spatial(_normalization),
    Mixing: mixings().map(lambda drawn: (drawn[0][1], drawn[1])),
    Pad: _spatial(lambda draw, n: draw(pads(n))),
    Permute: gaussians(2, 4, 2, 3).map(lambda x: (Permute((2, 0, 3, 1)), x)),
    Picking: _spatial(lambda draw, n: Picking(tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))), 4, n)),
    PixelShuffle: st.tuples(gaussians(2, 8, 2, 3), st.booleans()).map(lambda pair: (PixelShuffle(2, pair[1]), pair[0])),
    SpaceToDepth: st.tuples(gaussians(2, 3, 4, 6), st.booleans()).map(lambda pair: (SpaceToDepth(2, pair[1]), pair[0])),
    Relaid: _with(lambda conv: Relaid(conv, planar=conv.n == 1, channels_last=conv.n > 0), **_PLAIN),
    Selection: _spatial(_selection),
    SpectralConv: _with(SpectralConv.of, n=2) | _with(SpectralConv.of, n=1),
    Split: forks().map(lambda drawn: (drawn[0].merged(), drawn[1])),
    ValuePad: _spatial(_value_pad),
    WinogradConv: _with(lambda conv: WinogradConv(_short(conv), 2), n=2, **_PLAIN),
}
NO_VALUES = {
    _Rearrangement: "what kinds of maps have in common",
    Deferred: "an expression of constants, before anybody knows its value",
}


def kinds(of: type[Any] = Map) -> Iterator[type[Map]]:
    """Every kind of map that the package has."""
    for kind in of.__subclasses__():
        if kind.__module__.startswith(fusekit.__name__ + "."):
            yield kind
        yield from kinds(kind)


def test_every_kind_is_drawn_here() -> None:
    assert set(kinds()) - NO_VALUES.keys() == DRAWN.keys()


def properties(check: Callable[[Map, Tensor], None]) -> Callable[[type[Map]], None]:
    """The check as a test of every kind."""

    @pytest.mark.parametrize("kind", DRAWN, ids=lambda kind: kind.__name__)
    def test(kind: type[Map]) -> None:
        @settings(max_examples=25)
        @given(DRAWN[kind])
        def run(drawn: Drawn) -> None:
            check(*drawn)

        run()

    test.__doc__ = check.__doc__
    return test


def value_of(m: Map, x: Tensor) -> Tensor:
    """m(x), where there is one."""
    try:
        return m(x)
    except (RuntimeError, ValueError):
        assume(False)
        raise


def shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)


@properties
def test_words(m: Map, x: Tensor) -> None:
    """One short line, the same for other numbers and for shapes alone."""
    words = m.describe()
    assert words and "\n" not in words and len(words) < 500
    assert "tensor(" not in words and " at 0x" not in words
    if not isinstance(m, Selection):
        assert m.on_meta().describe() == words


@properties
def test_sizes(m: Map, x: Tensor) -> None:
    """The real shape; with any one size unknown, nothing that is wrong; with all of them, what weights fix."""
    made = shape(value_of(m, x))
    assert m.output_shape(shape(x)) == m.output_sizes(shape(x)) == made
    for axis in range(x.ndim):
        given: list[int | None] = list(shape(x))
        given[axis] = None
        told = m.output_sizes(tuple(given))
        assert told is not None and len(told) == len(made)
        assert all(size in (None, real) for size, real in zip(told, made, strict=True))


@properties
def test_plain_convolution(m: Map, x: Tensor) -> None:
    """The same function, of the same numbers."""
    plain = m.plain()
    if plain is None:
        return
    assert type(plain) is Conv
    assert relative_error(plain(x), value_of(m, x)) < TOLERANCE
    assert m.is_weighted()


@properties
def test_linear_part(m: Map, x: Tensor) -> None:
    """m(x) - m(0), and it is linear."""
    try:
        part = m.linear_part()
    except Inapplicable as reason:
        assert type(m).__name__ in str(reason)
        assert isinstance(m, Elementwise | Choice | Normalization)
        return
    assert relative_error(part(x), value_of(m, x) - m(torch.zeros_like(x))) < TOLERANCE
    assert not part(torch.zeros_like(x)).any()


@properties
def test_span(m: Map, x: Tensor) -> None:
    """What an output sees lies no farther apart than the reach, and neighbours are a stride apart: on each axis of a
    long input, where no border is in the way."""
    span = m.span()
    if span is None:
        assert isinstance(
            m,
            Flatten
            | Interleaved
            | Permute
            | Normalization
            | GlobalMean
            | MergeLeading
            | PixelShuffle
            | Constant
            | Choice,
        )
        return
    n = len(span.reach)
    assert len(span.stride) == len(span.ring) == n and (not n or x.ndim > n)
    for axis in range(-n, 0):
        reach, stride, ring = span.on(axis)
        sizes = [1, *shape(x)[1:]] if x.ndim > n + 1 else list(shape(x))
        sizes[axis] = (3 * (reach + ring + stride) + 4) // m.block() * m.block()
        seen = seen_of(m, tuple(sizes), axis)
        middle = len(seen) // 2
        here, there = (seen[k] for k in (middle, min(middle + 1, len(seen) - 1)))
        assert not here or max(here) - min(here) <= reach
        if not span.transposed:
            assert max(here) - min(here) == reach or isinstance(m, BorderedConv | Chain | Composition)
            assert min(there) - min(here) == stride or len(seen) < 2


def seen_of(m: Map, sizes: tuple[int, ...], axis: int) -> list[list[int]]:
    """For each position of the output on an axis, the positions of the input on which it depends."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sizes, generator=generator, dtype=torch.float64)
    before = m(x)
    found: list[list[int]] = [[] for _ in range(before.shape[axis])]
    for position in range(sizes[axis]):
        other = x.clone()
        other.select(axis, position).add_(1.0)
        changed = ((m(other) - before).abs() > 1e-9 * before.abs().max()).movedim(axis, -1).flatten(0, -2).any(0)
        for index in torch.nonzero(changed).flatten().tolist():
            found[index].append(position)
    return found


@properties
def test_weight_and_steps(m: Map, x: Tensor) -> None:
    """What it says of its constants they show, and its steps are the map."""
    value = value_of(m, x)
    assert m.is_weighted() == any(constant.ndim > 1 for constant in m.constants())
    for step in reversed(m.steps()):
        assert step.steps() == (step,)
        x = step(x)
    assert torch.equal(x, value)


@given(st.lists(convs(n=2), min_size=2, max_size=2))
def test_spans_compose(drawn: list[Conv]) -> None:
    inner, outer = drawn
    outer = replace(outer, kernel=outer.kernel[:1, :, :1].expand(1, -1, inner.out_channels, -1, -1), bias=None)
    assert outer.composed(inner).span().reach == outer.span().after(inner.span()).reach
    assert outer.composed(inner).span().stride == outer.span().after(inner.span()).stride


def test_two_realizations_have_two_names() -> None:
    """Times are kept by these words: what may take another time must have others."""
    conv = Conv.from_torch(torch.zeros(4, 4, 3, dtype=torch.float64), None)
    others = (
        *(conv, replace(conv, stride=(2,)), replace(conv, bias=torch.zeros(4)), replace(conv, transposed=True)),
        *(Relaid(conv, planar=True), Relaid(conv, planar=True, channels_last=True), Split(conv, (2, 2))),
        *(SpectralConv(conv), SpectralConv(conv, (8,)), WinogradConv(conv), WinogradConv(conv, 2), Split(conv, (1, 3))),
        *(GroupedLinear(torch.zeros(2, 2, 2)), GroupedLinear(torch.zeros(2, 2, 2), torch.zeros(4))),
        *(Mixing(torch.eye(2), 1), Mixing(torch.eye(2), 1, reads_inner=True), Mixing(torch.eye(2), 1, torch.zeros(2))),
        *(Pad(((1, 1),)), Pad(((1, 2),)), Identity(), Elementwise(torch.relu), Elementwise(torch.tanh)),
        Composition((conv, conv)),
    )
    assert len({each.describe() for each in others}) == len(others)


SIZES: dict[str, tuple[Map, Sizes, Sizes]] = {
    "strides": (AvgPool((2, 2), (2, 2), (0, 0)), (None, None, 6, None), (None, None, 3, None)),
    "channels": (PixelShuffle(2), (None, 12, None, 5), (None, 3, None, 10)),
    "blocks": (Mixing(torch.eye(2)[:1], 1), (None, 8, None), (None, 4, None)),
    "features": (Flatten(), (None, 8, 3), (None, 24)),
    "features of nobody knows what": (Flatten(), (2, 8, None), (2, None)),
    "mean": (GlobalMean(2), (None, 3, None, None), (None, 3, 1, 1)),
}


@pytest.mark.parametrize("name", SIZES)
def test_what_is_known_is_told(name: str) -> None:
    m, given, made = SIZES[name]
    assert m.output_sizes(given) == made


def test_a_formula_that_decides_by_an_unknown_size_tells_nothing() -> None:
    assert through(lambda shape: (max(shape[0], 3), shape[1]), (None, 2)) is None
    assert through(lambda shape: (7,) if shape[0] == 3 else shape, (None,)) is None
    assert through(lambda shape: shape[:1] if shape[1] else shape, (1, None)) is None
    assert through(lambda shape: (max(shape[0], 3), shape[1]), (2, None)) == (3, None)


def test_a_point_is_a_point() -> None:
    assert Span().is_point and Span.of_ring((2, 1)).is_point
    assert not Span((1,), (1,), (0,)).is_point and not Span((0,), (2,), (0,)).is_point
    assert not Span((0,), (1,), (0,), transposed=True).is_point
    assert Span((2,), (3,), (1,)).on(-2) == (0, 1, 0)
