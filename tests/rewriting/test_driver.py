"""The driver: what it does with laws, whatever the laws are. Among them laws made wrong on purpose."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusekit import FusekitError, VerificationError, optimize
from fusekit.algebra import Affine, Conv, Map
from fusekit.algebra.values import wide
from fusekit.algebra.work import EAGER
from fusekit.errors import Inapplicable
from fusekit.ir import known
from fusekit.passes import PASSES, STAGES, FoldAffine, FoldConv, FoldPad
from fusekit.report import Event, Outcome
from fusekit.rewriting import Driver, Rewrite, Stage
from fusekit.rewriting.pattern import Compose, Match, Pattern
from fusekit.rewriting.price import nominal_shape, work_of_chain
from fusekit.runtimes import runtime
from fusekit.testing.strategies import relative_error
from tests.support.architectures import conv_chain, randomize
from tests.support.compare import report_of
from tests.support.graphs import captured, same_snapshot, snapshot

X = torch.rand(1, 3, 9, 8, generator=torch.Generator().manual_seed(0))


def outcomes(events: Any) -> list[tuple[str, str]]:
    return [(event.rewrite, str(event.outcome)) for event in events]


def drive(
    model: nn.Module, *passes: Rewrite, x: Tensor | None = X, target: str = "torch", **options: Any
) -> tuple[Driver, list[Event]]:
    driver = Driver(captured(randomize(model), x), runtime(target).rates, **options)
    return driver, driver.run([Stage("only", passes)])


def pair() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))


@dataclass(frozen=True)
class Wrong(Rewrite):
    """A law with a mistake: `fold-affine` by name and pattern, something else by its right-hand side."""

    name = "wrong"
    pattern = Compose(Affine, Conv)


class ForgottenShift(Wrong):
    def propose(self, a: Affine, c: Conv) -> Map:
        return replace(a @ c, bias=c.bias)


class ForgottenScaleOfBias(Wrong):
    def propose(self, a: Affine, c: Conv) -> Map:
        shift = a.along(-3, 4)[1]
        return replace(a @ c, bias=shift if c.bias is None else wide(c.bias) + shift)


class TransposedAxes(Wrong):
    def propose(self, a: Affine, c: Conv) -> Map:
        folded = a @ c
        return replace(folded, kernel=folded.kernel.transpose(-1, -2))


class FlippedKernel(Wrong):
    def propose(self, a: Affine, c: Conv) -> Map:
        folded = a @ c
        return replace(folded, kernel=folded.kernel.flip(-1))


class OffByOnePadding(Wrong):
    def propose(self, a: Affine, c: Conv) -> Map:
        return replace(a @ c, padding=tuple((low + 1, high + 1) for low, high in c.padding))


class ShiftedPadding(Wrong):
    """The output keeps its size: only the values tell."""

    def propose(self, a: Affine, c: Conv) -> Map:
        return replace(a @ c, padding=tuple((low + 1, high - 1) for low, high in c.padding))


class SlightlyOff(Wrong):
    """One tap off by 1e-8 of its neighbours: a float32 comparison sees nothing."""

    def propose(self, a: Affine, c: Conv) -> Map:
        folded = a @ c
        kernel = folded.kernel.clone()
        kernel[0, 0, 0, 0, 0] += 1e-8
        return replace(folded, kernel=kernel)


class RoundedTooEarly(Wrong):
    """Computed in half precision on the way."""

    def propose(self, a: Affine, c: Conv) -> Map:
        folded = a @ c
        return replace(folded, kernel=folded.kernel.half())


class OtherShape(Wrong):
    def propose(self, a: Affine, c: Conv) -> Map:
        folded = a @ c
        bias = None if folded.bias is None else folded.bias[:2]
        return replace(folded, kernel=folded.kernel[:, :2], bias=bias)


class FewerInputs(Wrong):
    """The proposal does not even run."""

    def propose(self, a: Affine, c: Conv) -> Map:
        folded = a @ c
        return replace(folded, kernel=folded.kernel[:, :, :2])


class NotANumber(Wrong):
    def propose(self, a: Affine, c: Conv) -> Map:
        folded = a @ c
        return replace(folded, kernel=folded.kernel * float("nan"))


WRONG = (
    ForgottenShift(),
    ForgottenScaleOfBias(),
    TransposedAxes(),
    FlippedKernel(),
    OffByOnePadding(),
    ShiftedPadding(),
    SlightlyOff(),
    RoundedTooEarly(),
    OtherShape(),
    FewerInputs(),
    NotANumber(),
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: type(wrong).__name__)
@pytest.mark.parametrize("x", [X, None], ids=["example", "no example"])
def test_a_wrong_law_is_rejected_and_leaves_no_trace(wrong: Rewrite, x: Tensor | None) -> None:
    graph = captured(randomize(pair()), x)
    before = snapshot(graph)
    noted = [known(node) for node in graph.nodes]
    # gain: a wrong proposal may also cost more, which is another reason to refuse it
    cheap = type("Cheap", (type(wrong),), {"gain": 100.0})()
    (event,) = Driver(graph).run([Stage("only", (cheap,))])
    assert event.outcome is Outcome.REJECTED
    assert event.error is not None and not event.error <= 1e-10
    assert event.where == "0 + 1"
    assert "rolled back" in event.reason
    assert same_snapshot(before, snapshot(graph))
    assert [replace(known(node), expression=None) for node in graph.nodes] == noted


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: type(wrong).__name__)
def test_strict_raises_instead(wrong: Rewrite) -> None:
    cheap = type("Cheap", (type(wrong),), {"gain": 100.0})()
    with pytest.raises(VerificationError, match=r"wrong at 0 \+ 1: .*rolled back"):
        optimize(randomize(pair()), X, passes=[cheap], strict=True)


def test_after_a_rejection_the_right_law_still_applies_under_the_same_names() -> None:
    model = randomize(pair())
    result: Any = optimize(model, X, passes=[ForgottenShift(), "fold-affine"])
    # the custom pass joins the last stage, so the right law has come first; alone, the wrong one is rejected
    assert ("fold-affine", "applied") in outcomes(result.report.events)
    graph = captured(model, X)
    events = Driver(graph).run([Stage("one", (ForgottenShift(),)), Stage("two", (FoldAffine(),))])
    assert outcomes(events) == [("wrong", "rejected"), ("fold-affine", "applied")]
    with torch.no_grad():
        assert relative_error(result(X).double(), model.double()(X.double())) < 1e-6


class Raises(Wrong):
    def propose(self, a: Affine, c: Conv) -> Map:
        raise ZeroDivisionError("a mistake in the law")


class NoSpelling(Wrong):
    def propose(self, a: Affine, c: Conv) -> Map:
        return a


@pytest.mark.parametrize("broken", [Raises(), NoSpelling()], ids=lambda broken: type(broken).__name__)
def test_a_law_that_breaks_is_rejected_too(broken: Rewrite) -> None:
    graph = captured(randomize(pair()), X)
    before = snapshot(graph)
    (event,) = Driver(graph).run([Stage("only", (broken,))])
    assert event.outcome is Outcome.REJECTED
    assert same_snapshot(before, snapshot(graph))


def test_inapplicable_is_a_refusal_not_a_rejection() -> None:
    class Never(Wrong):
        def propose(self, a: Affine, c: Conv) -> Map:
            raise Inapplicable("not on a Sunday")

    _, (event,) = drive(pair(), Never(), strict=True)
    assert event == Event("wrong", "0 + 1", Outcome.REFUSED, None, None, None, "not on a Sunday")


def test_events_carry_prices_places_and_errors() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Dropout(0.5))
    report: Any = optimize(randomize(model), X).report
    assert outcomes(report.applied) == [
        ("drop-identity", "applied"),
        ("fold-affine", "applied"),
        ("fold-conv", "applied"),
    ]
    assert [event.where for event in report.applied] == ["4", "0 + 1", "0 + 1 + 2"]
    for event in report.applied:
        assert event.cost_after < event.cost_before
        assert 0 <= event.error <= 1e-10
        assert event.reason == ""
    # each price is found again by hand
    bn = next(event for event in report.applied if event.rewrite == "fold-affine")
    conv_macs, norm_macs = 7 * 6 * 16 * 27, 7 * 6 * 16
    conv_bytes, norm_bytes = 4 * (3 * 72 + 16 * 42 + 16 * 27 + 16), 4 * (2 * 16 * 42 + 2 * 16)
    assert bn.cost_after == conv_macs + 4 * conv_bytes + 100_000
    assert bn.cost_before == bn.cost_after + norm_macs + 4 * norm_bytes + 100_000


def test_a_value_read_elsewhere_is_paid_for_on_both_sides() -> None:
    class Both(nn.Module):
        def __init__(self, share: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.share, self.inner, self.outer = share, nn.Conv2d(3, 32, 3), nn.Conv2d(32, 4, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            y = self.inner(x)
            return (self.outer(y), y) if self.share else (self.outer(y),)

    (alone,), (shared,) = (drive(Both(share), FoldConv())[1] for share in (False, True))
    assert alone.outcome is Outcome.APPLIED and shared.outcome is Outcome.REFUSED
    assert shared.cost_before == alone.cost_before
    assert alone.cost_after is not None and shared.cost_after is not None
    conv = Conv.from_torch(torch.empty(32, 3, 3, 3), torch.empty(32))
    assert shared.cost_after == alone.cost_after + conv.work((1, 3, 9, 8), 4, EAGER).price
    assert "must be computed anyway" in shared.reason


def test_a_chain_folds_to_its_fixpoint() -> None:
    """Everything linear in a row becomes one operator, whichever pass has to go first; again changes nothing."""
    torch.manual_seed(0)

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.last = nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = (self.last((self.bn(self.conv((x - 0.5) / 0.25)) * 3 + 1) / 7) - 2) * 0.5
            return result

    model = randomize(Chain())
    driver, events = drive(model, *(p for stage in STAGES for p in stage.passes))
    assert sum(node.op == "call_function" for node in driver.graph.nodes) == 1
    assert {event.rewrite for event in events if event.outcome is Outcome.APPLIED} == {
        "fold-affine",
        "fold-affine-in",
        "fold-conv",
    }
    before = snapshot(driver.graph)
    assert Driver(driver.graph).run([Stage("again", tuple(p for s in STAGES for p in s.passes))]) == []
    assert same_snapshot(before, snapshot(driver.graph))


@pytest.mark.parametrize("target", ["torch", "onnxruntime"])
@pytest.mark.parametrize(
    "pad", [(0, 1, 0, 1), (1, 2, 1, 2), (2, 0, 1, 1), (-1, 1, 0, 0), (-1, -1, -1, -1), (0, -1, 0, 0)]
)
@pytest.mark.parametrize("padding", [0, 1])
def test_pads_reach_a_fixpoint(pad: tuple[int, ...], padding: int, target: str) -> None:
    """A pad that has to be spelled as a pad again must not be folded again: no more commits than nodes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.ZeroPad2d(pad), nn.Conv2d(3, 4, 3, padding=padding))  # type: ignore[arg-type]
    limit = 0

    @dataclass(frozen=True)
    class Counted(FoldPad):
        def propose(self, c: Conv, pad: Any) -> Conv:
            nonlocal limit
            limit += 1
            assert limit < 10, "the same pad is folded for ever"
            return super().propose(c, pad)

    drive(model, Counted(), target=target)
    result: Any = optimize(model.eval(), X, target=target, strict=True)
    with torch.no_grad():
        assert relative_error(result(X).double(), model.double()(X.double())) < 1e-6


