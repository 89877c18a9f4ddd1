"""Replaces chunks along a free size by slices, because the exporter's optimizer fails on a split by an unknown size.

    chunk(x, n)[k] = x[k s : (k + 1) s],  s = ceil(size / n)         split(x, s)[k] = x[k s : (k + 1) s]

The last one ends where x ends. The number of chunks is fixed by the trace.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from fusekit.model.torch_notes import copy_notes, note_value, value_at

_CHUNKS = (torch.ops.aten.chunk.default, torch.ops.aten.split.Tensor)


def chunks_as_slices(program: ExportedProgram) -> None:
    """Replace chunks and splits along free sizes, in place."""
    for node in list(program.graph.nodes):
        taken = all(user.target is operator.getitem for user in node.users)
        if node.target in _CHUNKS and taken and (step := _step(program.graph, node)) is not None:
            _slice(program.graph, node, step)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()


def _step(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    """The node that computes the length of a chunk; None if the length is a plain number."""
    x, amount, dim = _arguments(node)
    if node.target is torch.ops.aten.split.Tensor:
        return amount if isinstance(amount, fx.Node) else None
    size = value_at(x).shape[dim]
    if isinstance(size, int) or not isinstance(amount, int):
        return None
    with graph.inserting_before(node):
        whole = _noted(graph, torch.ops.aten.sym_size.int, (x, dim), size)
        padded = _computed(graph, operator.add, whole, amount - 1)
        return _computed(graph, operator.floordiv, padded, amount)


def _slice(graph: fx.Graph, node: fx.Node, step: fx.Node) -> None:
    x, _, dim = _arguments(node)
    for user in list(node.users):
        index: Any = user.args[1]
        index = index + len(value_at(node)) if index < 0 else index
        with graph.inserting_before(user):
            start, end = (_computed(graph, operator.mul, step, k) for k in (index, index + 1))
            part = graph.call_function(torch.ops.aten.slice.Tensor, (x, dim, start, end))
        copy_notes(user, part)
        user.replace_all_uses_with(part)
        graph.erase_node(user)


def _arguments(node: fx.Node) -> tuple[Any, Any, int]:
    """The tensor, the number of chunks (chunk) or their length (split), and the axis."""
    x, amount, *rest = (*node.args, *node.kwargs.values())
    return x, amount, rest[0] if rest else 0  # type: ignore[return-value]


def _computed(graph: fx.Graph, function: Callable[..., Any], left: fx.Node, right: int) -> fx.Node:
    return _noted(graph, function, (left, right), function(value_at(left), right))


def _noted(graph: fx.Graph, target: Any, args: tuple[Any, ...], value: Any) -> fx.Node:
    node = graph.call_function(target, args)
    note_value(node, value)
    return node
