"""What a forward decided by sizes while it was traced, held to by a check where it was decided.

`if h % 7:` goes one way for the example inputs, and the program that is captured is that way's. Called with sizes that
go the other, it must say so: it would answer wrongly, not loudly.
"""

import operator
from dataclasses import dataclass

from torch import fx

from fusekit.algebra.counts import Count
from fusekit.capture.numbers import Numbers
from fusekit.ir import Graph, Known, note
from fusekit.nn import ShapeGuard

_SIGNS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_NEGATED = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt", "eq": "ne", "ne": "eq"}


@dataclass(frozen=True)
class Decision:
    """Whether a condition held, the comparison of counts that it is, if it is one, and the line that asked."""

    held: bool
    comparison: tuple[str, Count, Count] | None
    line: str


def guard_decisions(graph: Graph, numbers: Numbers, decided: dict[fx.Node, Decision]) -> None:
    """A check behind each node that was decided by, each condition once."""
    seen: set[tuple[fx.Node | str, ...]] = set()
    for node, decision in decided.items():
        sources, condition = _condition(numbers, node, decision)
        if (key := (*sources, condition)) in seen:
            continue
        seen.add(key)
        path = f"decision_{len(seen) - 1}"
        while path in graph.modules:
            path += "_"
        graph.modules[path] = ShapeGuard([source.name for source in sources], [condition])
        with graph.fx.inserting_after(node):
            note(graph.fx.call_module(path, tuple(sources)), Known(where=path, line=decision.line))


def _condition(numbers: Numbers, node: fx.Node, decision: Decision) -> tuple[list[fx.Node], str]:
    """The nodes that a condition reads, and the condition over their names."""
    if decision.comparison is None:
        if node.target in (getattr(operator, name) for name in _SIGNS) and len(node.args) == 2:
            sign = _SIGNS[node.target.__name__ if decision.held else _NEGATED[node.target.__name__]]  # type: ignore[union-attr]
            return node.all_input_nodes, f"{node.args[0]} {sign} {node.args[1]}"
        return [node], node.name if decision.held else f"not {node.name}"
    name, left, right = decision.comparison
    sources = {key: numbers.sources[key] for count in (left, right) for key in count.sizes()}
    sign = _SIGNS[name if decision.held else _NEGATED[name]]
    spelled = [count.spelled(lambda key: sources[key].name) for count in (left, right)]
    return list(dict.fromkeys(sources.values())), f"{spelled[0]} {sign} {spelled[1]}"