def test_custom_passes_names_options_and_what_is_unknown() -> None:
    model = randomize(pair())

    @dataclass(frozen=True)
    class Never(FoldAffine):
        below: int = 0

        def propose(self, a: Affine, c: Conv) -> Conv:
            if c.out_channels >= self.below:
                raise Inapplicable(f"{c.out_channels} channels, {self.below} asked for")
            return a @ c

    given: list[tuple[Any, str, str]] = [
        (["fold-affine"], "applied", ""),
        ("fold-affine", "applied", ""),
        ([FoldAffine()], "applied", ""),
        ([Never()], "refused", "4 channels, 0 asked for"),
        ([Never(below=5)], "applied", ""),
    ]
    for passes, outcome, reason in given:
        report: Any = optimize(model, X, passes=passes).report
        assert [(e.rewrite, str(e.outcome), e.reason) for e in report.events] == [("fold-affine", outcome, reason)]
    none: Any = optimize(model, X, passes=[]).report
    assert none.events == () and none.before == none.after
    with pytest.raises(FusekitError, match="no pass named 'fold-afine'; did you mean 'fold-affine'"):
        optimize(model, X, passes=["fold-afine"])
    own: Any = optimize(model, X, passes=[SlightlyOff()]).report
    assert outcomes(own.events) == [("wrong", "rejected")]


