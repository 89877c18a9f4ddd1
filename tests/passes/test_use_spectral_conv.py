"""The pass use-spectral-conv: where it is applied and where refused, what it keeps of the model, and the way back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
from fusekit.algebra import Conv, SpectralConv
from fusekit.algebra.transforms import spectral_conv as spectral_conv_module
from fusekit.algebra.work import EAGER
from fusekit.ir.facts import facts
from fusekit.ir.read import read
from fusekit.nn import FFTConv1d, FFTConv2d, FFTConvTranspose1d
from fusekit.passes import STAGES, UseSpectralConv
from fusekit.report import Event, Outcome, Report
from fusekit.rewriting.verify import TOLERANCE
from fusekit.runtimes import runtime
from fusekit.testing.strategies import relative_error
from tests.support.architectures import randomize
from tests.support.compare import assert_same, normal
from tests.support.graphs import Calls, captured

NAME = "use-spectral-conv"


def events_of(report: Report) -> tuple[Event, ...]:
    return tuple(event for event in report.events if event.rewrite == NAME)


def chosen(model: nn.Module, x: Any, **options: Any) -> tuple[Any, tuple[Event, ...]]:
    """The optimized model and what this pass alone did to it; the same function, up to rounding in float64."""
    result: Any = fusekit.optimize(model, x, passes=[NAME], strict=True, **options)
    return result, events_of(result.report)


def noise(*shape: int) -> Tensor:
    return normal(*shape).float()


def long(channels: int = 4, taps: int = 1025, **options: Any) -> nn.Conv1d:
    """A convolution that pays: depthwise, 1,025 taps."""
    return nn.Conv1d(channels, channels, taps, groups=channels, **{"padding": taps // 2, **options})


X = noise(1, 4, 6000)
Case = tuple[Callable[[], nn.Module], Tensor]

TAKES: dict[str, Case] = {
    "a layer": (lambda: nn.Sequential(long()), X),
    "a layer without bias": (lambda: nn.Sequential(long(bias=False)), X),
    "'same', even": (lambda: nn.Sequential(long(taps=1024, padding="same")), X),
    "'valid'": (lambda: nn.Sequential(long(padding="valid")), X),
    "stride and dilation": (lambda: nn.Sequential(nn.Conv1d(4, 64, 400, 2, dilation=3)), X),
    "a padding mode": (lambda: nn.Sequential(long(padding_mode="reflect")), X),
    "a function": (lambda: Calls(lambda m, x: F.conv1d(x, m.w, groups=4), w=noise(4, 1, 1025)), X),
    "torch's function with a bias": (
        lambda: Calls(lambda m, x: torch.conv1d(x, m.w, m.b, 1, 5), w=noise(8, 4, 700), b=noise(8)),
        X,
    ),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose1d(4, 4, 1000, 4, 3, 1)), X[..., :1500]),
    "an image": (lambda: nn.Sequential(nn.Conv2d(32, 32, 31, padding=15, groups=32)), noise(1, 32, 64, 64)),
    "dense": (lambda: nn.Sequential(nn.Conv2d(16, 16, 21, padding=10)), noise(1, 16, 48, 48)),
    "without a batch": (lambda: nn.Sequential(long()), X[0]),
    "exported": (lambda: Calls(lambda m, x: m.f(x) if x.shape[2] > 1 else x, f=long()), X),
}


@pytest.mark.parametrize("name", TAKES)
def test_is_applied_where_it_pays(name: str) -> None:
    make, x = TAKES[name]
    model = randomize(make())
    result, events = chosen(model, x)
    assert [str(event.outcome) for event in events] == ["applied"]
    (event,) = events
    assert event.cost_before and event.cost_after and event.cost_after <= UseSpectralConv.gain * event.cost_before
    assert event.error is not None and event.error <= TOLERANCE
    layers = [m for m in result.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    assert len(layers) == 1 and type(layers[0]).__name__.startswith("FFT")
    with torch.no_grad():
        exact = model.double()(x.double())
        assert relative_error(result(x).double(), exact) < 2e-6
        assert_same(result.double(), model, x.double())
        shorter = x[..., : x.shape[-1] - 37]
        assert_same(result.double(), model, shorter.double())


LEAVES: dict[str, Case] = {
    "3x3": (lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1)), noise(1, 8, 56, 56)),
    "pointwise": (lambda: nn.Sequential(nn.Conv1d(4, 8, 1)), X),
    "24 taps": (lambda: nn.Sequential(nn.Conv1d(4, 4, 24)), X),
    "linear": (lambda: nn.Sequential(nn.Linear(100, 100)), noise(2, 100)),
    "weights that are computed from the input": (lambda: Calls(lambda m, x: F.conv1d(x, x[:, :, :1025])), X),
}

REFUSES: dict[str, tuple[Callable[[], nn.Module], Tensor | None, str]] = {
    "7x7 depthwise": (
        lambda: nn.Sequential(nn.Conv2d(32, 32, 7, padding=3, groups=32)),
        noise(1, 32, 28, 28),
        "does not pay",
    ),
    "64 taps on a short signal": (lambda: nn.Sequential(nn.Conv1d(4, 4, 64)), noise(1, 4, 70), "does not pay"),
    "one output position": (lambda: nn.Sequential(long(padding=0)), X[..., :1025], "does not pay"),
    "no example": (lambda: nn.Sequential(long()), None, "unknown: pass example inputs"),
}


def test_a_complex_convolution_is_made_real_first() -> None:
    model = Calls(lambda m, x: F.conv1d(x, m.w.to(torch.complex64), groups=4), w=noise(4, 1, 1025))
    x = X.to(torch.complex64)
    _, events = chosen(model, x)
    assert events and all(event.outcome is Outcome.APPLIED for event in events)


@pytest.mark.parametrize("name", LEAVES)
def test_small_kernels_are_not_even_looked_at(name: str) -> None:
    make, x = LEAVES[name]
    _, events = chosen(make(), x)
    assert events == ()


@pytest.mark.parametrize("name", REFUSES)
def test_is_refused_with_its_price_where_it_does_not_pay(name: str) -> None:
    make, x, reason = REFUSES[name]
    result, (event,) = chosen(make(), x)
    assert str(event.outcome) == "refused" and reason in event.reason
    assert not any(type(m).__name__.startswith("FFT") for m in result.modules())


def test_the_runtime_matters() -> None:
    """The same convolution at the same size is another question in ONNX Runtime; both prices fall with the kernel."""
    conv = Conv.from_torch(torch.zeros(32, 1, 31, 31), None, padding=((15, 15),) * 2, groups=32)
    shape = (1, 32, 56, 56)
    for target in ("torch", "onnxruntime"):
        ours = SpectralConv.of(conv).work(shape, 4, runtime(target).rates).price
        assert ours < conv.work(shape, 4, runtime(target).rates).price
        assert ours < SpectralConv.of(conv).work((1, 32, 112, 112), 4, runtime(target).rates).price
    assert (
        SpectralConv.of(conv).work(shape, 4, EAGER).price
        != SpectralConv.of(conv).work(shape, 4, runtime("onnxruntime").rates).price
    )


def test_names_flags_ties_and_the_rest_of_the_model_are_kept() -> None:
    """The layer stands at its path with its own parameters: names, values, requires_grad, and who else has them."""
    model = nn.Sequential(long(), nn.ReLU(), nn.Conv1d(4, 4, 3))
    model[0].weight.requires_grad_(False)
    result, _ = chosen(model, X)
    assert type(result.get_submodule("0")) is FFTConv1d and type(result.get_submodule("2")) is nn.Conv1d
    assert list(result.state_dict()) == list(model.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(result.state_dict().values(), model.state_dict().values(), strict=True)
    )
    flags = [parameter.requires_grad for _, parameter in result.named_parameters()]
    assert flags[1:] == [True] * 3 and len(flags) == 4


def test_a_layer_called_twice_stays_one_layer() -> None:
    model = Calls(lambda m, x: m.f(torch.relu(m.f(x))), f=long())
    result, events = chosen(model, X)
    assert len(events) == 2
    assert [name for name, _ in result.named_parameters()] == ["f.weight", "f.bias"]
    calls = [node.target for node in result.graph.nodes if node.op == "call_module" and node.target == "f"]
    assert len(calls) == 2 and type(result.f) is FFTConv1d


def test_a_weight_that_others_read_stays_tied() -> None:
    """The same weight in two calls, one of which pays and one of which does not."""
    model = Calls(lambda m, x: F.conv1d(x, m.w, groups=4) + F.conv1d(x[..., :1025], m.w, groups=4), w=noise(4, 1, 1025))
    result, events = chosen(model, X)
    assert sorted(str(event.outcome) for event in events) == ["applied", "refused"]
    assert len(list(result.parameters())) == 1


def test_hooks_keep_a_layer_as_it_is() -> None:
    model = nn.Sequential(long())
    seen: list[int] = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    result, events = chosen(model, X)
    assert events == ()
    seen.clear()
    with torch.no_grad():
        result(X)
    assert seen == [1]


def test_stands_last_after_what_folds() -> None:
    """A norm is folded before the transform is chosen, not left behind it."""
    *_, choose, mix = STAGES
    assert NAME in [rewrite.name for rewrite in choose.passes] and choose.contest and len(mix.passes) == 1
    model = randomize(nn.Sequential(long(), nn.BatchNorm1d(4))).eval()
    result: Any = fusekit.optimize(model, X)
    assert {e.rewrite for e in result.report.applied} == {"fold-affine", NAME}
    assert [type(m) for m in result.children()] == [FFTConv1d]
    with torch.no_grad():
        assert relative_error(result(X), model(X)) < 2e-6


def test_what_was_chosen_is_read_again() -> None:
    """Layers by FFT, a user's or ours, are captured as the maps they are, and stay."""
    mine = nn.Sequential(
        FFTConv1d(4, 4, 9, groups=4, padding="same", padding_mode="reflect"), nn.ReLU(), FFTConvTranspose1d(4, 2, 5, 2)
    )
    graph = captured(mine.eval())
    maps = [reading.map for node in graph.nodes if (reading := read(graph, node)) is not None]
    assert [type(m).__name__ for m in maps if not isinstance(m, Conv)].count("SpectralConv") == 2
    result: Any = fusekit.optimize(mine, X)
    assert [type(m) for m in result.children()][::2] == [FFTConv1d, FFTConvTranspose1d]
    again: Any = fusekit.optimize(result, X)
    assert again.code == result.code and not again.report.applied
    with torch.no_grad():
        assert relative_error(again(X), mine(X)) < 2e-6
    shaped = captured(mine.eval(), X)
    assert all(facts(node).rank == 3 for node in shaped.nodes if node.op == "call_function")


