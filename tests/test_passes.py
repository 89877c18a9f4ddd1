"""Each pass as an equation, and each pass's manners.

The one generic test draws instances of a pass's own pattern and evaluates both sides: a new pass of a known pattern is
tested by being listed in `fusekit.passes`. The lists below it are what a pass must take and what it must leave alone,
and why.
"""

import itertools
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

from fusekit import optimize
from fusekit.algebra import Affine, Chain, Choice, Combination, Constant, Conv, EdgePad, Elementwise, Identity, Map, Pad
from fusekit.algebra.combination import Composition, Term
from fusekit.algebra.factor import factored
from fusekit.algebra.kernel import coarsen
from fusekit.algebra.pool import AvgPool
from fusekit.algebra.rearrange import Flatten, GlobalMean, PixelShuffle
from fusekit.errors import Inapplicable
from fusekit.graph import Graph
from fusekit.passes import PASSES, STAGES, FoldConstants
from fusekit.pattern import AfterConcat, Compose, Concat, Deferred, Expression, Having, Match, Row, Siblings, Sum
from fusekit.report import Event, Report
from fusekit.rewrite import Rewrite
from tests import ledger
from tests.architectures import randomize
from tests.graphs import Calls, captured
from tests.strategies import affines, convs, forks, gaussian, inputs_of, pads, relative_error

TOLERANCE = 1e-11
EXERCISED = 20
ABOUT_VALUES = ("trim-window", "find-groups", "factor-kernel", "drop-channels", "drop-linear-channels")

aten = torch.ops.aten


@st.composite
def chains(draw: st.DrawFn, kinds: tuple[type[Map], ...]) -> tuple[tuple[Map, ...], Tensor]:
    """Maps of these kinds (outermost first) that fit each other, and an input on which all of them are defined."""
    n = draw(
        st.integers(1 if Pad in kinds or AvgPool in kinds else 0, 3 if len(kinds) < 2 or Conv not in kinds[1:] else 2)
    )
    channels = inputs = draw(st.sampled_from((2, 3, 4, 6)))
    sizes, stride = [1] * n, [1] * n
    inner_first: list[Map] = []
    for kind in reversed(kinds):
        if kind is Conv:
            conv = draw(convs(n=n, in_channels=channels, transposed=draw(st.sampled_from((False, False, False, None)))))
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
    """A convolution, a rearrangement or mean of its output, and perhaps a map behind that; pointwise more often than
    not, since few others pass through."""
    n = 2 if PixelShuffle in kinds else draw(st.integers(1, 2))
    times = 4 if PixelShuffle in kinds else 1
    inner = draw(convs(n=n, out_channels=times * draw(st.integers(1, 3))))
    if draw(st.booleans()):
        inner = Conv.from_torch(gaussian(draw, inner.out_channels, 3, *(1,) * n), inner.bias)
    x = draw(inputs_of(inner))
    flatten = Flatten(tuple(inner(x).shape[2:]) if draw(st.booleans()) else None)
    middle: Any = {PixelShuffle: PixelShuffle(2), Flatten: flatten, GlobalMean: GlobalMean(n)}[kinds[-2]]
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
def edged(draw: st.DrawFn, kinds: tuple[type[Map], ...]) -> tuple[tuple[Map, ...], Tensor]:
    """A convolution behind padding that repeats what is there, and what stands before that; more often than not of the
    kind that passes through."""
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
    """Two convolutions with some of many channels between them masked on either side, perhaps a function between."""
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
def sparse(draw: st.DrawFn) -> tuple[Conv, Tensor]:
    """A convolution with zeros where a law may look for them: at the edges of the window, between blocks."""
    conv = draw(convs(n=draw(st.integers(1, 2)), transposed=None))
    kernel = coarsen(conv.kernel, 1) if draw(st.booleans()) else conv.kernel.clone()
    for axis in range(conv.n):
        for edge in (0, -1):
            if draw(st.booleans()):
                kernel.select(3 + axis, edge).zero_()
    return replace(conv, kernel=kernel), draw(inputs_of(conv))


