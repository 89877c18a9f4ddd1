"""Makes activations work in place again where the model did so. This is only for PyTorch.

Capture replaces in-place operators by ordinary ones, so that regions can be moved (`capture/inplace.py`). At the end,
an activation may write in place again if nothing can notice: its input was just created by a convolution, norm, sum or
concatenation, and nothing else reads it. In PyTorch, new memory for each activation costs more than the activation.
"""

import copy
from typing import Any

import torch
from torch import fx, nn

from fusekit.algebra.products.mixing import mix
from fusekit.ir import Graph, known

aten = torch.ops.aten

# The gradients of these layers are computed from their results, so their overwritten inputs are not needed; and the
# operators in _FRESH do not need their own results for their gradients.
KINDS = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
_FRESH = {
    *(aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.linear.default, aten.batch_norm.default),
    *(aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding, aten.add.Tensor, aten.cat.default),
    *(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input),
    mix,
}


def overwrite(graph: Graph) -> None:
    """Make layers write in place that did so in the model, if this is safe for all their calls."""
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
