"""Small programs for tests: a module whose forward is one expression, and a graph of one operator, made by hand."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from fusekit.capture import capture
from fusekit.ir import Facts, Graph, Known, note
from fusekit.model import Inputs
from fusekit.model.own_copy import own_copy

torch.set_num_threads(1)

X = object()  # stands for the input among the arguments of an operator


class Calls(nn.Module):
    """A module whose forward is `body(self, x)`. Given tensors become parameters if they are floating-point, otherwise
    buffers."""

    def __init__(self, body: Callable[[Any, Any], Any], **parts: Any) -> None:
        super().__init__()
        self.body = body
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                setattr(self, name, part)
            elif part.is_floating_point():
                setattr(self, name, nn.Parameter(part))
            else:
                self.register_buffer(name, part)

    def forward(self, x: Any) -> Any:
        return self.body(self, x)


def captured(model: nn.Module, x: Tensor | None = None) -> Graph:
    """The model's graph in the canonical spelling, captured from a copy."""
    return capture(own_copy(model), None if x is None else Inputs.of(x)).graph


def result_of(graph: Graph) -> fx.Node:
    """The node whose value the graph returns."""
    output = next(node for node in graph.nodes if node.op == "output")
    return output.all_input_nodes[0]


def graph_of(
    target: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, known: Facts | None = None
) -> tuple[Graph, fx.Node]:
    """A graph of one call. X is its input, with the facts `known`; other tensors are constants."""
    graph = Graph(fx.Graph())
    x = graph.fx.placeholder("x")
    if known is not None:
        note(x, Known(facts=known))

    def argument(value: Any) -> Any:
        if value is X:
            return x
        if isinstance(value, list):
            return [argument(each) for each in value]
        return graph.add_constant(value, "constant") if isinstance(value, Tensor) else value

    spelled = tuple(argument(value) for value in args)
    named = {name: argument(value) for name, value in (kwargs or {}).items()}
    node = graph.fx.call_function(target, spelled, named)
    graph.fx.output(node)
    return graph, node


def snapshot(graph: Graph) -> tuple[str, dict[str, int], dict[str, Tensor]]:
    """Everything that a rolled-back rewrite might have changed: the code, the constants' identities and values."""
    identities = {name: id(value) for name, value in graph.constants.items()}
    return str(graph.fx), identities, {name: value.detach().clone() for name, value in graph.constants.items()}


def same_snapshot(first: Any, second: Any) -> bool:
    return bool(first[:2] == second[:2]) and all(torch.equal(first[2][name], second[2][name]) for name in first[2])