def test_the_runtime_decides_what_an_uneven_padding_costs() -> None:
    """torch needs a pad of its own in front, ONNX convolutions do not; cropping is an operator in both."""
    kernel = torch.empty(1, 4, 3, 3, 3)
    shape = (1, 3, 9, 8)

    def priced(low: int, high: int) -> list[float]:
        conv = Conv(kernel, None, (1, 1), ((low, high), (low, high)), (1, 1))
        return [conv.work(shape, 4, runtime(target).rates).price for target in ("torch", "onnxruntime")]

    in_torch, in_onnx = priced(0, 1)
    assert in_torch > in_onnx + 100_000
    assert len(set(priced(1, 1))) == 1
    assert (
        len(set(priced(-1, -1))) == 1
        and Conv(kernel, None, (1, 1), ((-1, 0),) * 2, (1, 1)).work(shape, 4, EAGER).operators == 2
    )

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, padding=1, bias=False), nn.Conv2d(4, 4, 1, padding=1)).eval()
    prices = {}
    for target in ("torch", "onnxruntime"):
        _, (event,) = drive(model, FoldConv(), target=target)
        prices[target] = event.cost_after
    assert prices["torch"] == prices["onnxruntime"]  # refused or not, the padding 1 + 2 · 1 is even here


def test_the_price_is_that_of_what_is_written() -> None:
    """A pad in front and the padding that has to be spelled so cost the same, in either runtime."""
    from fusekit.algebra import Pad

    conv = Conv(torch.empty(1, 4, 3, 3, 3), None, (1, 1), ((0, 0), (0, 0)), (1, 1))
    for target in ("torch", "onnxruntime"):
        for pad in (Pad(((0, 1), (0, 1))), Pad(((-1, 0), (0, 0)))):
            apart = work_of_chain((conv, pad), (1, 3, 9, 8), 4, runtime(target).rates)
            assert sum(w.price for w in apart) == (conv @ pad).work((1, 3, 9, 8), 4, runtime(target).rates).price


