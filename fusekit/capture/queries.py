"""Questions about a tensor that its source answers as well.

    rank(m(x)) = rank(x)        dtype(m(x)) = dtype(x)        device(m(x)) = device(x)

for every map that fusekit reads; a concatenation has the rank and the device of its parts. A forward that asserts
`x.ndim == 4` between a convolution and its batch norm would otherwise keep the convolution's own output alive, and the
batch norm could not fold into it.
"""

from typing import Any

import torch
from torch import fx

from fusekit.algebra import Affine, AvgPool, Conv, Identity, Pad
from fusekit.ir import Graph
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
