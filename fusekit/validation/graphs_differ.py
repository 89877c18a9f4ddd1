"""Two graphs of one model, compared as a whole in float64."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from fusekit.ir import Graph, evaluate
from fusekit.model import Inputs, widened
from fusekit.model.float64 import in_float64
from fusekit.nn import ShapeGuard


def difference(graph: Graph, other: Graph, inputs: Inputs) -> float:
    """The largest error of any output of `other`, relative to the output's largest entry, both in complex128."""
    return distance(outputs(graph, inputs), outputs(other, inputs))


def distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The largest error of any tensor of `second`, relative to the largest entry of its counterpart in `first`.
    Infinite if shapes or dtypes differ, or if NaN and infinity are at other places."""
    if [(t.shape, t.dtype) for t in first] != [(t.shape, t.dtype) for t in second]:
        return float("inf")
    worst = 0.0
    for a, b in zip(first, second, strict=True):
        if a.numel() == 0 or torch.equal(a, b):
            continue
        if not torch.equal(a.isfinite(), b.isfinite()):
            return float("inf")
        a, b = (torch.where(t.isfinite(), t, torch.zeros_like(t)) for t in (a, b))
        worst = max(worst, float((a - b).abs().max() / a.abs().max().clamp_min(1e-300)))
    return worst


def outputs(graph: Graph, inputs: Inputs) -> list[Tensor]:
    """The outputs of the graph as a flat list, with every operator run in float64 or complex128."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    wide = inputs.map(widened)
    given = {**dict(zip((str(n.target) for n in placeholders), wide.args, strict=False)), **wide.kwargs}
    values: dict[fx.Node, Any] = {n: given.get(str(n.target), (*n.args, None)[0]) for n in placeholders}
    values |= {node: None for node in graph.nodes if is_guard(graph, node)}  # guards require complex64: skip them
    constants = {name: widened(t.detach()) for name, t in graph.constants.items()}
    # fused kernels (recurrent layers) compare dtypes early, so their weights must be widened beforehand
    modules = {name: copy.deepcopy(m)._apply(widened) if _holds(m) else m for name, m in graph.modules.items()}
    wide_graph = replace(graph, constants=constants, modules=modules)
    with torch.no_grad(), in_float64():
        output = next(node for node in graph.nodes if node.op == "output")
        evaluate(wide_graph, [node for node in graph.nodes if node.op != "output"], values)
        result = fx.map_arg(output.args[0], lambda node: values[node])
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


def is_guard(graph: Graph, node: fx.Node) -> bool:
    """Whether the node calls a ShapeGuard, which checks the conditions that the program's inputs must meet."""
    return node.op == "call_module" and isinstance(graph.modules[str(node.target)], ShapeGuard)


def _holds(module: nn.Module) -> bool:
    return any(True for _ in (*module.parameters(), *module.buffers()))
