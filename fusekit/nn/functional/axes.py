"""Makes functions for one, two and three axes from one function for n axes."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def over_axes(function: Callable[Concatenate[int, P], R], n: int, name: str) -> Callable[P, R]:
    """`function` with its first argument set to n, under the name `name`. Its signature has the other arguments; its
    docstring is the same."""

    @wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(n, *args, **kwargs)

    bound.__name__ = bound.__qualname__ = name
    bound.__signature__ = inspect.signature(partial(function, n))  # type: ignore[attr-defined]
    return bound
