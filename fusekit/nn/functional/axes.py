"""A function written once for n axes, under the names that torch would give it for one, two and three."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def over_axes(function: Callable[Concatenate[int, P], R], n: int, name: str) -> Callable[P, R]:
    """function(n, ...) as a function of its own: its signature is the rest, its docstring the same."""

    @wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(n, *args, **kwargs)

    bound.__name__ = bound.__qualname__ = name
    bound.__signature__ = inspect.signature(partial(function, n))  # type: ignore[attr-defined]
    return bound
