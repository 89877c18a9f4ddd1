"""Modules that fusekit must neither trace into nor change: TorchScript, quantized ones, and those prepared for it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

_QUANTIZED = ("torch.ao.", "torch.nn.quantized", "torch.nn.qat", "torch.nn.intrinsic", "torchao.")


def why_closed(module: nn.Module) -> str:
    """Why the module must be called as it is; "" if it may be traced into."""
    if isinstance(module, torch.jit.ScriptModule):
        return "it is TorchScript, compiled already; optimize the module that it was made from"
    if type(module).__module__.startswith(_QUANTIZED):
        return "it is quantized, or prepared for it, and its rounding must not change; optimize before quantizing"
    return ""


def with_closed_apart(module: nn.Module) -> nn.Module:
    """The module with every closed part wrapped, so that the part keeps its dtype and runs outside of torch's modes.

    `module` is changed in place: pass a copy.
    """
    if why_closed(module):
        return _Apart(module)
    for part in [part for part in module.modules() if not isinstance(part, _Apart)]:
        if why_closed(part):
            continue
        for name, child in list(part._modules.items()):
            if child is not None and why_closed(child):
                part._modules[name] = _Apart(child)
    return module


class _Apart(nn.Module):
    """Calls a module on inputs converted from float64 to the module's dtype, with all of torch's modes switched off.

    The module is not registered as a child, so that `_apply` (a change of dtype) does not reach it.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._called: tuple[nn.Module, ...] = (module,)
        weights = (*module.parameters(), *module.buffers())
        dtypes = (weight.dtype for weight in weights if weight.is_floating_point())
        self._dtype = next(dtypes, torch.float32)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_called"][0], name) if "_called" in vars(self) else super().__getattr__(name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            args, kwargs = pytree.tree_map_only(Tensor, self._narrowed, (args, kwargs))
            return self._called[0](*args, **kwargs)

    def _narrowed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._dtype) if tensor.dtype is torch.float64 else tensor
