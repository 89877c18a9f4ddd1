"""Everything that fusekit changes of Python and torch while it works, by name.

Each holds for the thread that asks for it, for as long as the `with` lasts, and is gone afterwards, whatever ends it.
No other file of fusekit changes what belongs to the process.
"""

import builtins
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from threading import RLock, get_ident
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._decomp import decomposition_table
from torch._dynamo import trace_rules
from torch._functorch import aot_autograd
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import _symbolic_trace

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
    """What torch warns and logs while it traces is about its own insides; errors still raise."""
    with unwarned(), _IS_LOGGED.changed(lambda plain: lambda logger, level: False):
        yield


# ---------------------------------------------------------------- warnings
_FILTERS = RLock()
_unwarned: list[int] = []  # threads, one entry for each use
_last: list[Any] = []  # the list of filters in which ours stood: another thread may be about to read on in it


class _Unwarned(type):
    """Python asks of each filter's category whether it holds a warning: this one holds all, in some threads."""

    def __subclasscheck__(cls, category: type) -> bool:
        return get_ident() in _unwarned


class _Any(Warning, metaclass=_Unwarned):
    """The category of the warnings of threads that are not to be warned."""


_FILTER: Any = ("ignore", None, _Any, None, 0)


@contextmanager
def unwarned() -> Iterator[None]:
    """Without warnings. `warnings.catch_warnings` would take them from all threads; where torch uses it here, it does
    nothing, as there is nothing left to silence."""
    python: Any = warnings
    thread = get_ident()
    depth = _unwarned.count(thread)
    try:
        with _FILTERS:
            _unwarned.append(thread)
            if not any(entry is _FILTER for entry in python.filters):
                python.filters.insert(0, _FILTER)  # who reads the list just now reads one entry twice
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
                _last[:] = [python.filters]  # taken out of it, who reads it just now would miss an entry
                python.filters = [entry for entry in python.filters if entry is not _FILTER]


def _if(recording: list[Any], plain: Function) -> Function:
    return lambda *args, **kwargs: plain(*args, **kwargs) if recording else None


def _entering(recording: list[Any], plain: Function) -> Function:
    """Only who wants to see warnings, not to lose them, is let in."""

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
    """What torch.fx patches within holds for this thread: modules that others run are not traced. And torch does not
    set the process's random numbers back after a trace on fakes, which draws none: others draw meanwhile."""
    with _PATCHER.changed(lambda plain: OwnPatcher), _DRAWS_KEPT.changed(lambda plain: nullcontext):
        yield


@contextmanager
def types_told(kinds: frozenset[type], sample: Callable[[Any], Any]) -> Iterator[None]:
    """Code outside torch that asks for the type of a value of one of the `kinds` is told that of `sample(value)`. Where
    that is not known (NotImplemented), asking fails (TypeError): of a proxy it would be told a wrong one, and the trace
    would silently take the wrong branch."""

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
    """`len(tensor)` is `tensor.shape[0]`, the size as a symbol.

    Python makes `__len__` return an int, so torch.export takes the traced size there for a constant, without a guard:
    the program then computes something else at every other size. Nothing changes for what is not traced.
    """
    trace_rules.is_builtin_callable(len)  # torch.compile makes its table of builtins once: with the plain one in it

    def symbolic(plain: Function) -> Function:
        return lambda value, /: value.shape[0] if isinstance(value, FakeTensor) and value.dim() else plain(value)

    with _LEN.changed(symbolic):
        yield


_SIZES = {name: PerThread(torch.SymInt, name) for name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")}
_TRUTH = PerThread(torch.SymInt, "__bool__")


@contextmanager
def comparisons_noted(note: Callable[[str, Any, Any, str], None]) -> Iterator[None]:
    """Every comparison of a symbolic size is told: note(method, size, other, the asking module's name); its truth as
    a comparison with 0 by `__ne__`."""

    def asker() -> str:  # of asker, compare, either
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
# torch asks one or the other
_TABLES = [(operator.py_kernels, _COMPOSITE) for operator in _RECURRENT] + [
    (decomposition_table, operator) for operator in _RECURRENT
]
_STEPS = [PerThread(table, entry) for table, entry in _TABLES if entry in table]


@contextmanager
def free_steps() -> Iterator[None]:
    """The output of an LSTM or GRU takes its shape from its arguments.

    torch works it out by running over the example's steps, which makes a constant of their number.
    """

    def shaped(kernel: Function) -> Function:
        def output(x: Tensor, state: Any, weights: Any, bias: bool, layers: int, *rest: Any) -> Any:
            if type(x) in (Tensor, nn.Parameter):  # a constant of the model, of which the values are wanted
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


# ---------------------------------------------------------------- threads of operators
@contextmanager
def computing_threads(number: int) -> Iterator[None]:
    """Operators called in this thread run in so many threads.

    The number is OpenMP's, which keeps it for each calling thread; but what torch was told last is also what threads
    start with that have not called it yet. Another thread therefore says the old number again, at once.
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
    """A stream that takes what one thread writes for nothing."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._thread = stream, get_ident()

    def write(self, text: str) -> int:
        return len(text) if get_ident() == self._thread else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unprinted() -> Iterator[None]:
    """What this thread prints to stdout is lost."""
    silent = _Silent(sys.stdout)
    try:
        sys.stdout = silent
        yield
    finally:
        if sys.stdout is silent:
            sys.stdout = silent._stream
