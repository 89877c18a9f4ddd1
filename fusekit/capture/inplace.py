"""In-place operations become plain ones, or the trace is given up.

`y = op_(x)` overwrites x and returns it; if nothing else shares x's memory, that is `y = op(x)` with every later use
of x reading y. A region could otherwise move across the write. Whether memory is shared is decided conservatively:
x must come from an operator known to return fresh memory, and must not have gone into one that may return a view.
"""

import copy
import inspect
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from fusekit.errors import CaptureError
from fusekit.graph import Graph, where

_PLAIN_OPERATOR = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
_FRESH_FUNCTIONS = {
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.pow, operator.matmul),
    *(torch.add, torch.sub, torch.mul, torch.div, torch.cat, torch.stack, torch.matmul, torch.bmm, torch.relu),
    *(torch.sigmoid, torch.tanh, torch.exp, torch.clamp, torch.mean, torch.sum, torch.sqrt, torch.abs),
    *(F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.elu, F.softmax, F.hardtanh, F.hardswish, F.hardsigmoid),
    *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, F.linear),
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    *(F.batch_norm, F.layer_norm, F.group_norm, F.interpolate, torch.conv1d, torch.conv2d, torch.conv3d),
}
_FRESH_METHODS = {"add", "sub", "mul", "div", "relu", "sigmoid", "tanh", "mean", "sum", "clone", "size", "dim"}
_FRESH_MODULES = (
    *(nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.Linear, nn.LayerNorm, nn.GroupNorm),
    *(nn.modules.instancenorm._InstanceNorm, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Sigmoid, nn.Tanh, nn.Softmax, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.PReLU, nn.Softplus, nn.Upsample),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)


def make_functional(graph: Graph) -> None:
    """Replace every in-place operation of a freshly traced graph; CaptureError where memory may be shared."""
    order = {node: position for position, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if not _writes(graph, node):
            continue
        target = node.args[0] if node.args else None
        if not isinstance(target, fx.Node) or not _owns_memory(graph, target, before=node, order=order):
            raise CaptureError(f"{where(node)} writes in place to memory that other values may share")
        later = [user for user in target.users if order[user] > order[node]]
        for user in later:
            user.replace_input_with(target, node)
        _make_plain(graph, node)


def _writes(graph: Graph, node: fx.Node) -> bool:
    if node.op == "call_module":
        module = graph.modules[str(node.target)]
        idle = isinstance(module, nn.modules.dropout._DropoutNd) and not module.training
        return bool(getattr(module, "inplace", False)) and not idle
    if node.op == "call_method":
        name = str(node.target)
        return name.endswith("_") and not name.endswith("__")
    if node.op != "call_function":
        return False
    name = getattr(node.target, "__name__", "")
    marked = name.endswith("_") and not name.endswith("__")
    inplace = bool(_arguments(node).get("inplace")) or node.kwargs.get("out") is not None
    return node.target in _PLAIN_OPERATOR or node.target is operator.setitem or marked or inplace


def _arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of a torch.nn.functional call by name; empty for anything else."""
    target: Any = node.target
    if getattr(target, "__module__", "") != "torch.nn.functional":
        return {}
    try:
        return dict(inspect.signature(target).bind(*node.args, **node.kwargs).arguments)
    except (TypeError, ValueError):
        return dict(node.kwargs)


def _owns_memory(graph: Graph, node: fx.Node, *, before: fx.Node, order: dict[fx.Node, int]) -> bool:
    """No one else can see a write to this value: it is fresh, and no earlier reader may hold a view of it."""
    earlier = [user for user in node.users if order[user] < order[before]]
    return _is_fresh(graph, node) and all(_is_fresh(graph, user) for user in earlier)


def _is_fresh(graph: Graph, node: fx.Node) -> bool:
    """The operator returns memory of its own, never a view of its input."""
    if node.op == "call_module":
        return isinstance(graph.modules[str(node.target)], _FRESH_MODULES)
    if node.op == "call_method":
        return node.target in _FRESH_METHODS
    return node.op == "call_function" and node.target in _FRESH_FUNCTIONS


def _make_plain(graph: Graph, node: fx.Node) -> None:
    if node.op == "call_module":
        path = str(node.target)
        module: Any = copy.copy(graph.modules[path])
        module.inplace = False
        graph.modules[path] = module
    elif node.op == "call_method":
        node.target = str(node.target)[:-1]
    elif node.target in _PLAIN_OPERATOR:
        node.target = _PLAIN_OPERATOR[node.target]
    elif _arguments(node).get("inplace"):
        plain = {key: value for key, value in _arguments(node).items() if key != "inplace"}
        node.args, node.kwargs = (plain.pop("input"),), plain
    else:
        function = getattr(torch, getattr(node.target, "__name__", "")[:-1], None)
        if function is None:
            raise CaptureError(f"{where(node)} writes in place by {node.target}, which has no plain form here")
        node.target = function
