"""Turns a Graph back into an nn.Module: layers of torch.nn under readable names, with trainable parameters.

Convolutions, linear layers and batch norms become layers of torch.nn again, at the paths they came from. Other maps
become the layer that their file in `spellings` names. Modules that the graph calls as they are stay. The remaining
constants keep their names. Two nodes that use the same constants in the same way share one layer.
"""

import html
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from fusekit.ir.facts import known, start_afresh, where
from fusekit.ir.graph import Graph
from fusekit.ir.read import read
from fusekit.ir.reading import bind
from fusekit.ir.spellings import SPELLINGS, Layer
from fusekit.report import Report


class OptimizedModule(fx.GraphModule):
    """The optimized program. It always computes what the original computes in eval mode: `train()` does not switch
    dropout or batch statistics on again. Its parameters can be trained. `report` says what was done."""

    report: Report

    def train(self, mode: bool = True) -> "OptimizedModule":
        super().train(False)
        return self

    def _repr_html_(self) -> str:
        return self.report._repr_html_() if "report" in self.__dict__ else f"<pre>{html.escape(repr(self))}</pre>"

    def __copy__(self) -> "OptimizedModule":
        return self._like(OptimizedModule(self, self.graph))

    def __deepcopy__(self, memo: dict[int, Any]) -> "OptimizedModule":
        return self._like(super().__deepcopy__(memo))  # type: ignore[arg-type]

    def _like(self, copied: "OptimizedModule") -> "OptimizedModule":
        """Give a copy the name and the report of this module; torch does not copy them."""
        type(copied).__name__ = type(self).__name__  # torch makes a new class for every GraphModule
        if "report" in self.__dict__:
            copied.report = self.report
        return copied.train(False)

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, arguments = super().__reduce__()
        return _unpickle, (rebuild, arguments, type(self).__name__)


def _unpickle(rebuild: Any, arguments: tuple[Any, ...], name: str) -> OptimizedModule:
    plain = rebuild(*arguments)
    module = OptimizedModule(plain, plain.graph, name)
    if "report" in arguments[0]:
        module.report = arguments[0]["report"]
    return module.train(False)


# names that a sub-module of the user's model may have, but a sub-module of an OptimizedModule cannot
_RESERVED = {"report", "meta", *(set(dir(fx.GraphModule)) - set(dir(nn.Module)))}


def emit(graph: Graph) -> OptimizedModule:
    """The graph as a module. The graph is not changed, but its parameters are shared with the module."""
    return _Emitter(graph).run()


