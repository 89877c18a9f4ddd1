"""Random numbers that are drawn while a model is looked at, and that nobody misses afterwards.

torch, Python and NumPy each keep one generator for the whole process. What torch draws in one thread can be told from
what it draws in others, operator by operator; of the other two it can only be said that somebody has drawn.
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
_IDLE = 0.05  # seconds, to see whether others draw

Result = TypeVar("Result")


class Draws(TorchDispatchMode):
    """Operators that draw random numbers draw from a state of their own, which begins as the process's own is."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._own: Tensor | None = None

    @property
    def found(self) -> bool:
        """Whether an operator has drawn."""
        return self._own is not None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tells = func.namespace in ("aten", "prims", "prim")  # operators of others need not say that they draw
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
    """What torch draws within in this thread, the process's generator on the CPU goes on as if it had not been drawn.
    (`torch.random.fork_rng` would take back what other threads draw meanwhile.)"""
    with Draws() as draws:
        yield draws


def watched(attempt: Callable[[], Result]) -> tuple[Result, bool]:
    """What `attempt` returns, and whether it draws from Python's or NumPy's generator, which are then set back.

    Whether it or another thread has drawn shows when it is tried again; where others draw all the time it counts as
    drawing, and nothing is set back: that would give others the same numbers twice.
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
