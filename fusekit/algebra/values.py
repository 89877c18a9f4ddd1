"""Questions about tensors that laws ask of values, not of shapes.

A law is run twice: on the meta device first, where only shapes exist, so that its price is known before any kernel is
computed; then on the values. On the meta device these questions are answered in favour of the law.
"""

import torch
from torch import Tensor


def is_zero(tensor: Tensor | None) -> bool:
    """True if every entry is exactly zero (None stands for zero); True on the meta device."""
    return tensor is None or tensor.is_meta or not bool(torch.any(tensor != 0))


def is_one(tensor: Tensor) -> bool:
    """True if every entry is exactly one; True on the meta device."""
    return tensor.is_meta or not bool(torch.any(tensor != 1))


def used_along(values: Tensor, axis: int) -> Tensor:
    """For each slice along an axis, whether it has an entry that is not zero. In a trained weight the first entry of
    each slice tells, and the others are not looked at."""
    slices = values.movedim(axis, 0)
    first = slices[(slice(None), *(slice(0, 1),) * (values.ndim - 1))].flatten() != 0
    return first if bool(first.all()) and len(first) == len(slices) else (slices != 0).unsqueeze(-1).flatten(1).any(1)


def wide(tensor: Tensor) -> Tensor:
    """The tensor in double precision: all algebra on values is done there, and rounded once, at the commit."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def to_meta(tensor: Tensor | None) -> Tensor | None:
    """The shape and dtype of a tensor without its values."""
    return None if tensor is None else tensor.to("meta")