class _Emitter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.root = nn.Module()
        self.leaves: set[str] = set()
        self.inner: set[str] = set()
        self.layers: dict[Any, str] = {}
        self.parameters: dict[int, Tensor] = {}

    def run(self) -> OptimizedModule:
        nodes = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        placed = {path: self._place(path, module) for path, module in self.graph.modules.items()}
        plans = {node: plan for node in self.graph.nodes if (plan := self._layer_at(node)) is not None}
        names: dict[str, str] = {}
        for node in self.graph.nodes:
            if node in plans:
                path, source = plans[node]
                copies[node] = nodes.call_module(path, (copies[source],))
            elif node.op == "get_attr" and node.target in self.graph.constants:
                if any(user not in plans for user in node.users):
                    name = names.get(str(node.target)) or self._place_constant(str(node.target))
                    names[str(node.target)] = name
                    copies[node] = nodes.get_attr(name)
            else:
                given = partial(self._returned, nodes, copies) if node.op == "output" else copies.__getitem__
                copies[node] = nodes.node_copy(node, given)
                if node.op == "call_module":
                    copies[node].target = placed[str(node.target)]
            if node in copies:
                start_afresh(copies[node])
        return OptimizedModule(self.root, nodes, self.graph.name).train(False)

    def _returned(self, nodes: fx.Graph, copies: dict[fx.Node, fx.Node], node: fx.Node) -> fx.Node:
        """The node to return to the caller. A parameter is returned itself, as the model does. Any other constant is
        cloned: the model computes it anew at each call, so the caller may write into the result."""
        value = self.graph.constant(node)
        if value is None or isinstance(value, nn.Parameter):
            return copies[node]
        return nodes.call_function(torch.ops.aten.clone.default, (copies[node],))

    def _place(self, path: str, value: nn.Module | Tensor) -> str:
        """Register a module or a tensor at this path, or, if it is taken, at the path with the next free number.
        Returns the path that was used."""
        head, dot, rest = path.partition(".")
        path = f"{head}_{dot}{rest}" if head in _RESERVED else path
        free, number = path, 0
        while self._taken(free):
            number += 1
            free = f"{path}_{number}"
        *parents, name = free.split(".")
        owner = self.root
        for depth, parent in enumerate(parents):
            self.inner.add(".".join(parents[: depth + 1]))
            if parent not in owner._modules:
                owner.add_module(parent, nn.Module())
            owner = owner.get_submodule(parent)
        self.leaves.add(free)
        if isinstance(value, nn.Module):
            owner.add_module(name, value)
        elif isinstance(value, nn.Parameter):
            owner.register_parameter(name, value)
        else:
            owner.register_buffer(name, value)
        return free

    def _taken(self, path: str) -> bool:
        """True if something is registered at the path or inside it, or if a parent of the path is a leaf."""
        parts = path.split(".")
        above = (".".join(parts[:depth]) for depth in range(1, len(parts)))
        own = hasattr(nn.Module, parts[-1])  # attributes of every module, such as `to` and `float`
        return own or path in self.leaves or path in self.inner or any(parent in self.leaves for parent in above)

    def _place_constant(self, name: str) -> str:
        value = self.graph.constants[name]
        inside = any(".".join(name.split(".")[:depth]) in self.leaves for depth in range(1, name.count(".") + 1))
        return self._place("constants." + name.replace(".", "_") if inside else name, self._parameter(value))

    def _parameter(self, value: Tensor) -> Tensor:
        """The value as a parameter if it requires a gradient, else unchanged. Equal objects give the same parameter, so
        that tied weights stay tied."""
        if isinstance(value, nn.Parameter) or not value.requires_grad:
            return value
        return self.parameters.setdefault(id(value), nn.Parameter(value.detach()))

    def _layer_at(self, node: fx.Node) -> tuple[str, fx.Node] | None:
        """The path of the layer that a node becomes, and the node's input. None if the node stays a call of an
        operator."""
        if node.op != "call_function":
            return None
        if (layer := known(node).layer) is not None:
            if id(layer) not in self.layers:
                self.layers[id(layer)] = self._place(where(node), layer)
            return self.layers[id(layer)], node.all_input_nodes[0]
        make, reading = SPELLINGS.maker(node.target), read(self.graph, node)
        key = None if make is None or reading is None else self._key(node, reading.source)
        if make is None or reading is None or key is None:
            return None
        if key not in self.layers:
            made = make(self.graph, node)
            if made is None:
                return None
            self.layers[key] = self._place(where(node), self._filled(made))
        return self.layers[key], reading.source

    def _key(self, node: fx.Node, source: fx.Node) -> tuple[Any, ...] | None:
        """A key that is equal for all calls of the same layer. None if the graph computes an argument besides the
        input, because then the node cannot be a layer."""
        arguments: dict[Any, Any] = {**dict(enumerate(node.args)), **node.kwargs}
        arguments = bind(node) or arguments
        rest = {name: value for name, value in arguments.items() if value is not source}
        if any(isinstance(value, fx.Node) and self.graph.constant(value) is None for value in rest.values()):
            return None
        told = (value.target if isinstance(value, fx.Node) else str(value) for value in rest.values())
        return node.target, *zip(rest, told, strict=True)

    def _filled(self, layer: Layer) -> nn.Module:
        """The layer with its constants as parameters and buffers."""
        module = layer.module
        for name, value in layer.constants.items():
            if name in module._parameters:
                given = self._parameter(value)
                train = value.requires_grad
                given = given if isinstance(given, nn.Parameter) else nn.Parameter(given.detach(), requires_grad=train)
                setattr(module, name, given)
            else:
                module._buffers[name] = value.detach()
        return module
