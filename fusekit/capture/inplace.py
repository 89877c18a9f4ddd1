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
from fusekit.ir import Graph, Known, note, where
from fusekit.nn.functional.items import with_items

_PLAIN_OPERATOR = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
    operator.ipow: operator.pow,
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
    operator.ilshift: operator.lshift,
    operator.irshift: operator.rshift,
}
# what Python calls of a tensor of the model's own that is written to with a traced value
_WRITING_METHODS = {"__setitem__", *(f"__{function.__name__.strip('_')}__" for function in _PLAIN_OPERATOR)}
_FRESH_FUNCTIONS = {
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.pow, operator.matmul),
    *(torch.add, torch.sub, torch.mul, torch.div, torch.cat, torch.stack, torch.matmul, torch.bmm, torch.relu),
    *(torch.sigmoid, torch.tanh, torch.exp, torch.clamp, torch.mean, torch.sum, torch.sqrt, torch.abs),
    *(F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.elu, F.softmax, F.hardtanh, F.hardswish, F.hardsigmoid),
    *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, F.linear),
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    *(F.pad, torch.zeros, torch.ones, torch.full, torch.empty, torch.zeros_like, torch.ones_like, with_items),
    *(
        F.batch_norm,
        F.layer_norm,
        F.group_norm,
        F.interpolate,
        F.pixel_shuffle,
        F.pixel_unshuffle,
        torch.conv1d,
        torch.conv2d,
        torch.conv3d,
    ),
}
_FRESH_METHODS = {
    *("add", "sub", "mul", "div", "relu", "sigmoid", "tanh", "mean", "sum", "clone", "size", "dim"),
    *("new_zeros", "new_ones", "new_full"),
}
# `x.name_(...)` is `x = x.name(...)`: not so for fill_, zero_ or copy_, which have no plain form, nor for random ones
_PLAIN_NAMES = {
    *("add", "sub", "mul", "div", "pow", "neg", "abs", "exp", "log", "sqrt", "rsqrt", "square", "reciprocal"),
    *("relu", "sigmoid", "tanh", "clamp", "clamp_min", "clamp_max", "clip", "sin", "cos", "floor", "ceil", "round"),
    *("addcmul", "addcdiv", "lerp", "masked_fill", "index_add", "index_fill", "true_divide", "multiply", "subtract"),
}
_FRESH_MODULES = (
    *(nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.Linear, nn.LayerNorm, nn.GroupNorm),
    *(nn.modules.instancenorm._InstanceNorm, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Sigmoid, nn.Tanh, nn.Softmax, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.PReLU, nn.Softplus, nn.Upsample),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.PixelShuffle, nn.PixelUnshuffle),
)


_FRESH_FUNCTIONS |= {getattr(torch, name) for name in _PLAIN_NAMES if hasattr(torch, name)}


def make_functional(graph: Graph) -> None:
    """Replace every in-place operation of a freshly traced graph; CaptureError where memory may be shared."""
    order = {node: position for position, node in enumerate(graph.nodes)}
    mixed = len(_dtypes(graph)) > 1
    # all of them first: a layer called twice is made plain at its first call
    for node in [node for node in graph.nodes if _writes(graph, node)]:
        target = node.args[0] if node.args else None
        if node.target in _PLAIN_OPERATOR and _is_number(target):
            node.target = _PLAIN_OPERATOR[node.target]
            continue
        if not isinstance(target, fx.Node) or not _owns_memory(graph, target, before=node, order=order):
            raise CaptureError(f"{where(node)} writes in place to memory that other values may share")
        if mixed and len(node.all_input_nodes) > 1:
            raise CaptureError(f"{where(node)} writes in place, where dtypes are mixed: the result keeps the first one")
        for alias in _aliases(graph, target):
            for user in [user for user in alias.users if order[user] > order[node]]:
                user.replace_input_with(alias, node)
        _make_plain(graph, node)


def _writes(graph: Graph, node: fx.Node) -> bool:
    if node.op == "call_module":
        module = graph.modules[str(node.target)]
        idle = isinstance(module, nn.modules.dropout._DropoutNd) and not module.training
        return bool(getattr(module, "inplace", False)) and not idle
    if node.op == "call_method":
        name = str(node.target)
        return name in _WRITING_METHODS or (name.endswith("_") and not name.endswith("__"))
    if node.op != "call_function":
        return False
    name = getattr(node.target, "__name__", "")
    marked = name.endswith("_") and not name.endswith("__")
    inplace = bool(_arguments(node).get("inplace")) or node.kwargs.get("out") is not None
    return node.target in _PLAIN_OPERATOR or node.target is operator.setitem or marked or inplace


