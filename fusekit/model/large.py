"""Copies of large models are freed as soon as nothing uses them.

A traced module and its graph refer to each other, so Python frees them only when it next looks for such cycles, which
it does by the number of objects and not by their size: meanwhile gigabytes of weights can wait.
"""

import gc

from torch import nn

_LARGE = 1 << 28  # bytes of weights, above which looking at once (0.2 s) is worth it


def bytes_of(model: nn.Module) -> int:
    """The bytes of its weights."""
    return sum(weight.nbytes for weight in (*model.parameters(), *model.buffers()))


def is_large(size: int) -> bool:
    """Whether copies of so many bytes are worth some time."""
    return size > _LARGE


def free_copies(size: int) -> None:
    """Free what only cycles hold, if copies of so many bytes are large."""
    if is_large(size):
        gc.collect()
