"""Checks of arguments that several layers and functions share. Each raises ValueError with one clear line."""

from collections.abc import Sequence
from typing import Any, TypeVar, get_args

T = TypeVar("T")
Size = int | Sequence[int]


def one_of(choices: Any, name: str, value: T) -> T:
    """Return `value` if it is one of `choices`, a Literal. Otherwise raise ValueError, which lists them."""
    *others, last = map(repr, get_args(choices))
    if repr(value) not in (*others, last):
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {value!r}")
    return value


def probability(p: float) -> float:
    """Return `p` if it is a probability, from 0 to 1; otherwise raise ValueError."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, got {p}")
    return p