def _dtypes(graph: Graph) -> set[torch.dtype]:
    tensors = [*graph.constants.values(), *(p for module in graph.modules.values() for p in module.parameters())]
    return {t.dtype for t in tensors if t.is_floating_point() or t.is_complex()}


def _is_number(value: Any) -> bool:
    """A Python number: a literal, a size, arithmetic of them. Writing to one is only a new name."""
    if not isinstance(value, fx.Node):
        return isinstance(value, int | float)
    if value.op == "call_method":
        return value.target in ("dim", "numel", "item") or (value.target == "size" and len(value.args) == 2)
    if value.target is operator.getitem:
        source: Any = value.args[0]
        attribute = source.target is getattr and source.args[1] == "shape"
        return isinstance(value.args[1], int) and (attribute or (source.op, source.target) == ("call_method", "size"))
    arithmetic = (*_PLAIN_OPERATOR.values(), operator.neg)
    return value.target in arithmetic and all(map(_is_number, value.args))


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
    """No one else can see a write to this value: it is fresh, or a view of what is and is read by nothing else, and no
    earlier reader may hold a view of it."""
    aliases = _aliases(graph, node)
    earlier = {user for alias in aliases for user in alias.users if order[user] < order[before]}
    if not all(_is_fresh(graph, user) for user in earlier - set(aliases)):
        return False
    source = aliases[-1]
    if _is_fresh(graph, source):
        return True
    base = source.args[0] if _is_view(source) else None
    return isinstance(base, fx.Node) and len(base.users) == 1 and _owns_memory(graph, base, before=source, order=order)


def _is_view(node: fx.Node) -> bool:
    """A part of its first argument, or it in another shape."""
    if node.target is operator.getitem:
        index: Any = node.args[1]
        return any(isinstance(each, slice) for each in (index if isinstance(index, tuple) else (index,)))
    return node.op == "call_method" and node.target in ("view", "reshape", "flatten", "permute", "transpose")


def _aliases(graph: Graph, node: fx.Node) -> list[fx.Node]:
    """The value under all its names: nn.Identity and idle dropouts return what they are given."""
    names = [node]
    while (source := _passed_on(graph, names[-1])) is not None:
        names.append(source)
    return names


def _passed_on(graph: Graph, node: fx.Node) -> fx.Node | None:
    if node.op != "call_module" or len(node.all_input_nodes) != 1:
        return None
    module = graph.modules[str(node.target)]
    idle = isinstance(module, nn.modules.dropout._DropoutNd) and not module.training
    return node.all_input_nodes[0] if idle or type(module) is nn.Identity else None


def _is_fresh(graph: Graph, node: fx.Node) -> bool:
    """The operator returns memory of its own, never a view of its input."""
    if node.op == "call_module":
        return isinstance(graph.modules[str(node.target)], _FRESH_MODULES)
    if node.op == "call_method":
        return node.target in _FRESH_METHODS or node.target in _PLAIN_NAMES
    return node.op == "call_function" and node.target in _FRESH_FUNCTIONS


def _make_plain(graph: Graph, node: fx.Node) -> None:
    note(node, Known(wrote_in_place=True))
    if node.op == "call_module":
        path = str(node.target)
        module: Any = copy.copy(graph.modules[path])
        module.inplace = False
        graph.modules[path] = module
    elif node.target in _PLAIN_OPERATOR:
        node.target = _PLAIN_OPERATOR[node.target]
    elif node.target is operator.setitem:
        node.target = with_items
    elif _arguments(node).get("inplace"):
        plain = {key: value for key, value in _arguments(node).items() if key != "inplace"}
        node.args, node.kwargs = (plain.pop("input"),), plain
    else:
        name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
        if name[:-1] not in _PLAIN_NAMES or not name.endswith("_") or "out" in node.kwargs:
            raise CaptureError(f"{where(node)} writes in place by {name}, which has no plain form here")
        node.target = name[:-1] if node.op == "call_method" else getattr(torch, name[:-1])
