"""Where every entry of every value in a program comes from.

Entries are numbered. What a node computes gets numbers of its own, and what it only moves (views, slices, joins) keeps
those it had, because the move itself is run on the numbers. So each entry can be followed back to the product, the sum
or the nonlinearity that made it, however the program carries it about.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from fusekit.ir import Graph, evaluate
from fusekit.ir.graph import operator_name

_MOVES = frozenset(
    (
        *("view", "reshape", "_unsafe_view", "slice", "select", "split", "split_with_sizes", "chunk", "unbind", "cat"),
        *("stack", "transpose", "permute", "t", "unsqueeze", "squeeze", "expand", "flip", "narrow", "index_select"),
        *("getitem", "flatten", "unflatten", "movedim", "index", "tensor_split", "repeat", "unsafe_chunk"),
    )
)
# Linear in each argument alone; in all of them together
_PRODUCTS = frozenset(("mul", "div", "matmul", "mm", "mv", "bmm", "linear", "einsum", "conv1d", "conv2d"))
_SUMS = frozenset(("add", "sub", "rsub", "neg", "addmm", "addmv", "baddbmm"))
_STAYS = frozenset(
    ("clone", "contiguous", "detach", "alias", "to", "_to_copy", "type_as", "dropout", "lift_fresh_copy")
)


@dataclass
class Entries:
    """Every entry of every value that hangs on the input has a number: those that a node makes are numbered anew, those
    it only moves keep theirs."""

    graph: Graph
    values: dict[fx.Node, Any]
    numbers: dict[fx.Node, Any] = field(default_factory=dict)
    made: list[tuple[int, fx.Node, str, tuple[Tensor, ...]]] = field(default_factory=list)  # from a number on
    hanging: set[fx.Node] = field(default_factory=set)  # on the input
    count: int = 0

    def run(self) -> None:
        for node in self.graph.nodes:
            if node.op == "placeholder" or any(source in self.hanging for source in node.all_input_nodes):
                self.hanging.add(node)
            if node.op == "placeholder":
                self._number(node, "input")
            elif node.op == "call_function" and any(source in self.numbers for source in node.all_input_nodes):
                self._follow(node)

    def _follow(self, node: fx.Node) -> None:
        name = operator_name(node)
        sources = [source for source in node.all_input_nodes if source in self.numbers]
        if name in _MOVES:
            known = {source: self._numbers(source) for source in node.all_input_nodes}
            self.numbers[node] = evaluate(self.graph, [node], known)[node]
        elif name in _STAYS or self._changes_nothing(node, name):
            self.numbers[node] = self.numbers[sources[0]]
        elif name in ("sigmoid", "tanh") and len(sources) == 1:
            self._number(node, name, self.numbers[sources[0]])
        elif name in ("mul", "add") and len(node.args) == 2 and len(node.all_input_nodes) == 2 and not node.kwargs:
            shape = self.values[node].shape
            self._number(node, name, *(self._numbers(source).broadcast_to(shape) for source in node.all_input_nodes))
        else:
            self._number(node, "other")

    def _changes_nothing(self, node: fx.Node, name: str) -> bool:
        """Times one, plus zero."""
        if name not in ("mul", "add") or node.kwargs or len(node.args) != 2:
            return False
        moved = [source for source in node.all_input_nodes if source in self.numbers]
        if len(moved) != 1 or self.values[moved[0]].shape != self.values[node].shape:
            return False
        other = next((self.values[a] if isinstance(a, fx.Node) else a for a in node.args if a is not moved[0]), None)
        return isinstance(other, Tensor | float | int) and bool((torch.as_tensor(other) == (name == "mul")).all())

    def _numbers(self, source: fx.Node) -> Any:
        if source not in self.numbers and isinstance(self.values.get(source), Tensor):
            if not self.values[source].is_floating_point():
                return self.values[source]  # an index
            self._number(source, "constant")
        return self.numbers.get(source, self.values.get(source))

    def _number(self, node: fx.Node, kind: str, *operands: Tensor) -> None:
        value = self.values[node]
        self.made.append((self.count, node, kind, tuple(o.flatten() for o in operands)))
        self.numbers[node] = torch.arange(value.numel()).reshape(value.shape) + self.count
        self.count += value.numel()

    def of(self, number: int) -> tuple[str, tuple[int, ...]]:
        """What made an entry, and of which entries."""
        start, _, kind, operands = self._record(number)
        return kind, tuple(int(o[number - start]) for o in operands)

    def is_affine(self, node: fx.Node, ends: set[fx.Node]) -> bool:
        """Whether a value is an affine function of the input and of these values."""
        if node.op == "placeholder" or node in ends:
            return True
        sources = [source for source in node.all_input_nodes if source in self.hanging]
        name = operator_name(node)
        allowed = name in _MOVES | _STAYS | _SUMS or (name in _PRODUCTS and len(sources) == 1)
        divides = name == "div" and sources[:1] != [node.args[0]]
        product = name in ("addmm", "addmv", "baddbmm") and sum(a in sources for a in node.args[1:3]) > 1
        return allowed and not divides and not product and all(self.is_affine(source, ends) for source in sources)

    def places(self, numbers: Tensor) -> list[tuple[fx.Node, Tensor, Tensor]]:
        """The nodes that made these entries; of each, which of its numbers, and where they stand in its value."""
        flat = numbers.flatten().contiguous()
        starts = torch.tensor([start for start, *_ in self.made])
        records = torch.searchsorted(starts, flat, right=True) - 1
        found = []
        for record in records.unique().tolist():
            positions = (records == record).nonzero().flatten()
            found.append((self.made[record][1], positions, flat[positions] - self.made[record][0]))
        return found

    def gathered(self, values: Mapping[fx.Node, Any], numbers: Tensor) -> Tensor:
        """These entries, in the shape of their numbers, of the values of a run."""
        places = self.places(numbers)
        out = torch.empty(numbers.numel(), dtype=values[places[0][0]].dtype)
        for node, positions, indices in places:
            out[positions] = values[node].reshape(-1)[indices]
        return out.reshape(numbers.shape)

    def _record(self, number: int) -> tuple[int, fx.Node, str, tuple[Tensor, ...]]:
        return self.made[bisect_right(self.made, number, key=lambda record: record[0]) - 1]
