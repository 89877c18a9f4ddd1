"""A value in words: its kind and its fields, of tensors the sizes, never the numbers."""

from dataclasses import fields
from typing import Any

from torch import Tensor


def described(value: Any) -> str:
    """Kind(field words, ...) of a dataclass. What is not shown by its `repr`, is None or False, is left out."""
    told = []
    for field in fields(value):
        given = getattr(value, field.name)
        if field.repr and given is not None and given is not False:
            told.append(field.name if given is True else f"{field.name} {_in_words(given)}")
    return f"{type(value).__name__}({', '.join(told)})"


def sizes(tensor: Tensor) -> str:
    """8x3x3x3."""
    return "x".join(map(str, tensor.shape)) or "scalar"


def _in_words(value: Any) -> str:
    if isinstance(value, Tensor):
        return sizes(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_in_words, value))})"
    if hasattr(value, "describe"):
        return str(value.describe())
    return str(getattr(value, "__name__", value))
