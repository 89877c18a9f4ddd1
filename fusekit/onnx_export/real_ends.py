"""Gives a complex model real inputs and outputs, because an ONNX file here has no complex ones.

    interleaved   [*, 2]                the two parts on the last axis
    planar        [N, 2C, *]            the real parts, then the imaginary ones, along the channels ([2C] for a vector)
    pair          two tensors [*]       x_re, x_im

The export itself already writes the first form, so nothing is done for it here.
"""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from fusekit.errors import FusekitError
from fusekit.model import Inputs, evaluation_copy

INTERLEAVED, PLANAR, PAIR = ENDS = ("interleaved", "planar", "pair")


def between_real_ends(model: nn.Module, inputs: Inputs, ends: str) -> tuple[nn.Module, Inputs]:
    """A model with real inputs and outputs in the form `ends`, and example inputs for it.

    Raises `FusekitError` if `ends` is not in `ENDS`, for a tensor inside a container argument, and for a scalar with
    "planar".
    """
    if ends not in ENDS:
        raise FusekitError(f"io must be one of {', '.join(ENDS)}, got {ends!r}")
    if ends == INTERLEAVED:
        return model, inputs
    names = inputs.names(model)
    graph, given = fx.Graph(), iter(names)
    tensors: dict[str, Tensor] = {}

    def taken(value: Any, keyword: str = "") -> Any:
        """Make one or two placeholders for an argument. Returns what stands for the argument: a node, a list of the
        nodes of a complex tensor, or the value itself if it has no tensors."""
        if not isinstance(value, Tensor):
            if any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(value)):
                raise FusekitError(f"io={ends!r} takes tensors, got a {type(value).__name__} of them as an argument")
            return value
        name = keyword or next(given)
        if not value.is_complex():
            tensors[name] = value
            return graph.placeholder(name)
        parts = _parts(value, ends)
        nodes = []
        for suffix, part in zip(("_re", "_im") if ends == PAIR else ("",), parts, strict=True):
            tensors[name + suffix] = part
            nodes.append(graph.placeholder(name + suffix))
        return nodes

    args = [taken(value) for value in inputs.args]
    kwargs = {name: taken(value, name) for name, value in inputs.kwargs.items()}

    def whole(nodes: Any) -> Any:
        """The node of the complex tensor that the placeholders hold."""
        if not isinstance(nodes, list):
            return nodes
        if len(nodes) == 1:
            halves = graph.call_function(torch.chunk, (nodes[0], 2, _axis(tensors[nodes[0].target].dim())))
            nodes = [graph.call_function(operator.getitem, (halves, index)) for index in range(2)]
        return graph.call_function(torch.complex, tuple(nodes))

    called = graph.call_module("model", tuple(map(whole, args)), {name: whole(v) for name, v in kwargs.items()})
    with torch.no_grad():
        result = inputs.cloned().call(evaluation_copy(model))

    def given_back(value: Any, node: fx.Node) -> Any:
        """Convert the complex tensors in the model's result, element by element."""
        if isinstance(value, tuple | list | dict):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            parts = {key: given_back(v, graph.call_function(operator.getitem, (node, key))) for key, v in items}
            return parts if isinstance(value, dict) else type(value)(parts.values())
        if not isinstance(value, Tensor) or not value.is_complex():
            return node
        re, im = graph.call_function(torch.real, (node,)), graph.call_function(torch.imag, (node,))
        return (re, im) if ends == PAIR else graph.call_function(torch.cat, ([re, im], _axis(value.dim())))

    graph.output(given_back(result, called))
    return _module(model, graph).train(model.training), Inputs(tuple(tensors.values()))


def _module(model: nn.Module, graph: fx.Graph) -> nn.Module:
    """A module with the graph as its forward; the arguments of the forward are the inputs of the file. It is not a
    `GraphModule`, because that prints errors of the model's forward by itself."""
    code = graph.python_code("self")
    scope = dict(code.globals)
    exec(code.src, scope)
    module: nn.Module = type(type(model).__name__, (nn.Module,), {"forward": scope["forward"]})()
    module.model = model
    return module


def _parts(value: Tensor, ends: str) -> tuple[Tensor, ...]:
    """The real tensors for a complex one."""
    re, im = value.real, value.imag
    return (re, im) if ends == PAIR else (torch.cat([re, im], _axis(value.dim())),)


def _axis(rank: int) -> int:
    if rank == 0:
        raise FusekitError("a complex scalar has no planar form, because it has no axis: use io='pair'")
    return min(1, rank - 1)