def test_a_user_who_wrote_fft_convolutions_gets_them_traced_by_torch_too() -> None:
    model = Calls(lambda m, x: torch.relu(m.f(x)), f=FFTConv2d(2, 2, 5))
    x = noise(1, 2, 9, 9)
    assert relative_error(torch.fx.symbolic_trace(model)(x).detach(), model(x).detach()) < 1e-6


def test_a_wrong_transform_is_rejected_and_rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that is off at the real size only: it is verified there, not at small sizes alone."""
    model = nn.Sequential(long()).eval()
    plain = spectral_conv_module.realize

    def off(geometry: Any, window: Any, channels: Any, size: Any, *rest: Any) -> Any:
        realized = plain(geometry, window, channels, size, *rest)
        if size != (6000,):
            return realized

        class Off:
            def __getattr__(self, name: str) -> Any:
                return getattr(realized, name)

            def __call__(self, *arguments: Any) -> Tensor:
                return realized(*arguments) * 1.001

        return Off()

    monkeypatch.setattr(spectral_conv_module, "realize", off)
    result: Any = fusekit.optimize(model, X)
    (event,) = events_of(result.report)
    assert str(event.outcome) == "rejected" and event.error is not None and 1e-4 < event.error < 1e-2
    assert type(result.get_submodule("0")) is nn.Conv1d


# what the user tolerates


def test_an_explicit_tolerance_holds_in_the_quiet_region_and_refuses_the_transform() -> None:
    """A spike of 1e4 over 1e-4: in the norm nobody sees the quiet region, a direct convolution gets it right."""
    model = randomize(nn.Sequential(long(bias=False)))
    result: Any = fusekit.optimize(model, X)
    assert fusekit.validate(model, result, X).ok
    strict = fusekit.validate(model, result, X, tolerance=1e-4)
    assert not strict.ok and strict.failures[0].startswith("quiet region")
    assert fusekit.validate(model, model, X, tolerance=1e-4).ok
    safe: Any = fusekit.optimize(model, X, tolerance=1e-4)
    (event,) = events_of(safe.report)
    assert str(event.outcome) == "rejected" and "quiet region" in event.reason
    assert type(safe.get_submodule("0")) is nn.Conv1d
    with pytest.raises(fusekit.VerificationError, match="quiet region"):
        fusekit.optimize(model, X, tolerance=1e-4, strict=True)


@pytest.mark.parametrize("tolerance", [None, 1e-4])
def test_export_falls_back_too(tmp_path: Path, tolerance: float | None) -> None:
    model = randomize(nn.Sequential(long(bias=False)))
    verdict = fusekit.export(model, tmp_path / "model.onnx", X, tolerance=tolerance)
    assert verdict.ok and verdict.report is not None
    (event,) = events_of(verdict.report)
    operators = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert "DFT" not in operators
    if tolerance is None:
        assert str(event.outcome) == "applied" and "Conv" not in operators and "MatMul" in operators
        assert verdict.dynamic_axes["input"] == (0, 2)
    else:
        assert str(event.outcome) == "rejected" and "quiet region" in event.reason and "Conv" in operators