def test_a_nominal_shape_has_room_for_the_windows() -> None:
    """Without example inputs, a window larger than the usual size must not be priced at a negative output."""
    wide_window = Conv(torch.empty(1, 4, 3, 5000), None, (2,), ((0, 0),), (1,))
    after = Conv(torch.empty(1, 4, 4, 3000), None, (1,), ((0, 0),), (1,))
    shape = nominal_shape((after, wide_window))
    assert shape is not None and after.output_shape(wide_window.output_shape(shape))[-1] > 0
    assert nominal_shape((wide_window,)) == (1, 3, 8192)
    assert all(w.price > 0 for w in work_of_chain((after, wide_window), shape, 4, EAGER))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(3, 64, 5000, bias=False), nn.Conv1d(64, 2, 1))
    _, (event,) = drive(model, FoldConv(), x=None)
    assert event.outcome is Outcome.APPLIED


class Counting:
    """Counts how often a pattern is asked, and how often it answers."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.asked = self.matched = 0

    def match(self, graph: Any, output: Any) -> Match | None:
        self.asked += 1
        found = self.pattern.match(graph, output)
        self.matched += found is not None
        return found


def _asked(model: nn.Module, x: Tensor) -> tuple[int, int, int]:
    """(pattern questions, matches, nodes) for the fold stage."""
    counting = {name: Counting(PASSES[name].pattern) for name in ("fold-affine", "fold-affine-in", "fold-conv")}
    passes = [type(f"Counted{name}", (type(PASSES[name]),), {"pattern": p})() for name, p in counting.items()]
    graph = captured(randomize(model), x)
    nodes = len(list(graph.nodes))
    Driver(graph).run([Stage("fold", tuple(passes))])
    return sum(p.asked for p in counting.values()), sum(p.matched for p in counting.values()), nodes


def test_the_work_of_the_driver_grows_linearly() -> None:
    """Questions asked of the patterns per node stay the same for a chain four times as long."""
    short, long = (_asked(conv_chain(n, 2), torch.rand(1, 2, 5, 5)) for n in (30, 120))
    assert long[0] / long[2] <= 1.1 * short[0] / short[2]
    assert long[1] / long[2] <= 1.1 * short[1] / short[2]

    class Linear(nn.Module):
        """A chain of which everything folds into the first layer."""

        def __init__(self, n: int) -> None:
            super().__init__()
            self.conv, self.n = nn.Conv2d(2, 2, 1), n

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            for i in range(self.n):
                x = x * 1.01 + 0.1 * i
            return x

    short, long = (_asked(Linear(n), torch.rand(1, 2, 5, 5)) for n in (10, 40))
    assert long[0] / long[2] <= 1.1 * short[0] / short[2]


def test_the_report_is_deterministic() -> None:
    def run() -> tuple[Event, ...]:
        torch.manual_seed(0)
        model = nn.Sequential(conv_chain(6, 3), nn.Conv2d(3, 16, 3), nn.Conv2d(16, 3, 1), nn.Conv2d(3, 3, 3, padding=1))
        report: Any = optimize(randomize(model), X).report
        events: tuple[Event, ...] = report.events
        return events

    first = run()
    assert first and first == run() == run()


def test_progress_is_told_and_reaches_its_end() -> None:
    told: list[tuple[str, int, int]] = []
    optimize(randomize(conv_chain(60, 2)), torch.rand(1, 2, 5, 5), progress=lambda *step: told.append(step))
    assert {stage for stage, _, _ in told} >= {STAGES[0].name}
    assert all(0 < done <= total for _, done, total in told)


def test_new_constants_never_touch_the_old_ones() -> None:
    """Parameters of the model keep their identity, values and gradients' home; new ones train if the old did."""
    model = randomize(pair())
    before = {name: (id(value), value.detach().clone()) for name, value in model.state_dict(keep_vars=True).items()}
    result: Any = optimize(model, X)
    after = model.state_dict(keep_vars=True)
    assert all(
        id(after[name]) == number and torch.equal(after[name], value) for name, (number, value) in before.items()
    )
    assert all(parameter.requires_grad for parameter in result.parameters()) and list(result.parameters())
    frozen: Any = optimize(randomize(pair()).requires_grad_(False), X)
    assert not any(tensor.requires_grad for tensor in (*frozen.parameters(), *frozen.buffers()))


def test_a_rejected_wrong_law_leaves_the_model_right() -> None:
    model = randomize(pair())
    result: Any = optimize(model, X, passes=[TransposedAxes()])
    assert outcomes(result.report.events) == [("wrong", "rejected")]
    with torch.no_grad():
        assert torch.equal(result(X), model(X))


def test_what_does_nothing_to_a_constant_is_dropped() -> None:
    class Dropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.rand(4, 9))
            self.drop = nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            assert isinstance(x, Tensor)  # no symbolic trace: that would drop it on the way
            w: Tensor = self.drop(self.w)
            return x + w

    report = report_of(optimize(Dropped().eval(), torch.rand(2, 4, 9), measure=False))
    assert not report.of("rejected")
    assert "drop-identity" in [event.rewrite for event in report.applied]
