"""What the arguments of layers and functions may be, and the one line that says so."""

from collections.abc import Sequence
from typing import Any, TypeVar, get_args

T = TypeVar("T")
Size = int | Sequence[int]


def one_of(choices: Any, name: str, value: T) -> T:
    """`value`, if it is among the choices, a Literal; ValueError names them all."""
    *others, last = map(repr, get_args(choices))
    if repr(value) not in (*others, last):
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {value!r}")
    return value


def probability(p: float) -> float:
    """`p`, if it is the probability of a dropout; ValueError."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, got {p}")
    return p
