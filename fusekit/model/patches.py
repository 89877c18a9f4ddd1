"""All temporary changes that fusekit makes to Python and torch.

Each one is a context manager. It holds only for the thread that enters it, and it is undone at the end of the `with`
block, also after an exception. No other file of fusekit changes global state.
"""

import builtins
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from copy import copy
from threading import RLock, get_ident
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._decomp import decomposition_table
from torch._dynamo import trace_rules
from torch._functorch import aot_autograd
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import _symbolic_trace
from torch.onnx._internal.exporter._registration import ONNXRegistry

from fusekit.model.own_patcher import OwnPatcher
from fusekit.model.per_thread import Function, PerThread
from fusekit.model.renamed import Renaming

_LEN = PerThread(builtins, "len")
_ISINSTANCE = PerThread(builtins, "isinstance")
_IS_LOGGED = PerThread(logging.Logger, "isEnabledFor")
_PATCHER = PerThread(_symbolic_trace, "_Patcher")
_DRAWS_KEPT = PerThread(aot_autograd, "preserve_rng_state")
_FILTER_MAKERS = [PerThread(warnings, name) for name in ("simplefilter", "filterwarnings", "resetwarnings")]
_ENTERED, _LEFT = (PerThread(warnings.catch_warnings, name) for name in ("__enter__", "__exit__"))


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings and log messages of torch: while it traces, they concern only torch itself. Exceptions are
    still raised."""
    with unwarned(), _IS_LOGGED.changed(lambda plain: lambda logger, level: False):
        yield


# ---------------------------------------------------------------- warnings
_FILTERS = RLock()
_unwarned: list[int] = []  # threads, one entry for each use
_last: list[Any] = []  # keeps the last list of filters that held ours alive: another thread may still be reading it


class _Unwarned(type):
    """The metaclass of `_Any`. Python checks whether a warning is a subclass of a filter's category; this check is true
    for every warning in the threads that asked for silence, and false in others."""

    def __subclasscheck__(cls, category: type) -> bool:
        return get_ident() in _unwarned


class _Any(Warning, metaclass=_Unwarned):
    """A category that matches all warnings of the threads that asked for silence."""


_FILTER: Any = ("ignore", None, _Any, None, 0)


@contextmanager
def unwarned() -> Iterator[None]:
    """No warnings in this thread. `warnings.catch_warnings` would silence all threads, so a filter of our own is used.

    Inside, calls of torch to `catch_warnings` do nothing, because no warning is left to silence. The exception is
    `catch_warnings(record=True)`, which works as usual.
    """
    python: Any = warnings
    thread = get_ident()
    depth = _unwarned.count(thread)
    try:
        with _FILTERS:
            _unwarned.append(thread)
            if not any(entry is _FILTER for entry in python.filters):
                python.filters.insert(0, _FILTER)  # a thread that reads the list now only reads one entry twice
        with ExitStack() as stack:
            recording: list[Any] = []
            for place in _FILTER_MAKERS:
                stack.enter_context(place.changed(lambda plain: _if(recording, plain)))
            stack.enter_context(_ENTERED.changed(lambda plain: _entering(recording, plain)))
            stack.enter_context(_LEFT.changed(lambda plain: _leaving(recording, plain)))
            yield
    finally:
        with _FILTERS:
            if _unwarned.count(thread) > depth:
                _unwarned.remove(thread)
            if not _unwarned:
                _last[:] = [python.filters]  # not removed in place: a thread that reads the list would miss an entry
                python.filters = [entry for entry in python.filters if entry is not _FILTER]


def _if(recording: list[Any], plain: Function) -> Function:
    return lambda *args, **kwargs: plain(*args, **kwargs) if recording else None


def _entering(recording: list[Any], plain: Function) -> Function:
    """`catch_warnings` works only if it records warnings, not if it silences them."""

    def enter(caught: Any) -> Any:
        if not caught._record:
            return None
        recording.append(caught)
        return plain(caught)

    return enter


def _leaving(recording: list[Any], plain: Function) -> Function:
    def leave(caught: Any, *error: Any) -> None:
        if any(each is caught for each in recording):
            recording[:] = [each for each in recording if each is not caught]
            plain(caught, *error)

    return leave


# ---------------------------------------------------------------- torch.fx
@contextmanager
def traced_here() -> Iterator[None]:
    """torch.fx's patches hold for this thread only, so modules that other threads run are not traced.

    Also, torch does not restore the global random state after a trace. The trace draws no random numbers, and
    restoring would take back what other threads drew meanwhile.
    """
    with _PATCHER.changed(lambda plain: OwnPatcher), _DRAWS_KEPT.changed(lambda plain: nullcontext):
        yield


@contextmanager
def types_told(kinds: frozenset[type], sample: Callable[[Any], Any]) -> Iterator[None]:
    """`isinstance`, called by code outside torch and fusekit on a value of one of the `kinds`, answers for
    `sample(value)`. If that is NotImplemented, because the type is not known, TypeError is raised: for a proxy the
    answer would be wrong, and the trace would silently take the wrong branch."""

    def watching(plain: Function) -> Function:
        def watched(value: Any, asked: Any, /) -> Any:
            if type(value) not in kinds or asked is fx.Proxy:
                return plain(value, asked)
            asker = str(sys._getframe(2).f_globals.get("__name__", ""))
            if asker.startswith(("torch.", "fusekit.")):
                return plain(value, asked)
            like = sample(value)
            if like is NotImplemented:
                raise TypeError("forward asks for the type of a traced value, which is only known when it runs")
            return plain(like, asked)

        return watched

    with _ISINSTANCE.changed(watching):
        yield


_DEAF = [_LEN, *(PerThread(builtins, name) for name in ("max", "min"))]
_DEAF += [PerThread(torch, name) for name in ("zeros", "ones", "empty", "full", "arange", "linspace", "eye")]
_DEAF += [PerThread(Tensor, name) for name in ("__getitem__", "expand")]


@contextmanager
def calls_answered(answer: Callable[[str, Function, tuple[Any, ...], dict[str, Any]], Any]) -> Iterator[None]:
    """Functions that do not ask their arguments whether they are traced: answer(name, plain, args, kwargs) speaks for
    them. Sizes are given to them, and numbers computed from sizes."""

    def answering(name: str) -> Callable[[Function], Function]:
        return lambda plain: lambda *args, **kwargs: answer(name, plain, args, kwargs)

    with ExitStack() as stack:
        for place in _DEAF:
            stack.enter_context(place.changed(answering(place.name)))
        yield


def _always(function: Function) -> Callable[[Function], Function]:
    return lambda plain: function


@contextmanager
def methods_renamed(root: nn.Module, renaming: Renaming) -> Iterator[None]:
    """Methods of the classes of a module's parts are their copies by `renaming`."""
    with ExitStack() as stack:
        for cls in dict.fromkeys(cls for module in root.modules() for cls in type(module).__mro__):
            for name, value in list(vars(cls).items()):
                if (copied := renaming.of(value)) is not None:
                    stack.enter_context(PerThread(cls, name).changed(_always(copied)))
        yield


