"""Keeps the global random state unchanged while fusekit runs a model.

torch, Python and NumPy each have one generator for the whole process. For torch, the draws of one thread can be
separated from those of others, operator by operator. For Python and NumPy, one can only see that some thread has drawn.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_TRIES = 3
_IDLE = 0.05  # seconds to wait, to see whether other threads draw

Result = TypeVar("Result")


class Draws(TorchDispatchMode):
    """While this mode is active, operators draw random numbers from a separate state, which starts as a copy of torch's
    global state. The global state does not change."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._own: Tensor | None = None

    @property
    def found(self) -> bool:
        """Whether an operator has drawn a random number."""
        return self._own is not None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tells = func.namespace in ("aten", "prims", "prim")  # custom operators may draw without carrying the tag
        if tells and torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        theirs = torch.get_rng_state()
        begin = theirs if self._own is None else self._own
        torch.set_rng_state(begin)
        try:
            return func(*args, **(kwargs or {}))
        finally:
            end = torch.get_rng_state()
            self._own = self._own if torch.equal(begin, end) else end
            torch.set_rng_state(theirs)


@contextmanager
def draws_undone() -> Iterator[Draws]:
    """A context manager: what torch draws in this thread does not advance the global CPU generator.
    (`torch.random.fork_rng` would also undo what other threads draw meanwhile.)"""
    with Draws() as draws:
        yield draws


def watched(attempt: Callable[[], Result]) -> tuple[Result, bool]:
    """The result of `attempt()`, and whether it draws from Python's or NumPy's generator; if so, they are restored.

    If the generators changed, `attempt` is repeated to see whether it or another thread drew. If other threads draw
    all the time, the answer is that it draws, and the generators are not restored: other threads would get the same
    numbers twice. Raises what the last `attempt` raised.
    """
    first = before = _states()
    others = False
    for left in reversed(range(_TRIES)):
        failure: Exception | None = None
        try:
            result = attempt()
        except Exception as error:
            failure = error
        after = _states()
        drawn = not _same(before, after)
        if not drawn:
            break
        time.sleep(_IDLE)
        before = _states()
        others = others or not _same(after, before)
        if not left and not others:
            random.setstate(first[0])
            np.random.set_state(first[1])
    if failure is not None:
        raise failure
    return result, drawn


def _states() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()


def _same(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    (_, keys, *rest), (_, other_keys, *other_rest) = one[1], other[1]
    return one[0] == other[0] and rest == other_rest and bool((keys == other_keys).all())
