"""Each patch holds in the thread that asks for it, in no other, and no longer than it is asked for."""

import builtins
import logging
import random
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch._decomp import decomposition_table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import _symbolic_trace
from torch.fx.experimental.symbolic_shapes import ShapeEnv, StatelessSymbolicContext
from torch.onnx._internal.exporter._registration import ONNXRegistry
from torch.utils import _python_dispatch

import fusekit
from fusekit.errors import FusekitError
from fusekit.model import computing_threads, quiet
from fusekit.model.patches import (
    calls_answered,
    comparisons_noted,
    free_steps,
    operators_read_once,
    symbolic_len,
    traced_here,
    types_told,
    unprinted,
    unwarned,
)
from fusekit.model.random_numbers import draws_undone
from tests.support.threads import elsewhere

aten = torch.ops.aten
X = torch.rand(2, 3, 8, 8)


class Proxy(fx.Proxy):
    """Of a class that is not asked for its type."""


def fake(shape: tuple[int, ...] = (5, 3)) -> Any:
    """A tensor whose first size is a symbol."""
    mode = FakeTensorMode(shape_env=ShapeEnv())
    sizes: Any = [torch.fx.experimental.symbolic_shapes.DimDynamic.DYNAMIC] + [
        torch.fx.experimental.symbolic_shapes.DimDynamic.STATIC
    ] * (len(shape) - 1)
    return mode.from_tensor(torch.ones(shape), symbolic_context=StatelessSymbolicContext(sizes))


FAKE = fake()
PROXY = Proxy(fx.Node(fx.Graph(), "x", "placeholder", "x", (), {}), fx.Tracer())
NOTED: list[int] = []
ASKED = [3, 4]


def logs_nothing() -> bool:
    return not logging.getLogger("someone").isEnabledFor(logging.CRITICAL)


def warns_nothing() -> bool:
    try:
        warnings.warn("seen", UserWarning, stacklevel=1)
    except UserWarning:
        return False
    return True


def refuses_types() -> bool:
    try:
        return bool(isinstance(PROXY, int))
    except TypeError:
        return True