@st.composite
def branches(draw: st.DrawFn, *, concat: bool) -> tuple[Combination, list[Tensor]]:
    """Branches of one output size on a first source: convolutions, chains of two, per-channel maps, the identity; and
    now and then a branch that comes from elsewhere."""
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

    terms = [Term(0, Composition((same_size(None if concat else channels),)))]
    terms += [Term(0, branch()) for _ in range(draw(st.integers(1, 3)))]
    sizes = [draw(st.integers(7, 9)) for _ in range(n)]
    sources = [gaussian(draw, 2, channels, *sizes)]
    if draw(st.booleans()):
        terms.insert(draw(st.integers(1, len(terms))), Term(1, Composition(())))
        sources.append(gaussian(draw, 2, channels, *sizes))
    return Combination(tuple(terms), -n - 1 if concat else None), sources


@st.composite
def after_concats(draw: st.DrawFn, kind: type[Map]) -> tuple[Affine | Conv, Combination, list[Tensor]]:
    """A per-channel map behind a concatenation of convolutions; a convolution behind one, other parts among them."""
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


_UNARY = (aten.neg.default, aten.exp.default, aten.abs.default, aten.tanh.default)
_BINARY = (aten.add.Tensor, aten.mul.Tensor, aten.sub.Tensor)


@st.composite
def expressions(draw: st.DrawFn) -> tuple[Graph, Match]:
    """An expression of a few constants, read by something that is not one."""
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


