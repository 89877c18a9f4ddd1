"""The manners of each pass: what it must take, what it must leave alone, and why."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusekit import optimize
from fusekit.algebra import Conv
from fusekit.errors import Inapplicable
from fusekit.ir import Graph
from fusekit.passes import PASSES, FoldConstants
from fusekit.report import Event, Report
from fusekit.rewriting.pattern import Expression
from fusekit.testing.strategies import relative_error
from tests.support.architectures import randomize
from tests.support.graphs import Calls, captured

aten = torch.ops.aten


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
        assert isinstance(x, Tensor)  # no symbolic trace: that would compute the table on the way
        table = self.g.expand(300, 300) * 1.5
        return x + table


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