def by_name(name: str, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    return name if args and args[0] is ASKED else plain(*args, **kwargs)


def answers_by_name() -> bool:
    return [len(ASKED), max(ASKED), torch.zeros(ASKED)] == ["len", "max", "zeros"]


def has_symbolic_len() -> bool:
    return isinstance(len(FAKE), torch.SymInt)


def notes_comparisons() -> bool:
    before = len(NOTED)
    assert FAKE.shape[0] != 9
    return len(NOTED) > before


def leaves_steps_free() -> bool:
    """The plain kernel asks for the weights, of which there are none."""
    try:
        decomposition_table[aten.gru.input](FAKE[None], FAKE[None], [], True, 1, 0.0, False, False, False)
    except (IndexError, RuntimeError, ValueError, TypeError):
        return False
    return True


def draws_in_vain() -> bool:
    before = torch.get_rng_state()
    torch.rand(1)
    return torch.equal(before, torch.get_rng_state())


def computes_in_three() -> bool:
    return torch.get_num_threads() == 3


def prints_nothing() -> bool:
    return sys.stdout.write("") == 0 and sys.stdout.write(" ") == 1 and type(sys.stdout).__name__ == "_Silent"


def wraps_here() -> bool:
    before = _symbolic_trace._is_fx_tracing_flag
    try:
        return type(_symbolic_trace._Patcher()).__name__ == "OwnPatcher"
    finally:
        _symbolic_trace._is_fx_tracing_flag = before


Patch = Callable[[], AbstractContextManager[Any]]
PATCHES: dict[str, tuple[Patch, Callable[[], bool]]] = {
    "quiet": (quiet, logs_nothing),
    "quiet, warnings": (quiet, warns_nothing),
    "unwarned": (unwarned, warns_nothing),
    "traced_here": (traced_here, wraps_here),
    "types_told": (lambda: types_told(frozenset({Proxy}), lambda value: NotImplemented), refuses_types),
    "calls_answered": (lambda: calls_answered(by_name), answers_by_name),
    "symbolic_len": (symbolic_len, has_symbolic_len),
    "comparisons_noted": (lambda: comparisons_noted(lambda *told: NOTED.append(1)), notes_comparisons),
    "free_steps": (free_steps, leaves_steps_free),
    "draws_undone": (draws_undone, draws_in_vain),
    "computing_threads": (lambda: computing_threads(3), computes_in_three),
}


def process() -> dict[str, Any]:
    """What belongs to the process and might be changed."""
    kernels = {f"{op} {k}": v for op in (aten.lstm.input, aten.gru.input) for k, v in op.py_kernels.items()}
    sizes = {name: getattr(torch.SymInt, name) for name in ("__eq__", "__ne__", "__lt__", "__ge__", "__bool__")}
    modes = {name: value for name, value in vars(_python_dispatch).items() if name.startswith("_is_in_")}
    return kernels | sizes | modes | {
        "len": (builtins.len, builtins.max, builtins.min, torch.zeros, torch.arange),
        "methods": (Tensor.__getitem__, Tensor.expand, "expand" in vars(Tensor), "__getitem__" in vars(Tensor)),
        "isinstance": builtins.isinstance,
        "decomposition": (decomposition_table.get(aten.lstm.input), decomposition_table.get(aten.gru.input)),
        "logged": (logging.Logger.isEnabledFor, logging.root.manager.disable, logging.getLogger("torch").level),
        "warned": (list(warnings.filters), warnings.showwarning, warnings.warn),
        "modules": (nn.Module.__call__, nn.Module.__getattr__),
        "fx": (_symbolic_trace._Patcher, _symbolic_trace._is_fx_tracing_flag, _symbolic_trace.CURRENT_PATCHER),
        "streams": (sys.stdout, sys.stderr),
        "torch": (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()),
        "backends": (torch.backends.mkldnn.enabled, torch.is_inference_mode_enabled()),
        "drawn": (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()),  # type: ignore[index]
    }  # fmt: skip


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_holds_here_and_now(name: str) -> None:
    patch, holds = PATCHES[name]
    assert not holds() and not elsewhere(holds)
    before = process()
    with patch():
        assert holds() and not elsewhere(holds)
        with patch():
            assert holds() and not elsewhere(holds)
        assert holds() and not elsewhere(holds)
    assert not holds()
    if name != "draws_undone":  # asked in vain, which is a draw
        before["drawn"] = process()["drawn"]
    for stop in (ValueError, KeyboardInterrupt):
        with pytest.raises(stop), patch(), patch():
            raise stop
        assert not holds()
    before["drawn"] = process()["drawn"]
    assert process() == before


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("name", PATCHES)
def test_it_holds_until_the_last_thread_has_left(name: str) -> None:
    """Two threads, entered and left crosswise."""
    patch, holds = PATCHES[name]
    entered, leave = threading.Event(), threading.Event()

    def other() -> tuple[bool, bool]:
        with patch():
            entered.set()
            assert leave.wait(30)
            return holds(), True

    with ThreadPoolExecutor(1) as pool:
        mine = patch()
        mine.__enter__()
        theirs = pool.submit(other)
        assert entered.wait(30)
        mine.__exit__(None, None, None)
        assert not holds()
        leave.set()
        assert theirs.result() == (True, True)
    assert not holds()


def test_operators_are_read_once_and_what_an_export_adds_is_its_own() -> None:
    plain, before = ONNXRegistry.from_torchlib(), vars(ONNXRegistry)["from_torchlib"]
    with operators_read_once():
        first = ONNXRegistry.from_torchlib()
        first.register_op(aten.relu.default, lambda x: x)
        second = ONNXRegistry().from_torchlib()
    assert vars(ONNXRegistry)["from_torchlib"] is before
    assert len(first.get_decomps(aten.relu.default)) == 1 + len(second.get_decomps(aten.relu.default))
    assert second.get_decomps(aten.add.Tensor)[0] is first.get_decomps(aten.add.Tensor)[0]
    ways = {name: [way.onnx_function for way in each] for name, each in plain.functions.items()}
    assert {name: [way.onnx_function for way in each] for name, each in second.functions.items()} == ways
    assert second.opset_version == plain.opset_version


@pytest.mark.filterwarnings("error::UserWarning")
def test_no_filter_is_missed_while_another_thread_comes_and_goes() -> None:
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            with unwarned():
                pass

    with ThreadPoolExecutor(1) as pool:
        pool.submit(come_and_go)
        try:
            assert not any(warns_nothing() for _ in range(5000))
        finally:
            done.set()


def test_prints_of_one_thread_are_lost(capsys: pytest.CaptureFixture[str]) -> None:
    with unprinted():
        print("lost")
        elsewhere(lambda: print("kept"))
    print("kept")
    assert capsys.readouterr().out == "kept\nkept\n"


def test_a_thread_that_begins_meanwhile_computes_in_as_many_as_ever() -> None:
    number = elsewhere(torch.get_num_threads)
    with computing_threads(number + 1):
        assert torch.get_num_threads() == number + 1 and elsewhere(torch.get_num_threads) == number
    assert elsewhere(torch.get_num_threads) == number


class Meets(nn.Module):
    """While it is traced another thread runs a model of its own."""

    def __init__(self, meanwhile: Callable[[], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.meanwhile = meanwhile

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        elsewhere(self.meanwhile)
        return x if len(x) > 1 else x * 2


def test_models_that_others_run_are_not_traced() -> None:
    model, seen = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).eval(), []
    expected = model(X)

    def meanwhile() -> None:
        seen.append(torch.equal(model(X), expected))
        seen.append(not _symbolic_trace.is_fx_tracing() and isinstance(len(X), int))
        seen.append(torch.zeros(1).dtype == torch.float32 and torch.get_num_threads() == number)

    number = elsewhere(torch.get_num_threads)
    fusekit.optimize(Meets(meanwhile), X, measure=False)
    assert len(seen) > 6 and all(seen)


class Left:
    """Calls that are left, counted over all copies of a model."""

    number = 0

    def __deepcopy__(self, memo: Any) -> "Left":
        return self


class Stops(nn.Module):
    """Raises once its time has come."""

    def __init__(self, error: type[BaseException], calls: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.error, self.left = error, Left()
        self.left.number = calls

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        self.left.number -= 1
        if self.left.number < 0:
            raise self.error
        return x if x.shape[0] > 2 else x + 1


def branching() -> nn.Module:
    return Stops(ValueError, 1000).eval()


@pytest.mark.parametrize("make", [lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), branching])
def test_the_process_is_as_it_was_afterwards(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = make()
    fusekit.optimize(model, X)  # torch loads parts of itself when they are first needed
    before = process()
    fusekit.optimize(model, X)
    assert process() == before
    assert fusekit.export(model, tmp_path / "net.onnx", X).ok
    assert process() == before


@pytest.mark.parametrize("calls", (0, 5))
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_process_is_as_it_was_after_what_fails(error: type[BaseException], calls: int, tmp_path: Path) -> None:
    model = Stops(error, calls).eval()
    before = process()
    for run in (lambda: fusekit.optimize(model, X), lambda: fusekit.export(model, tmp_path / "net.onnx", X)):
        model.left.number = calls
        try:
            run()
        except (FusekitError, RuntimeError, KeyboardInterrupt):
            pass
        assert process() == before
