"""The modes of torch that a caller may be in, and that what is made there must not depend on.

In inference mode tensors keep no versions and parameters could never train; under autocast a trace would note casts of
the moment; with another default device new tensors would stand away from the weights.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_AUTOCAST = ("cpu", "cuda", "xpu", "mps")


@contextmanager
def plain_modes() -> Iterator[None]:
    """Within, in this thread: no inference mode, no autocast, new tensors on the CPU. Also a decorator."""
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
