"""Which modules keep nothing of a call, so that they may be run as they are."""

from torch import nn

from fusekit.ir.emit import OptimizedModule
from fusekit.ir.spelling import has_hooks
from fusekit.model import overridden


def leaves_no_trace(module: nn.Module) -> bool:
    """Whether the module is in eval mode and consists only of modules that are known to keep no state between calls."""
    return not any(
        getattr(part, "training", True)
        or has_hooks(part)
        or overridden(part)
        or not (isinstance(part, OptimizedModule) or type(part).__module__.startswith(("torch.nn.", "fusekit.")))
        for part in module.modules()
    )
