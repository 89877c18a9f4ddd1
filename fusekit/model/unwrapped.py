"""Removes wrappers that only change how a model is run: DataParallel, DistributedDataParallel, torch.compile."""

from torch import nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel

from fusekit.model.copies import deep_copy


def unwrapped(model: nn.Module) -> tuple[nn.Module, str]:
    """The model without wrappers, and a note for the user about the wrappers removed ("" if there were none).

    The model is not changed: if a wrapper is inside it, a copy is returned.
    """
    wrappers = [part for part in model.modules() if _inside(part) is not None]
    model = _innermost(model)
    if any(_inside(part) is not None for part in model.modules()):
        model = deep_copy(model, {part: _innermost(part) for part in wrappers})
    what = ", ".join(dict.fromkeys(map(_name, wrappers)))
    return model, f"the model inside {what} was optimized; wrap or compile the result again" if wrappers else ""


def _innermost(module: nn.Module) -> nn.Module:
    while (inner := _inside(module)) is not None:
        module = inner
    return module


def _inside(module: nn.Module) -> nn.Module | None:
    if isinstance(module, OptimizedModule):
        compiled: nn.Module = module._orig_mod
        return compiled
    if isinstance(module, DataParallel | DistributedDataParallel):
        wrapped: nn.Module = module.module
        return wrapped
    return None


def _name(module: nn.Module) -> str:
    return "torch.compile" if isinstance(module, OptimizedModule) else type(module).__name__
