"""The values that the example inputs have while a forward is traced, on fake tensors: asked for where sizes decide.

Nodes are run in their order, each once, up to the one that is asked for; a trace that decides nothing runs none.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from fusekit.ir import Graph, evaluate
from fusekit.model import Inputs, quiet


class Example:
    """The example inputs, and what a graph that is being traced makes of their shapes."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._values: dict[fx.Node, Any] = {}
        self._missing: dict[fx.Node, Exception] = {}
        self._last: fx.Node | None = None

    def value(self, node: fx.Node, root: nn.Module, constants: dict[str, Tensor]) -> Any:
        """The value at a node of a trace of `root`; raises what running an operator on the way there raised."""
        modules = {str(n.target): root.get_submodule(str(n.target)) for n in self._new(node) if n.op == "call_module"}
        graph = Graph(node.graph, constants, modules)
        with ThreadPoolExecutor(1) as other:  # what is patched for the trace does not hold there
            other.submit(self._run_to, node, graph).result()
        if node not in self._values:
            raise ValueError(f"its sizes for the example inputs are not known: {self._missing[node]}")
        return self._values[node]

    def _run_to(self, node: fx.Node, graph: Graph) -> None:
        names = [str(each.target) for each in node.graph.find_nodes(op="placeholder")]
        given = {**dict(zip(names, self._inputs.args, strict=False)), **self._inputs.kwargs}
        with self._mode, torch.no_grad(), quiet():
            for each in self._new(node):
                try:
                    self._run(graph, each, given)
                except Exception as error:  # it is asked for by nothing, or else told
                    self._missing[each] = error
        self._last = node

    def _new(self, node: fx.Node) -> list[fx.Node]:
        """The nodes that have not been run yet, up to this one."""
        nodes: list[fx.Node] = []
        current = node
        root = node.graph._root
        while current is not root and current is not self._last:
            nodes.append(current)
            current = current.prev
        return nodes[::-1]

    def _run(self, graph: Graph, node: fx.Node, given: dict[str, Any]) -> None:
        if node.op == "placeholder":
            value = given[str(node.target)] if str(node.target) in given else node.args[0]
            self._values[node] = pytree.tree_map_only(Tensor, self._mode.from_tensor, value)
            return
        if missing := next((each for each in node.all_input_nodes if each in self._missing), None):
            raise self._missing[missing]
        if node.op == "get_attr":
            self._values[node] = self._mode.from_tensor(graph.constants[str(node.target)])
        else:
            evaluate(graph, [node], self._values)
