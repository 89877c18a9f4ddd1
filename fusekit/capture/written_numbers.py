"""Numbers computed from sizes, written in whole numbers: the ceiling of a quotient is a quotient rounded down.

    max((math.ceil(h / 2) - 1) * 2 + 2 + 1 - h, 0)   is written   1 - h - 2 * (-h // 2)

That is what torch.export follows quickly with a free size: of ceilings, floats and maxima it proves little, slowly.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from fusekit.algebra.counts import Count, Floor, Most, Size
from fusekit.capture.numbers import Numbers
from fusekit.ir import Graph
from fusekit.ir.facts import start_afresh


def write_numbers(graph: Graph, numbers: Numbers) -> None:
    """Write each whole number that is read by what is none anew, from its count, and erase what nothing reads then."""
    writer = Writer(graph, numbers.sources.__getitem__)
    for node, number in numbers.of.items():
        if number.kind is int and number.count is not None and number.count.is_whole():
            readers = [user for user in node.users if user not in numbers.of]
            if readers and node not in numbers.sources.values():
                with graph.fx.inserting_before(node):
                    written = writer.write(number.count)
                for user in readers:
                    user.replace_input_with(node, written)
    erase_unread(graph, [*numbers.of, *numbers.sizes])


def erase_unread(graph: Graph, nodes: list[fx.Node]) -> None:
    """Erase those of the nodes, in any order, that nothing reads."""
    order = {node: position for position, node in enumerate(graph.nodes)}
    for node in sorted((node for node in nodes if node in order), key=order.__getitem__, reverse=True):
        if not node.users:
            graph.fx.erase_node(node)


class Writer:
    """Writes counts at the insertion point, each once; `source` has the node of a size by its key. A node that was
    written must come before whatever reads it: ask in the order of the graph."""

    def __init__(self, graph: Graph, source: Callable[[Any], Any]) -> None:
        self._graph = graph
        self._source = source
        self._written: dict[Any, Any] = {}

    def write(self, count: Count) -> Any:
        """The node of a whole count, or the number that it is."""
        return self._once(count, self._sum)

    def _once(self, key: Any, make: Callable[[Any], Any]) -> Any:
        if key not in self._written:
            self._written[key] = make(key)
        return self._written[key]

    def _sum(self, count: Count) -> Any:
        constant = 0
        total: Any = None
        for monomial, factor in count.sorted_terms():
            if not monomial:
                constant = int(factor)
                continue
            product: Any = None
            for atom, power in monomial:
                for _ in range(power):
                    value = self._once(atom, self._atom)
                    product = value if product is None else self._call(operator.mul, product, value)
            total = self._added(total, product, int(factor))
        if total is None:
            return constant
        return total if constant == 0 else self._call(operator.add, total, constant)

    def _added(self, total: Any, product: Any, factor: int) -> Any:
        if total is not None and factor == -1:
            return self._call(operator.sub, total, product)
        product = product if factor == 1 else self._call(operator.mul, product, factor)
        return product if total is None else self._call(operator.add, total, product)

    def _atom(self, atom: Size | Floor | Most) -> Any:
        if isinstance(atom, Size):
            return self._source(atom.key)
        if isinstance(atom, Floor):
            return self._call(operator.floordiv, self.write(atom.of), atom.by)
        return self._call(torch.sym_max, self.write(atom.one), self.write(atom.other))

    def _call(self, function: Any, *operands: Any) -> Any:
        if not any(isinstance(each, fx.Node) for each in operands):
            return function(*operands)
        node = self._graph.fx.call_function(function, operands)
        start_afresh(node)
        return node
