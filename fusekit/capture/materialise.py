"""Layers whose weight is computed before each call, in a way no tracer follows, replaced by plain ones.

    y = f(x, W(θ))  ->  y = f(x, W)                W computed once, the same whatever x

Kernels of parameterised hypercomplex layers built with sizes that are tensors, or renormalised in place, or by code
that asks whether its parameters train: run twice, on the given inputs and on others, such a layer shows what it calls.
If that is one linear layer or convolution of its own input, with the same weight both times, it is that one.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fusekit.model import Inputs

_CONVS = {F.conv1d: nn.Conv1d, F.conv2d: nn.Conv2d, F.conv3d: nn.Conv3d}
_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


@dataclass
class _Call:
    """What happened within one module: its own arguments, the layers that it called, what it returned."""

    module: nn.Module
    args: tuple[Any, ...]
    layers: list[tuple[Any, dict[str, Any], Any]] = field(default_factory=list)
    result: Any = None

    def layer(self) -> nn.Module | None:
        """The plain layer that it was, if it was one."""
        if len(self.layers) != 1 or len(self.args) != 1 or self.layers[0][2] is not self.result:
            return None
        function, given, _ = self.layers[0]
        computed = given["weight"].grad_fn is not None or not isinstance(given["weight"], nn.Parameter)
        return _plain(function, given) if computed and given["input"] is self.args[0] else None


class _Record(TorchFunctionMode):
    """Notes the linear layers and convolutions that are called, for the innermost module that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[_Call] = []
        self.done: list[_Call] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.running and (func is F.linear or func in _CONVS):
            self.running[-1].layers.append((func, {**dict(zip(_NAMES, args, strict=False)), **(kwargs or {})}, result))
        return result


def materialise(model: nn.Module, inputs: Inputs) -> list[str]:
    """Replace such layers within the model, one's own copy; their paths. Another copy is run: a forward may change its
    own state."""
    try:
        trial = copy.deepcopy(model)
    except Exception:  # it has been copied before, but a trace may have left in it what cannot be
        return []
    paths: dict[int, list[str]] = {}
    for path, module in trial.named_modules(remove_duplicate=False):
        if path:
            paths.setdefault(id(module), []).append(path)
    try:
        first, second = (_run(trial, given, paths) for given in (inputs, inputs.map(_other)))
    except Exception:  # a model that other inputs break shows nothing
        return []
    replaced = []
    for one, other in zip(first, second, strict=False):
        layers = one.layer(), other.layer()
        if one.module is not other.module or None in layers or not _alike(*layers):
            continue
        for path in paths.pop(id(one.module), []):
            parent, _, name = path.rpartition(".")
            model.get_submodule(parent)._modules[name] = layers[0]
            replaced.append(path)
    return replaced


def _run(model: nn.Module, inputs: Inputs, paths: dict[int, list[str]]) -> list[_Call]:
    record = _Record()

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        record.running.append(_Call(module, (*args, *kwargs.values())))

    def leave(module: nn.Module, args: Any, result: Any) -> None:
        call = record.running.pop()
        call.result = result
        record.done.append(call)

    custom = [m for m in model.modules() if id(m) in paths and not type(m).__module__.startswith("torch.nn.")]
    hooks = [m.register_forward_pre_hook(enter, with_kwargs=True) for m in custom]
    hooks += [m.register_forward_hook(leave) for m in custom]
    try:
        with record, torch.enable_grad():  # gradients tell what was computed
            inputs.cloned().call(model)
    finally:
        for hook in hooks:
            hook.remove()
    return record.done


def _other(tensor: Tensor) -> Tensor:
    return tensor * 0.5 + 0.25 if tensor.is_floating_point() or tensor.is_complex() else tensor


def _plain(function: Callable[..., Any], given: dict[str, Any]) -> nn.Module:
    weight, bias = given["weight"], given.get("bias")
    if function is F.linear:
        layer: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    else:
        options = {name: given[name] for name in ("stride", "padding", "dilation", "groups") if name in given}
        window = tuple(weight.shape[2:])
        kind: Any = _CONVS[function]
        inputs = weight.shape[1] * options.get("groups", 1)
        layer = kind(inputs, weight.shape[0], window, bias=bias is not None, device="meta", **options)
    layer.weight = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return layer.eval()


def _alike(one: nn.Module | None, other: nn.Module | None) -> bool:
    states = [dict(m.state_dict()) for m in (one, other) if m is not None]
    return repr(one) == repr(other) and all(torch.equal(states[0][name], states[1][name]) for name in states[0])
