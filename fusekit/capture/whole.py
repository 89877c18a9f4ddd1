"""Modules that are called as they are, for they do more than their forward says, or have no forward to be traced."""

from torch import nn

from fusekit.ir.spelling import has_hooks
from fusekit.model.closed import why_closed


def why_whole(module: nn.Module) -> str:
    """Why the module is left as it is; "" if it may be entered."""
    return "it has hooks, which must see its own input and output" if has_hooks(module) else why_closed(module)
