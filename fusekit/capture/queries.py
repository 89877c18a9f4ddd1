"""Questions about a tensor that its source answers as well.

    rank(m(x)) = rank(x)        dtype(m(x)) = dtype(x)        device(m(x)) = device(x)

for every map that fusekit reads; a concatenation has the rank and the device of its parts. A forward that asserts
`x.ndim == 4` between a convolution and its batch norm would otherwise keep the convolution's own output alive, and the
batch norm could not fold into it.

    y.to(x.dtype) = y    where y has the dtype of x, and a convolution reads x

The adapters of peft end with such a cast. The convolution raises if x has not the dtype of its weight, so what is known
of the dtypes holds for every input.
"""

from typing import Any

import torch
from torch import fx

from fusekit.algebra import Affine, AvgPool, Conv, Identity, Pad
from fusekit.ir import Graph
from fusekit.ir.facts import facts
from fusekit.ir.read import read

_KEPT = ("ndim", "dtype", "device")
SAME_RANK = (Affine, AvgPool, Conv, Identity, Pad)


def ask_sources(graph: Graph) -> None:
    """Let questions about rank, dtype and device be answered by the earliest tensor that can."""
    for node in graph.nodes:
        if not _is_question(node):
            continue
        asked = node.args[0]
        while isinstance(asked, fx.Node):
            source = _answers_too(graph, asked, node)
            if source is None:
                break
            node.replace_input_with(asked, source)
            asked = source


def drop_casts(graph: Graph) -> None:
    """Drop casts to the dtype of an earlier tensor that the value has already."""
    for node in list(graph.nodes):
        if node.op != "call_method" or node.target != "to" or len(node.args) != 2 or node.kwargs:
            continue
        value, dtype = node.args
        if not isinstance(value, fx.Node) or not isinstance(dtype, fx.Node):
            continue
        if dtype.target is not getattr or dtype.args[1] != "dtype":
            continue
        source: Any = dtype.args[0]
        has, wanted = facts(value).dtype, facts(source).dtype
        if has is not None and has == wanted and _is_read_by_a_conv(graph, value, source):
            node.replace_all_uses_with(value)
            graph.erase_dead([dtype, node])


def _is_read_by_a_conv(graph: Graph, value: fx.Node, source: fx.Node) -> bool:
    """Whether a convolution between the source and the value reads the source itself."""
    if value.target is torch.ops.aten.add.Tensor:
        return any(isinstance(term, fx.Node) and _is_read_by_a_conv(graph, term, source) for term in value.args)
    reading = read(graph, value)
    if reading is None or not any(reading.is_a(kind) for kind in SAME_RANK):
        return False
    return (reading.is_a(Conv) and reading.source is source) or _is_read_by_a_conv(graph, reading.source, source)


def _answers_too(graph: Graph, asked: fx.Node, question: fx.Node) -> fx.Node | None:
    """The tensor of which `asked` is made, if the question has the same answer there."""
    if asked.target is torch.ops.aten.cat.default and question.args[1:] != ("dtype",):  # parts may differ in dtype
        parts: Any = asked.args[0]
        return parts[0] if isinstance(parts[0], fx.Node) else None
    reading = read(graph, asked)
    if reading is None or not any(reading.is_a(kind) for kind in SAME_RANK):
        return None
    return reading.source


def _is_question(node: fx.Node) -> bool:
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in _KEPT
    return node.op == "call_method" and node.target in ("dim", "ndimension") and not node.kwargs
