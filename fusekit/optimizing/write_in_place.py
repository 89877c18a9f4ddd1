"""Activations that the model computed in place are computed in place again, for PyTorch.

Capture makes every write plain, so that regions can move (`capture/inplace.py`). What is left in the end may write
again where nobody can tell: the source is memory that a convolution, norm, sum or concatenation has just made, and
nothing else reads it. Fresh memory for each activation costs PyTorch more than the activation.
"""

import copy
from typing import Any

import torch
from torch import fx, nn

from fusekit.algebra.products.mixing import mix
from fusekit.ir import Graph, known

aten = torch.ops.aten

# their gradients are functions of their results, and those of what may stand before them are not of theirs
KINDS = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
_FRESH = {
    *(aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.linear.default, aten.batch_norm.default),
    *(aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding, aten.add.Tensor, aten.cat.default),
    *(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input),
    mix,
}


def overwrite(graph: Graph) -> None:
    """Make the layers write in place that did so before, if all their calls may."""
    calls: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module" and type(graph.modules[str(node.target)]) in KINDS:
            calls.setdefault(str(node.target), []).append(node)
    for path, nodes in calls.items():
        if all(known(node).wrote_in_place and _is_alone(node) for node in nodes):
            module: Any = copy.copy(graph.modules[path])
            module.inplace = True
            graph.modules[path] = module


def _is_alone(node: fx.Node) -> bool:
    source = node.all_input_nodes[0]
    return source.op == "call_function" and source.target in _FRESH and len(source.users) == 1
