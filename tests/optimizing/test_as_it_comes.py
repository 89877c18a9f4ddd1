"""Models and surroundings as they come: modes of torch, wrappers, TorchScript, quantized layers, what cannot be copied.

Each is optimized around, or refused in one sentence; nothing raises an error of torch's own.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.errors import CaptureError, FusekitError
from fusekit.validation import validate
from tests.support.architectures import randomize
from tests.support.compare import call, report_of

X = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def pairs() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)]
    return randomize(nn.Sequential(*layers)).eval()  # type: ignore[return-value]


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())


# --- modes of torch ----------------------------------------------------------------------------------------------


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


MODES: dict[str, Any] = {
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("example", [False, True])
@pytest.mark.parametrize("mode", list(MODES))
def test_the_mode_of_the_caller_changes_nothing(mode: str, example: bool) -> None:
    model = pairs()
    context: AbstractContextManager[Any] = MODES[mode]()
    with context:
        fast = fusekit.optimize(model, X if example else None, measure=False)
    assert norms(fast) == 0
    assert all(p.requires_grad and not p.is_inference() and p.device.type == "cpu" for p in fast.parameters())
    assert validate(model, fast, X).ok
    fast(X).sum().backward()


def test_inputs_and_weights_made_in_inference_mode(tmp_path: Path) -> None:
    with torch.inference_mode():
        model, x = pairs(), X.clone()
        fast = fusekit.optimize(model, x, measure=False)
        assert fusekit.export(model, tmp_path / "m.onnx", x, measure=False).ok
        assert validate(model, fast, x).ok
    assert norms(fast) == 0


# --- wrappers ----------------------------------------------------------------------------------------------------


class Distributed(nn.parallel.DistributedDataParallel):
    """As torch makes it in a group of processes, which no test needs."""

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        self.module = module


@pytest.mark.parametrize("wrap", [nn.DataParallel, Distributed, lambda m: torch.compile(m, backend="eager")])
@pytest.mark.parametrize("inside", [False, True])
def test_wrappers_are_taken_off_and_told(wrap: Any, inside: bool) -> None:
    plain = pairs()
    model: Any = wrap(plain)
    model = nn.Sequential(model, nn.ReLU()).eval() if inside else model
    before = dict(model.named_modules())
    fast = fusekit.optimize(model, X, measure=False)
    assert norms(fast) == 0 and dict(model.named_modules()) == before
    assert any("wrap" in note for note in report_of(fast).notes)
    want = call(plain, X)
    assert torch.allclose(call(fast, X), torch.relu(want) if inside else want, atol=1e-5)


def test_a_module_compiled_in_place_is_optimized() -> None:
    model = pairs()
    model.compile(backend="eager")
    assert norms(fusekit.optimize(model, X, measure=False)) == 0


# --- TorchScript and quantized modules -----------------------------------------------------------------------------


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).eval())


def frozen() -> nn.Module:
    return torch.jit.freeze(scripted())  # type: ignore[no-any-return]


def traced() -> nn.Module:
    made: nn.Module = torch.jit.trace(nn.Sequential(nn.Conv2d(4, 4, 1)).eval(), torch.randn(1, 4, 5, 5))
    return made


def dynamic() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(100, 5)).eval()
    made: nn.Module = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    return made


def faked() -> nn.Module:
    fake = torch.ao.quantization.FakeQuantize()
    fake(torch.randn(1, 4, 5, 5))
    return fake.eval()


def learning() -> nn.Module:
    qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    layer = torch.ao.nn.qat.Conv2d(4, 4, 1, qconfig=qconfig)
    layer(torch.randn(1, 4, 5, 5))
    return layer.eval().apply(torch.ao.quantization.disable_observer)


def static() -> nn.Module:
    quant = torch.ao.quantization
    model = nn.Sequential(quant.QuantStub(), nn.Conv2d(4, 4, 1), quant.DeQuantStub()).eval()
    model.qconfig = quant.get_default_qconfig("fbgemm")
    quant.prepare(model, inplace=True)
    model(torch.randn(1, 4, 5, 5))
    made: nn.Module = quant.convert(model)
    return made


CLOSED = [scripted, frozen, traced, dynamic, faked, learning, static]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("example", [None, X])
@pytest.mark.parametrize("closed", CLOSED)
def test_what_is_closed_is_left_and_the_rest_folded(closed: Any, example: Tensor | None) -> None:
    child = closed()
    model = nn.Sequential(pairs(), child).eval() if closed is not frozen else nn.Sequential(*pairs(), child)
    fast = fusekit.optimize(model, example, measure=False)
    assert norms(fast) == 0
    reasons = " ".join(event.reason for event in report_of(fast).refused)
    assert "TorchScript" in reasons or "quantized" in reasons
    assert validate(model, fast, X).ok
    whole = fusekit.optimize(child, measure=False)
    inner = torch.randn(2, 4, 5, 5)
    assert torch.equal(call(whole, inner), call(child, inner))


def test_torchscript_where_only_an_export_would_follow_the_forward() -> None:
    """An export would fix what TorchScript does at the example's sizes. A trace follows the branch that the example
    takes, and what is returned refuses inputs that would take the other one."""

    class Bent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.script = pairs(), scripted()

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.script(y) if y.shape[2] > 2 else y  # type: ignore[no-any-return]

    model = Bent().eval()
    fast = fusekit.optimize(model, X, measure=False)
    assert norms(fast) == 0
    for x in (X, X[:, :, 1:]):
        assert torch.allclose(call(fast, x), call(model, x), atol=1e-5)
    with pytest.raises(ValueError, match="captured for inputs with"):
        call(fast, X[:, :, :6, :6])
    whole = fusekit.optimize(model, measure=False)  # without an example, the parts: for all sizes
    assert torch.allclose(call(whole, X[:, :, :6, :6]), call(model, X[:, :, :6, :6]), atol=1e-5)


# --- what is refused in one sentence ---------------------------------------------------------------------------------


def one_sentence(error: BaseException) -> bool:
    text = str(error)
    return bool(text.strip()) and "\n" not in text and "Traceback" not in text


def test_a_model_that_cannot_be_copied() -> None:
    model = pairs()
    model[0].lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(CaptureError, match=r"0\.lock") as caught:
        fusekit.optimize(model)
    assert one_sentence(caught.value) and isinstance(caught.value.__cause__, TypeError)


def test_a_model_without_values() -> None:
    with pytest.raises(CaptureError, match="meta device"):
        fusekit.optimize(pairs().to("meta"))


def test_a_model_nested_beyond_the_recursion_limit() -> None:
    model: nn.Module = pairs()
    for _ in range(1500):
        model = nn.Sequential(model)
    with pytest.raises(FusekitError, match="recursion limit") as caught:
        fusekit.optimize(model)
    assert isinstance(caught.value.__cause__, RecursionError)


@pytest.mark.parametrize("what", ["optimize", "export", "validate"])
def test_an_error_of_someone_else_is_told_and_kept(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks within: one of ours, one sentence, the other as its cause."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise KeyError("first line\nsecond line")

    calls: dict[str, Any] = {
        "optimize": lambda: fusekit.optimize(pairs(), X),
        "export": lambda: fusekit.export(pairs(), tmp_path / "m.onnx", X),
        "validate": lambda: validate(pairs(), pairs(), X),
    }
    monkeypatch.setattr("fusekit.validation.reference.evaluation_copy", broken)
    with pytest.raises(FusekitError) as caught:
        calls[what]()
    assert one_sentence(caught.value)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, KeyError):
        cause = cause.__cause__
    assert cause is not None


def test_an_interruption_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("fusekit.optimizing.promise.own_copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fusekit.optimize(pairs())


# --- sizes of zero -----------------------------------------------------------------------------------------------


EMPTY: dict[str, tuple[Any, Tensor]] = {
    "batch": (pairs, X[:0]),
    "no features": (lambda: nn.Sequential(nn.Linear(0, 4), nn.Linear(4, 3)), torch.randn(2, 0)),
    "nothing between": (lambda: nn.Sequential(nn.Linear(3, 0), nn.Linear(0, 3)), torch.randn(2, 3)),
    "no steps": (lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 4)), torch.randn(2, 0, 3)),
    "recurrent": (lambda: nn.LSTM(3, 4, batch_first=True), torch.randn(0, 5, 3)),
    "flat": (lambda: nn.Sequential(*pairs(), nn.Flatten(), nn.Linear(100, 2)), X[:0]),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", list(EMPTY))
def test_sizes_of_zero_give_what_the_model_gives(name: str, tmp_path: Path) -> None:
    make, x = EMPTY[name]
    model = make().eval()
    for example in (None, x):
        fast = fusekit.optimize(model, example, measure=False)
        ours, theirs = call(fast, x), call(model, x)
        ours, theirs = (ours[0], theirs[0]) if isinstance(theirs, tuple) else (ours, theirs)
        torch.testing.assert_close(ours, theirs)
    try:
        assert fusekit.export(model, tmp_path / "m.onnx", x, measure=False).ok
    except FusekitError as refusal:
        assert one_sentence(refusal)