@st.composite
def products(draw: st.DrawFn) -> tuple[Conv, Tensor]:
    """A convolution whose kernel is Σ_r B A, either factor with some axes of the window; now and then it is not."""
    n, groups, rank = draw(st.integers(0, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    drawn = draw(convs(n=n, in_channels=4 * groups if n else 4, out_channels=6 * groups if n else 6))
    groups = groups if n else 1
    window = [draw(st.integers(1, 3)) for _ in range(n)]
    along = [draw(st.booleans()) for _ in range(n)]
    first = gaussian(draw, groups, rank, 1, 4, *(k if yes else 1 for k, yes in zip(window, along, strict=True)))
    second = gaussian(draw, groups, rank, 6, 1, *(1 if yes else k for k, yes in zip(window, along, strict=True)))
    kernel = (first * second).sum(1)
    if draw(st.integers(0, 5)) == 0:
        kernel = kernel + gaussian(draw, *kernel.shape)
    conv = replace(drawn, kernel=kernel)
    return conv, draw(inputs_of(conv))


def instances(pattern: Any) -> st.SearchStrategy[tuple[tuple[Map, ...], Tensor]]:
    """Chains of maps that match the pattern, each with an input."""
    if isinstance(pattern, Having):
        return (products() if pattern.law is factored else sparse()).map(lambda drawn: ((drawn[0],), drawn[1]))
    if isinstance(pattern, Siblings):
        return forks().map(lambda drawn: ((drawn[0],), drawn[1]))
    if isinstance(pattern, Row):
        return st.integers(2, 3).flatmap(lambda count: chains((pattern.kind,) * count))
    assert isinstance(pattern, Compose), f"{type(pattern).__name__} has no instances to draw yet"
    if pattern.when is not None and pattern.when.__name__ == "_has_dead_channels":
        return pruned(pattern.kinds)
    if EdgePad in pattern.kinds:
        return edged(pattern.kinds)
    special = {PixelShuffle, GlobalMean, Flatten} & set(pattern.kinds)
    return rearranged(pattern.kinds) if special else chains(pattern.kinds)


def check_law(rewrite: Rewrite, data: st.DataObject) -> bool:
    """Both sides of the law on one instance of its pattern; False where the law says no."""
    pattern: Any = rewrite.pattern
    if isinstance(pattern, Expression):
        _, match = data.draw(expressions())
        expression: Deferred = match.maps[0]
        constant = rewrite.propose(expression)
        assert isinstance(constant, Constant)
        assert torch.equal(constant.value, expression.value())
        ledger.record(0.0)
        return True
    if isinstance(pattern, Sum | Concat | AfterConcat):
        arguments: tuple[Any, ...]
        if isinstance(pattern, AfterConcat):
            outer, whole, sources = data.draw(after_concats(pattern.kind))
            value, arguments = outer(whole(*sources)), (outer, whole)
        else:
            whole, sources = data.draw(branches(concat=isinstance(pattern, Concat)))
            value, arguments = whole(*sources), (whole,)
        try:
            given: Any = rewrite.propose(*arguments)
        except Inapplicable as reason:
            assert str(reason)
            return False
        error = relative_error(given(*sources), value)
        ledger.record(error)
        assert error <= TOLERANCE
        assert given.output_shape(*(tuple(source.shape) for source in sources)) == tuple(value.shape)
        rewrite.propose(*(argument.on_meta() for argument in arguments))
        return True
    maps, x = data.draw(instances(pattern))
    value = x
    try:
        for inner in reversed(maps):
            value = inner(value)
    except RuntimeError:
        return False  # the left side itself is not defined on this input: another axis, an empty output
    try:
        folded = rewrite.propose(*maps)
        if isinstance(folded, Chain):
            folded = folded.folded(0, len(maps))
    except Inapplicable as reason:
        assert str(reason)
        return False
    for option in folded.options if isinstance(folded, Choice) else (folded,):
        error = relative_error(option(x), value)
        ledger.record(error)
        assert error <= TOLERANCE
        assert option.output_shape(tuple(x.shape)) == tuple(value.shape)
    if rewrite.name in ABOUT_VALUES:
        return True
    # priced on shapes alone first: on the meta device the law must not say no where it holds
    shapes = rewrite.propose(*(m.on_meta() for m in maps))
    assert shapes.output_shape(tuple(x.shape)) == tuple(value.shape)
    return True


@pytest.mark.parametrize("name", PASSES)
def test_the_law_holds_wherever_it_does_not_say_no(name: str) -> None:
    exercised = 0

    @settings(max_examples=120)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nonlocal exercised
        exercised += check_law(PASSES[name], data)

    check()
    assert exercised >= EXERCISED, f"the law of {name} was exercised {exercised} times only"


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_says_what_it_is(name: str) -> None:
    """A name the command line can take, a law in the first line of its docstring and of its module's, options with
    defaults; `=` stands in every law."""
    rewrite = PASSES[name]
    assert rewrite.name == name == name.lower().replace("_", "-")
    assert type(rewrite)() == rewrite
    assert "=" in (type(rewrite).__doc__ or "").splitlines()[0] or "less" in (type(rewrite).__doc__ or "")
    places = [sum(name == each.name for each in stage.passes) for stage in STAGES]
    assert sum(places) >= 1 and max(places) == 1
    assert str(rewrite.pattern)


def events_of(name: str, model: nn.Module, x: Tensor | None, target: str = "torch") -> tuple[Event, ...]:
    """What one pass alone did to a model; the result is compared with the model in float64."""
    model = randomize(model)
    result: Any = optimize(model, x, passes=[name], target=target, strict=True)
    if x is not None:
        with torch.no_grad():
            assert relative_error(result.double()(x.double()), model.double()(x.double())) < 1e-5
    report: Report = result.report
    assert not report.rejected
    return tuple(event for event in report.events if event.rewrite == name)


def _random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(shape))) + 0.5


X1, X2, X3 = _random(2, 3, 12), _random(2, 3, 9, 8), _random(1, 3, 6, 6, 6)
G3, G4 = _random(3, 1, 1), _random(4, 1, 1)
Body = Callable[[Any, Any], Any]


