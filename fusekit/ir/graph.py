"""A program: an fx graph, its constants, and the modules that it calls as they are. This file does no rewriting.

Constants and modules are kept in dictionaries, not in a module tree. The keys are the dotted names of the user's model;
new names come only from `fresh`. What is known about a node is in `facts.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph as FxGraph
from torch.fx import Node
from torch.fx.node import map_arg

from fusekit.ir.facts import Facts, Known, note

MOST_UNREAD = 1 << 27  # bytes


@dataclass
class Graph:
    """`nodes` as torch.fx has them; `get_attr` targets are keys of `constants`, `call_module` targets of `modules`."""

    fx: FxGraph
    constants: dict[str, Tensor] = field(default_factory=dict)
    modules: dict[str, nn.Module] = field(default_factory=dict)
    name: str = "Model"
    readings: dict[Node, Any] | None = None  # what `read` has read, while nothing changes the graph; None: not kept
    _counters: dict[str, int] = field(default_factory=dict)
    _unread: int = 0  # bytes of constants that nothing has read since the last `prune`, at most

    @property
    def nodes(self) -> Iterable[Node]:
        return self.fx.nodes

    def constant(self, node: object) -> Tensor | None:
        """The value at a `get_attr` node; None for anything else."""
        if isinstance(node, Node) and node.op == "get_attr":
            return self.constants.get(str(node.target))
        return None

    def fresh(self, name: str) -> str:
        """An unused name for a constant: `name` itself, or `name` with a number appended. Amortised O(1)."""
        if name not in self.constants:
            return name
        while True:
            self._counters[name] = number = self._counters.get(name, 0) + 1
            if f"{name}_{number}" not in self.constants:
                return f"{name}_{number}"

    def add_constant(self, value: Tensor, name: str) -> Node:
        """Register a value under a fresh name and return its `get_attr` node at the insertion point."""
        name = self.fresh(name)
        self.constants[name] = value
        node = self.fx.create_node("get_attr", name, name=name.replace(".", "_"))
        note(node, Known(facts=Facts(tuple(value.shape), value.dtype)))
        return node

    def erase_dead(self, region: Iterable[Node]) -> None:
        """Erase the nodes of a region that have no users, from last to first, and the `get_attr` nodes that only they
        read. The values stay in `constants` until `prune`, because another node may read them; a large model is pruned
        now and then, or its old weights would stay beside the new ones."""
        for node in reversed(list(region)):
            if not node.users:
                sources = node.all_input_nodes
                self.fx.erase_node(node)
                for source in sources:
                    if source.op == "get_attr" and not source.users:
                        self._unread += self.constants[str(source.target)].nbytes
                        self.fx.erase_node(source)
        if self._unread > MOST_UNREAD:
            self.prune()

    def prune(self) -> None:
        """Remove the constants and modules that no node refers to."""
        named = {str(node.target) for node in self.nodes if node.op in ("get_attr", "call_module")}
        self.constants = {name: value for name, value in self.constants.items() if name in named}
        self.modules = {name: module for name, module in self.modules.items() if name in named}
        self._unread = 0

    def lint(self) -> None:
        """Check the structure of the fx graph, and that every constant and module it names exists. Raises
        AssertionError (or RuntimeError, by torch.fx) if not."""
        self.fx.lint()
        for node in self.nodes:
            if node.op == "get_attr" and node.target not in self.constants:
                raise AssertionError(f"{node} reads the unknown constant {node.target}")
            if node.op == "call_module" and node.target not in self.modules:
                raise AssertionError(f"{node} calls the unknown module {node.target}")


def operator_name(node: Node) -> str:
    """The name of the operator without its overload: "add" for add.Tensor, operator.add and the method `add`."""
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.name.split("::")[1]
    return str(node.target if node.op == "call_method" else getattr(node.target, "__name__", node.target))


def evaluate(graph: Graph, nodes: Iterable[Node], values: dict[Node, Any]) -> dict[Node, Any]:
    """Run nodes in order and return their values.

    `values` holds the values given from outside (inputs, or constants in another dtype). It is extended in place.
    """
    for node in nodes:
        if node in values:
            continue
        arguments = map_arg((node.args, node.kwargs), lambda source: _value(graph, source, values))
        if node.op == "get_attr":
            values[node] = graph.constants[str(node.target)]
        elif node.op == "call_function":
            values[node] = node.target(*arguments[0], **arguments[1])  # type: ignore[operator]
        elif node.op == "call_method":
            values[node] = getattr(arguments[0][0], str(node.target))(*arguments[0][1:], **arguments[1])
        elif node.op == "call_module":
            values[node] = graph.modules[str(node.target)](*arguments[0], **arguments[1])
        else:
            raise AssertionError(f"{node.op} cannot be evaluated")
    return values


def _value(graph: Graph, node: Node, values: dict[Node, Any]) -> Any:
    if node not in values:
        evaluate(graph, [node], values)
    return values[node]
