"""Activations: calls that compute each entry from itself alone, however they are spelled, of layers, functions or
methods; written as they came.

A call in place reads only if nothing else reads what it overwrites: otherwise the others would see it change.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from fusekit.algebra import Elementwise
from fusekit.ir.graph import Graph
from fusekit.ir.spellings.table import Spelling

aten = torch.ops.aten

_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid),
)
_FUNCTIONS = {
    *(torch.relu, torch.sigmoid, torch.tanh, torch.abs, F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu),
    *(F.silu, F.mish, F.sigmoid, F.tanh, F.hardtanh, F.hardswish, F.hardsigmoid, F.softplus, F.softsign, F.logsigmoid),
    *(aten.relu.default, aten.relu6.default, aten.leaky_relu.default, aten.elu.default, aten.selu.default),
    *(aten.celu.default, aten.gelu.default, aten.silu.default, aten.mish.default, aten.sigmoid.default),
    *(aten.tanh.default, aten.hardtanh.default, aten.hardswish.default, aten.hardsigmoid.default),
    *(aten.softplus.default, aten.clamp.default, aten.abs.default),
}
_METHODS = {"relu", "sigmoid", "tanh", "abs"}


def read_activation(graph: Graph, node: fx.Node) -> tuple[Elementwise, fx.Node] | None:
    """The function and what it is applied to; None for any other call."""
    source, arguments = (node.args[0], node.args[1:]) if node.args else (None, ())
    if not isinstance(source, fx.Node) or node.all_input_nodes != [source] or source in arguments:
        return None
    function, in_place = _function(graph, node)
    if function is None or (in_place and len(source.users) > 1):
        return None
    spelling = (node.op, node.target)
    return Elementwise(function, arguments, dict(node.kwargs), spelling), source


def _function(graph: Graph, node: fx.Node) -> tuple[Any, bool]:
    """What the node calls, and whether it overwrites its input."""
    if node.op == "call_module":
        module = graph.modules[str(node.target)]
        plain = type(module) in _MODULES and not module._forward_hooks and not module._forward_pre_hooks
        return (module if plain else None), bool(getattr(module, "inplace", False))
    if node.op == "call_function" and node.target in _FUNCTIONS:
        return node.target, bool(node.kwargs.get("inplace", True in node.args[1:]))
    if node.op == "call_method" and node.target in _METHODS:
        return getattr(torch, str(node.target)), False
    return None, False


def _write(graph: Graph, value: Elementwise, source: fx.Node, name: str) -> list[fx.Node]:
    if value.spelling is None:
        raise AssertionError("a function that no program has called has no spelling as an operator")
    kind, target = value.spelling
    return [graph.fx.create_node(kind, target, (source, *value.arguments), value.options)]


SPELLING = Spelling(written={Elementwise: _write})
