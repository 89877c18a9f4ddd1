"""Switches off the modes of torch that a caller may have switched on, so that the result does not depend on them.

In inference mode, new parameters could never be trained; under autocast, a trace would record casts; with another
default device, new tensors would be on another device than the weights.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_AUTOCAST = ("cpu", "cuda", "xpu", "mps")


@contextmanager
def plain_modes() -> Iterator[None]:
    """In this thread: no inference mode, no autocast, new tensors on the CPU. A context manager, or a decorator."""
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        for kind in _AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