def seq(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


def conv(*sizes: Any, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(*sizes, **options)


Case = tuple[str, Callable[[], nn.Module], Tensor | None]

TAKES: dict[str, Case] = {
    "dropout": ("drop-identity", lambda: seq(conv(3, 4, 3), nn.Dropout2d(0.5), nn.ReLU()), X2),
    "dropout without example": ("drop-identity", lambda: seq(conv(3, 4, 3), nn.Dropout(0.5)), None),
    "identity": ("drop-identity", lambda: seq(nn.Identity(), nn.ReLU()), X2),
    "zero pad of nothing": ("drop-identity", lambda: seq(nn.ZeroPad2d(0), nn.ReLU()), X2),
    "times one": ("drop-identity", lambda: Calls(lambda m, x: x * 1.0), X2),
    "plus a zero": ("drop-identity", lambda: Calls(lambda m, x: x + m.z, z=torch.zeros(1, 1, 1)), X2),
    "product of weights, exported": (
        "fold-constants",
        lambda: Calls(
            lambda m, x: F.conv2d(x, m.a * m.b) if x.shape[2] > 1 else x, a=_random(4, 3, 3, 3), b=_random(1)
        ),
        X2,
    ),
    "sum of weights": (
        "fold-constants",
        lambda: Calls(lambda m, x: F.conv2d(x, m.a + m.b), a=_random(4, 3, 3, 3), b=_random(4, 3, 1, 1)),
        X2,
    ),
    "norm 1d": ("fold-affine", lambda: seq(nn.Conv1d(3, 4, 3, 2), nn.BatchNorm1d(4)), X1),
    "norm 2d": ("fold-affine", lambda: seq(conv(3, 4, 3, padding=1), nn.BatchNorm2d(4, eps=0.1)), X2),
    "norm without example": ("fold-affine", lambda: seq(conv(3, 4, 3, padding=1), nn.BatchNorm2d(4)), None),
    "norm 3d": ("fold-affine", lambda: seq(nn.Conv3d(3, 6, 3, groups=3), nn.BatchNorm3d(6)), X3),
    "norm of a transposed one": (
        "fold-affine",
        lambda: seq(nn.ConvTranspose2d(3, 3, 3, 2, 1, 1), nn.BatchNorm2d(3)),
        X2,
    ),
    "norm of a linear layer": ("fold-affine", lambda: seq(nn.Linear(12, 4), nn.BatchNorm1d(4)), _random(5, 12)),
    "scale": ("fold-affine", lambda: Calls(lambda m, x: m.g * m.f(x), f=conv(3, 4, 3), g=G4), X2),
    "shift of a padded one": ("fold-affine", lambda: Calls(lambda m, x: 1 - m.f(x), f=conv(3, 4, 3, padding=1)), X2),
    "normalized input": ("fold-affine-in", lambda: Calls(lambda m, x: m.f((x - m.g) / 0.2), f=conv(3, 4, 3), g=G3), X2),
    "scaled input of a padded one": (
        "fold-affine-in",
        lambda: Calls(lambda m, x: m.f(x * m.g), f=conv(3, 4, 3, 2, 1), g=G3),
        X2,
    ),
    "scaled input of a transposed one": (
        "fold-affine-in",
        lambda: Calls(lambda m, x: m.f(x / m.g), f=nn.ConvTranspose2d(3, 3, 3, groups=3), g=G3),
        X2,
    ),
    "norm before a pointwise one": ("fold-affine-in", lambda: seq(nn.BatchNorm2d(3), conv(3, 4, 1)), X2),
    "pad": ("fold-pad", lambda: seq(nn.ZeroPad2d(2), conv(3, 4, 3)), X2),
    "pad onto a pad": ("fold-pad", lambda: seq(nn.ConstantPad1d(1, 0.0), nn.Conv1d(3, 4, 3, padding=2)), X1),
    "uneven pad that evens out": (
        "fold-pad",
        lambda: Calls(lambda m, x: m.f(F.pad(x, (1, 1, 2, 2))), f=conv(3, 4, 3)),
        X2,
    ),
    "shared pad, of which the convolution then reads less": (
        "fold-pad",
        lambda: Calls(lambda m, x: (lambda y: m.f(y) + y.mean())(m.p(x)), p=nn.ZeroPad2d(1), f=conv(3, 4, 3)),
        X2,
    ),
    "pointwise after wide": ("fold-conv", lambda: seq(conv(3, 32, 3), conv(32, 4, 1)), X2),
    "pointwise after wide, no example": ("fold-conv", lambda: seq(conv(3, 32, 3), conv(32, 4, 1)), None),
    "padded after bare pointwise": (
        "fold-conv",
        lambda: seq(conv(3, 32, 1, bias=False), conv(32, 4, 3, padding=1)),
        X2,
    ),
    "depthwise after depthwise": (
        "fold-conv",
        lambda: seq(conv(3, 3, (3, 1), groups=3), conv(3, 3, (1, 3), groups=3, padding=0)),
        X2,
    ),
    "linear layers through a wide middle": (
        "fold-conv",
        lambda: seq(nn.Linear(12, 64), nn.Linear(64, 4)),
        _random(5, 12),
    ),
    "strided, dilated, grouped": (
        "fold-conv",
        lambda: seq(conv(4, 32, 2, 2, groups=2, dilation=2), conv(32, 4, 1, groups=2)),
        _random(1, 4, 11, 12),
    ),
}


@pytest.mark.parametrize("case", TAKES)
def test_taken(case: str) -> None:
    name, build, x = TAKES[case]
    torch.manual_seed(0)
    events = events_of(name, build(), x)
    assert any(str(event.outcome) == "applied" for event in events), events
    for event in events:
        if str(event.outcome) == "applied":
            assert event.error is not None and event.error <= 1e-10
            if event.cost_before is not None and event.cost_after is not None:
                assert event.cost_after < event.cost_before


class Branches(nn.Module):
    """One inner value, read by two."""

    def __init__(self, inner: nn.Module, outer: nn.Module) -> None:
        super().__init__()
        self.inner, self.outer = inner, outer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.inner(x)
        return self.outer(y), y


class Small(nn.Module):
    """A table made of one number: computed, never stored."""

    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.tensor([2.0]))

    def forward(self, x: Tensor) -> Tensor:
        table = self.g.expand(300, 300) * 1.5
        return x + table if x.shape[0] > 1 else x  # no symbolic trace: that would compute the table on the way


_PAYS = "does not pay"
REFUSES: dict[str, tuple[str, Callable[[], nn.Module], Tensor | None, tuple[str, ...]]] = {
    "a large table": ("fold-constants", Small, _random(300, 300), ("90,000 entries", "its sources 1")),
    "shared norm": (
        "fold-affine",
        lambda: Branches(conv(3, 4, 3), nn.BatchNorm2d(4)),
        X2,
        (_PAYS, "inner value is also used elsewhere"),
    ),
    "(W,) scale with W = C": (
        "fold-affine",
        lambda: Calls(lambda m, x: m.f(x) * m.g, f=conv(3, 6, 3), g=_random(6)),
        _random(1, 3, 8, 8),
        ("axis -1", "channels are on axis -3"),
    ),
    "norm of (N, C, L) linear features": (
        "fold-affine",
        lambda: seq(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        _random(2, 4, 4),
        ("axis -2", "channels are on axis -1"),
    ),
    "norm of unknown rank": ("fold-affine", lambda: seq(nn.Linear(4, 4), nn.BatchNorm1d(4)), None, ("rank", "unknown")),
    "scale of unknown width": (
        "fold-affine",
        lambda: Calls(lambda m, x: m.f(x) * m.g, f=conv(3, 6, 3), g=_random(6)),
        None,
        ("an axis whose size is unknown", "pass example inputs"),
    ),
    "(H, W) scale": (
        "fold-affine",
        lambda: Calls(lambda m, x: m.f(x) * m.g, f=conv(3, 6, 3), g=_random(6, 6)),
        _random(1, 3, 8, 8),
        ("[6, 6]", "not one number per channel"),
    ),
    "scale that broadcasts up": (
        "fold-affine",
        lambda: Calls(lambda m, x: m.f(x) * m.g, f=conv(3, 1, 3), g=G4),
        X2,
        ("[4, 1, 1]", "axis whose size is 1"),
    ),
    "shift before padding": (
        "fold-affine-in",
        lambda: Calls(lambda m, x: m.f(x + m.g), f=conv(3, 4, 3, padding=1), g=G3),
        X2,
        ("pads with zeros where the graph has the shift", "border"),
    ),
    "shift before padding on one axis": (
        "fold-affine-in",
        lambda: seq(nn.BatchNorm2d(3), conv(3, 4, 3, padding=(0, 1))),
        X2,
        ("pads with zeros where the graph has the shift",),
    ),
    "shift before a transposed one": (
        "fold-affine-in",
        lambda: Calls(lambda m, x: m.f(x - 1.0), f=nn.ConvTranspose2d(3, 4, 3)),
        X2,
        ("shift before a transposed convolution",),
    ),
    "row scale before": (
        "fold-affine-in",
        lambda: Calls(lambda m, x: m.f(x * m.g), f=conv(3, 4, 3), g=_random(3)),
        _random(1, 3, 3, 3),
        ("axis -1", "channels are on axis -3"),
    ),
    "shared scaled input": (
        "fold-affine-in",
        lambda: Branches(nn.BatchNorm2d(3), conv(3, 4, 3)),
        X2,
        (_PAYS, "inner value is also used elsewhere"),
    ),
    "crop before padding": (
        "fold-pad",
        lambda: Calls(lambda m, x: m.f(F.pad(x, (-1, -1))), f=conv(3, 4, 3, padding=1)),
        X2,
        ("crop followed by zero padding",),
    ),
    "pad of channels": (
        "fold-pad",
        lambda: Calls(lambda m, x: m.f(F.pad(x, (0, 0, 0, 0, 1, 0))), f=conv(4, 4, 3)),
        X2,
        ("beyond the 2 spatial axes",),
    ),
    "pad of the features of a linear layer": (
        "fold-pad",
        lambda: Calls(lambda m, x: m.f(F.pad(x, (0, 1))), f=nn.Linear(13, 4)),
        X1,
        ("beyond the 0 spatial axes",),
    ),
    "pad before a transposed one": (
        "fold-pad",
        lambda: seq(nn.ZeroPad2d(1), nn.ConvTranspose2d(3, 4, 3)),
        X2,
        ("cannot take a pad",),
    ),
    "uneven pad, which torch spells as a pad": (
        "fold-pad",
        lambda: seq(nn.ZeroPad2d((0, 1, 0, 1)), conv(3, 4, 3, 2)),
        X2,
        (_PAYS,),
    ),
    "depthwise to pointwise": (
        "fold-conv",
        lambda: seq(conv(64, 64, 3, groups=64), conv(64, 64, 1)),
        _random(1, 64, 14, 14),
        (_PAYS,),
    ),
    "bottleneck 64-16-64": (
        "fold-conv",
        lambda: seq(conv(64, 16, 1), conv(16, 16, 3), conv(16, 64, 1)),
        _random(1, 64, 14, 14),
        (_PAYS,),
    ),
    "3x3 after 3x3 of equal widths": (
        "fold-conv",
        lambda: seq(conv(64, 64, 3), conv(64, 64, 3)),
        _random(1, 64, 28, 28),
        (_PAYS, "MACs, price x"),
    ),
    "3x3 after 3x3 of equal widths, no example": (
        "fold-conv",
        lambda: seq(conv(64, 64, 3), conv(64, 64, 3)),
        None,
        (_PAYS,),
    ),
    "padded 3x3 after padded 3x3": (
        "fold-conv",
        lambda: seq(conv(3, 32, 3, padding=1, bias=False), conv(32, 3, 3, padding=1)),
        X2,
        ("border ring would differ",),
    ),
    "biased pointwise before padding": (
        "fold-conv",
        lambda: seq(conv(3, 32, 1), conv(32, 3, 3, padding=1)),
        X2,
        ("inner one has a bias", "border"),
    ),
    "padding on the high side only": (
        "fold-conv",
        lambda: seq(conv(3, 32, 3, 2, 1, bias=False), conv(32, 3, 2, padding=1)),
        _random(1, 3, 9, 9),
        ("on the high side", "border ring would differ"),
    ),
    "transposed after plain": (
        "fold-conv",
        lambda: seq(conv(3, 32, 3), nn.ConvTranspose2d(32, 3, 2)),
        X2,
        ("composition with a transposed convolution",),
    ),
    "plain after transposed": (
        "fold-conv",
        lambda: seq(nn.ConvTranspose2d(3, 32, 2, 2), conv(32, 3, 3)),
        X2,
        ("composition with a transposed convolution",),
    ),
    "shared inner convolution": (
        "fold-conv",
        lambda: Branches(conv(3, 32, 3), conv(32, 3, 1)),
        X2,
        (_PAYS, "inner value is also used elsewhere"),
    ),
    "pointwise feature layer after a convolution": (
        "fold-conv",
        lambda: Calls(lambda m, x: m.g(m.f(x)), f=conv(3, 32, 3), g=nn.Linear(6, 2)),
        X2,
        ("channels on 2 axes do not feed",),
    ),
}


def _first(outputs: Any) -> Tensor:
    result: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return result


@pytest.mark.parametrize("case", REFUSES)
def test_refused_with_its_reason(case: str) -> None:
    name, build, x, words = REFUSES[case]
    torch.manual_seed(0)
    model = randomize(build())
    result: Any = optimize(model, x, passes=[name], strict=True)
    events = [event for event in result.report.events if event.rewrite == name]
    assert events, "the pattern did not match at all"
    assert not [event for event in events if str(event.outcome) == "applied"], events
    assert any(all(word in event.reason for word in words) for event in events), [event.reason for event in events]
    if x is not None:
        with torch.no_grad():
            assert torch.equal(_first(result(x)), _first(model(x)))


ALONE: dict[str, tuple[str, Callable[[], nn.Module], Tensor]] = {
    "a function between": ("fold-affine", lambda: seq(conv(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), X2),
    "norm by batch statistics": (
        "fold-affine",
        lambda: seq(conv(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        X2,
    ),
    "instance norm": ("fold-affine", lambda: seq(conv(3, 4, 3), nn.InstanceNorm2d(4, affine=True)), X2),
    "division by zero": (
        "fold-affine",
        lambda: Calls(lambda m, x: m.f(x) / m.z, f=conv(3, 4, 3), z=torch.zeros(1)),
        X2,
    ),
    "constant / x": ("fold-affine", lambda: Calls(lambda m, x: 1 / m.f(x), f=conv(3, 4, 3)), X2),
    "a scale from the input": ("fold-affine", lambda: Calls(lambda m, x: m.f(x) * x.mean(), f=conv(3, 4, 3)), X2),
    "weight from the input": (
        "fold-affine",
        lambda: Calls(lambda m, x: F.conv2d(x, m.w * x.mean()) * 2, w=_random(4, 3, 3, 3)),
        X2,
    ),
    "weight from the input, constant": (
        "fold-constants",
        lambda: Calls(lambda m, x: F.conv2d(x, m.w * x.mean()), w=_random(4, 3, 3, 3)),
        X2,
    ),
    "reflect": ("fold-pad", lambda: seq(nn.ReflectionPad2d(1), conv(3, 4, 3)), X2),
    "reflect by the layer": ("fold-pad", lambda: conv(3, 4, 3, padding=1, padding_mode="reflect"), X2),
    "circular by the layer": ("fold-pad", lambda: conv(3, 4, 3, padding=1, padding_mode="circular"), X2),
    "pad with ones": ("fold-pad", lambda: seq(nn.ConstantPad2d(1, 1.0), conv(3, 4, 3)), X2),
    "max pool between": ("fold-conv", lambda: seq(conv(3, 32, 3), nn.MaxPool2d(2), conv(32, 4, 1)), X2),
    "dropout in the middle of a training function": (
        "drop-identity",
        lambda: Calls(lambda m, x: F.dropout(x, 0.0, training=True)),
        X2,
    ),
    "zeros that broadcast up": (
        "drop-identity",
        lambda: Calls(lambda m, x: x + m.z, z=torch.zeros(4, 3, 1, 1)),
        X2[:1],
    ),
    "a new axis": ("drop-identity", lambda: Calls(lambda m, x: x.mean() * m.one, one=torch.ones(1)), X2),
    "zeros of higher precision": (
        "drop-identity",
        lambda: Calls(lambda m, x: x + m.z, z=torch.zeros(3, 1, 1).double()),
        X2,
    ),
    "a pad and its crop": ("drop-identity", lambda: Calls(lambda m, x: F.pad(F.pad(x, (1, 1)), (-1, 0))), X2),
    "weights of one": ("fold-constants", lambda: Calls(lambda m, x: x * m.g, g=G3), X2),
    "integer arithmetic": ("drop-identity", lambda: Calls(lambda m, x: (x > 1).long() / 1 + x), X2),
}


@pytest.mark.parametrize("case", ALONE)
def test_left_alone_without_a_word(case: str) -> None:
    """What does not read as the pattern is no near miss: nothing is applied, the function keeps its bits."""
    name, build, x = ALONE[case]
    torch.manual_seed(0)
    model = randomize(build())
    result: Any = optimize(model, x, passes=[name], strict=True)
    assert not result.report.applied and not result.report.rejected
    with torch.no_grad():
        assert torch.equal(result(x).nan_to_num(), model(x).nan_to_num())


def test_an_expression_that_draws_random_numbers_is_no_constant() -> None:
    for target, options in (
        (aten.dropout.default, (0.5, True)),
        (aten.rand_like.default, ()),
        (aten.relu_.default, ()),
    ):
        graph = Graph(torch.fx.Graph())
        x = graph.fx.placeholder("x")
        value = graph.fx.call_function(target, (graph.add_constant(_random(3), "w"), *options))
        graph.fx.output(graph.fx.call_function(aten.add.Tensor, (x, value)))
        assert Expression().match(graph, value) is None


def test_there_are_as_many_refusals_as_acceptances() -> None:
    for name in PASSES:
        taken = sum(case[0] == name for case in TAKES.values())
        left = sum(case[0] == name for case in (*REFUSES.values(), *ALONE.values()))
        if taken:  # the younger passes have lists of their own
            assert left >= taken, (name, taken, left)


def test_the_border_criterion_on_every_small_geometry() -> None:
    """1-D, one channel, every tap non-zero: c2 ∘ c1 is accepted exactly where it is true at every size."""
    accepted = refused = 0
    taps = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    geometries = itertools.product((1, 2, 3), (1, 2, 3), (1, 2), (0, 1, 2), (0, 1, 2), ((1, 0), (0, 1), (2, 1)))
    for window, stride, dilation, low, high, outer_padding in geometries:
        inner = Conv(taps[:window].reshape(1, 1, 1, -1), None, (stride,), ((low, high),), (dilation,))
        outer = Conv(taps[:3].reshape(1, 1, 1, -1), None, (1,), (outer_padding,), (1,))
        bare = outer.composed(inner)
        sizes = range(window * dilation + 2 * stride, window * dilation + 4 * stride)
        inputs = [torch.arange(1.0, 1.0 + size, dtype=torch.float64).reshape(1, 1, -1) for size in sizes]
        true = all(torch.equal(bare(x), outer(inner(x))) for x in inputs)
        try:
            _ = outer @ inner
        except Inapplicable:
            refused += 1
            assert not true, (window, stride, dilation, low, high, outer_padding)
        else:
            accepted += 1
            assert true, (window, stride, dilation, low, high, outer_padding)
    assert min(accepted, refused) > 50


def test_mixed_precision_is_refused() -> None:
    """A norm kept in float32 over half precision features, as mixed precision training leaves it."""
    model = Calls(
        lambda m, x: F.batch_norm(F.conv2d(x, m.w), m.mean, m.var),
        w=_random(4, 3, 3, 3).bfloat16(),
        mean=_random(4),
        var=_random(4),
    ).eval()
    result: Any = optimize(model, X2.bfloat16(), passes=["fold-affine"])
    assert [(str(e.outcome), e.reason) for e in result.report.events] == [
        ("refused", "mixed dtypes: torch.bfloat16, torch.float32")
    ]


def test_an_operator_is_priced_where_it_stands_on_the_other_runtime() -> None:
    """An uneven pad costs an operator in torch; ONNX convolutions take it, so nothing is gained or lost by folding."""
    for target in ("torch", "onnxruntime"):
        for build in (REFUSES["uneven pad, which torch spells as a pad"][1],):
            (event,) = events_of("fold-pad", build(), X2, target)
            assert _PAYS in event.reason
            assert event.cost_before == event.cost_after


def test_fold_constants_has_options() -> None:
    """`growth` and `always_below` say how large a value may become."""
    for options, outcome in (
        ({}, "refused"),
        ({"growth": 1e6}, "applied"),
        ({"always_below": 100_000}, "applied"),
        ({"growth": 10.0, "always_below": 10}, "refused"),
    ):
        result: Any = optimize(Small().eval(), _random(300, 300), passes=[FoldConstants(**options)])
        assert outcome in [str(event.outcome) for event in result.report.events if event.rewrite == "fold-constants"]


def test_a_symbolic_graph_of_every_taken_case_stays_sound() -> None:
    for _, build, x in TAKES.values():
        captured(randomize(build()), x).lint()
