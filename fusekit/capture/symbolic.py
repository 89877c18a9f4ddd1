"""The first way in: `torch.fx` symbolic tracing. Needs no example inputs, keeps names, stays free in every size.

Parameters and buffers stay real tensors while the trace runs: what a `forward` computes from them alone (merged
branches, normalised weights, control flow on their shapes or flags) is simply computed, and arrives as a constant.
Layers that fusekit reads, torch.nn layers in general and modules with hooks are not entered.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from fusekit.capture.spelling import is_spelled
from fusekit.errors import CaptureError
from fusekit.graph import Graph
from fusekit.program import quiet, reason_of

LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm)

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_hooks(module: nn.Module) -> bool:
    """True if someone registered a hook on this very module."""
    return any(getattr(module, hooks, None) for hooks in _HOOKS)


def trace(root: nn.Module, opaque: Iterable[str] = ()) -> Graph:
    """The root's forward as a graph; modules at the paths `opaque` are called as they are.

    Raises `TraceFailed`, which knows the module in which the trace failed.
    """
    tracer = _Tracer(frozenset(opaque))
    before = _state_of(root)
    random = torch.get_rng_state()
    try:
        # with gradients, so that it is known which computed constants come from parameters that train
        with torch.enable_grad(), quiet():
            nodes = tracer.trace(root)
    except Exception as error:
        raise TraceFailed(reason_of(error), tracer.failed_at) from error
    if not torch.equal(random, torch.get_rng_state()):
        torch.set_rng_state(random)
        raise TraceFailed("forward draws random numbers that do not depend on its input", "")
    for path, state in _state_of(root).items():
        if state != before[path]:
            raise TraceFailed("forward changes the module's own state", path)
    modules = {str(n.target): root.get_submodule(str(n.target)) for n in nodes.nodes if n.op == "call_module"}
    owners = dict(root.named_modules(remove_duplicate=False))
    for node in nodes.nodes:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        node.meta = {"where": path_of(owners, stack[-1][0] if stack else "", node)}
    return Graph(nodes, tracer.constants, modules, type(root).__name__)


def path_of(owners: dict[str, nn.Module], owner: str, node: fx.Node) -> str:
    """What a user would call a node: the path of the layer it is, or its own name within the module that calls it."""
    if node.op in ("placeholder", "output", "get_attr"):
        return str(node.target)
    if node.op == "call_module":
        return owner or str(node.target)
    layer = isinstance(owners[owner], LAYERS)
    return owner if layer else f"{owner}.{node.name}" if owner else node.name


class TraceFailed(CaptureError):
    """A symbolic trace failed in the module at `path` ("" for the root)."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(f"{reason} (in {path})" if path else reason)
        self.path = path


class _Tracer(fx.Tracer):
    """Enters user modules and parametrized layers, keeps the rest whole, and remembers where it failed."""

    trace_asserts = True

    def __init__(self, opaque: frozenset[str]) -> None:
        super().__init__()
        self.opaque = opaque
        self.failed_at = ""
        self.constants: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}

    def trace(self, root: nn.Module | Callable[..., Any], concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        assert isinstance(root, nn.Module)
        tensors = (*root.named_parameters(), *root.named_buffers(), *_attributes(root))
        self._names = {id(tensor): name for name, tensor in reversed(tensors)}
        return super().trace(root, concrete_args)

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        if has_hooks(module) or path in self.opaque or is_spelled(module):
            return True
        return super().is_leaf_module(module, path) and not parametrize.is_parametrized(module)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed_at = self.failed_at or self.path_of_module(m)
            raise

    def create_arg(self, a: Any) -> Any:
        if not isinstance(a, Tensor):
            return super().create_arg(a)
        name = self._names.get(id(a))
        if name is None:
            name = self._names[id(a)] = self._name_of_computed(a)
        self.constants[name] = a if a.is_leaf else a.detach().requires_grad_()
        return self.create_node("get_attr", name, (), {})

    def _name_of_computed(self, value: Tensor) -> str:
        stack = list(self.module_stack.values())
        path = f"{stack[-1][0]}." if stack and stack[-1][0] else ""
        number = 0
        while f"{path}computed_{number}" in self.constants:
            number += 1
        return f"{path}computed_{number}"


def _attributes(root: nn.Module) -> list[tuple[str, Tensor]]:
    """Tensors kept as plain attributes, under the names users gave them."""
    return [
        (f"{path}.{name}" if path else name, value)
        for path, module in root.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    ]


def _state_of(root: nn.Module) -> dict[str, Any]:
    """What a forward might change and a trace would lose: versions of buffers, plain attributes."""
    state = {}
    for path, module in root.named_modules():
        versions = [buffer._version for buffer in module.buffers(recurse=False)]
        plain = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str | type(None))}
        state[path] = (versions, plain)
    return state