# ---------------------------------------------------------------- torch.export
@contextmanager
def symbolic_len() -> Iterator[None]:
    """`len(tensor)` returns `tensor.shape[0]`, a symbolic size, for tensors that are traced.

    Python requires that `__len__` returns an int, so torch.export would make the traced size a constant, without a
    guard, and the program would be wrong at every other size. Nothing changes for values that are not traced.
    """
    trace_rules.is_builtin_callable(len)  # torch.compile fills its table of builtins once; do it before `len` changes

    def symbolic(plain: Function) -> Function:
        return lambda value, /: value.shape[0] if isinstance(value, FakeTensor) and value.dim() else plain(value)

    with _LEN.changed(symbolic):
        yield


_SIZES = {name: PerThread(torch.SymInt, name) for name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")}
_TRUTH = PerThread(torch.SymInt, "__bool__")


@contextmanager
def comparisons_noted(note: Callable[[str, Any, Any, str], None]) -> Iterator[None]:
    """Report every comparison of a symbolic size by calling `note(method, size, other, name)`, where `name` is the
    Python module that compares. `bool(size)` is reported as `__ne__` with 0."""

    def asker() -> str:  # the caller of the comparison: three frames above `asker`, `compare` and `either`
        return str(sys._getframe(3).f_globals.get("__name__", ""))

    def noting(method: str) -> Callable[[Function], Function]:
        def made(plain: Function) -> Function:
            def compare(size: Any, other: Any) -> Any:
                note(method, size, other, asker())
                return plain(size, other)

            return compare

        return made

    def truth(plain: Function) -> Function:
        def asked(size: Any) -> bool:
            note("__ne__", size, 0, asker())
            return bool(plain(size))

        return asked

    with ExitStack() as stack:
        for method, place in _SIZES.items():
            stack.enter_context(place.changed(noting(method)))
        stack.enter_context(_TRUTH.changed(truth))
        yield


_RECURRENT: list[Any] = [torch.ops.aten.lstm.input, torch.ops.aten.gru.input]
_COMPOSITE: Any = torch._C.DispatchKey.CompositeImplicitAutograd
# torch looks up the shape function of a recurrent operator in one of these tables
_TABLES = [(operator.py_kernels, _COMPOSITE) for operator in _RECURRENT] + [
    (decomposition_table, operator) for operator in _RECURRENT
]
_STEPS = [PerThread(table, entry) for table, entry in _TABLES if entry in table]


@contextmanager
def free_steps() -> Iterator[None]:
    """While tracing, the output shape of an LSTM or GRU is computed from the shapes of its arguments.

    torch would run the layer step by step instead, which fixes the number of steps to that of the example.
    """

    def shaped(kernel: Function) -> Function:
        def output(x: Tensor, state: Any, weights: Any, bias: bool, layers: int, *rest: Any) -> Any:
            if type(x) in (Tensor, nn.Parameter):  # a constant of the model: its values are needed, not only its shape
                return kernel(x, state, weights, bias, layers, *rest)
            states = [state] if isinstance(state, Tensor) else state
            width = states[0].shape[-1] * (2 if rest[2] else 1)
            return x.new_empty(*x.shape[:-1], width), *map(torch.empty_like, states)

        return output

    try:
        with ExitStack() as stack:
            for place in _STEPS:
                stack.enter_context(place.changed(shaped))
            _forget_kernels()
            yield
    finally:
        _forget_kernels()


def _forget_kernels() -> None:
    for operator in _RECURRENT:
        operator._dispatch_cache.clear()


# ---------------------------------------------------------------- torch.onnx
_TABLE_OF_OPERATORS = PerThread(ONNXRegistry, "from_torchlib")
_tables: dict[str, ONNXRegistry] = {}  # keyed by the arguments of the call


@contextmanager
def operators_read_once() -> Iterator[None]:
    """torch.onnx reads its table of 500 operators only at the first export.

    By default it parses their source text anew for each export, which is most of the time for a small network (0.7 s
    of 1.1 s). Each export gets a copy of the table, because it adds operators of its own.
    """

    def kept(plain: Function) -> Function:
        def table(*args: Any, **kwargs: Any) -> ONNXRegistry:
            asked = repr((args, kwargs))
            if asked not in _tables:
                _tables[asked] = plain(*args, **kwargs)
            own = copy(_tables[asked])
            own.functions = {operator: list(ways) for operator, ways in own.functions.items()}
            return own

        return table

    with _TABLE_OF_OPERATORS.changed(kept):
        yield


# ---------------------------------------------------------------- threads of operators
@contextmanager
def computing_threads(number: int) -> Iterator[None]:
    """Operators called in this thread run on `number` threads.

    OpenMP keeps this number separately for each calling thread. But the last number passed to torch is also the
    default for threads that have not called torch yet. So another thread sets the old number again at once.
    """
    before = torch.get_num_threads()
    try:
        _compute_here_in(number)
        yield
    finally:
        _compute_here_in(before)


def _compute_here_in(number: int) -> None:
    if number == torch.get_num_threads():
        return
    with ThreadPoolExecutor(1) as other:
        everywhere = other.submit(torch.get_num_threads).result()
        try:
            torch.set_num_threads(number)
        finally:
            other.submit(torch.set_num_threads, everywhere).result()


# ---------------------------------------------------------------- prints
class _Silent:
    """A stream that drops what one thread writes and passes on what other threads write."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._thread = stream, get_ident()

    def write(self, text: str) -> int:
        return len(text) if get_ident() == self._thread else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unprinted() -> Iterator[None]:
    """Drop what this thread prints to stdout."""
    silent = _Silent(sys.stdout)
    try:
        sys.stdout = silent
        yield
    finally:
        if sys.stdout is silent:
            sys.stdout = silent._stream
