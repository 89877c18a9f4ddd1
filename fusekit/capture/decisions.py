"""What a forward decided by sizes while it was traced, held to by a check where it was decided.

`if h % 7:` goes one way for the example inputs, and the program that is captured is that way's. Called with sizes that
go the other, it must say so: it would answer wrongly, not loudly.
"""

from dataclasses import dataclass
from typing import Any

from torch import fx

from fusekit.algebra.counts import Count
from fusekit.capture.numbers import Numbers
from fusekit.ir import Graph, Known, note, where
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
    seen: set[tuple[object, ...]] = set()
    for node, decision in decided.items():
        sources, condition, told = _condition(numbers, node, decision)
        if (key := (*sources, condition)) in seen:
            continue
        seen.add(key)
        path = f"decision_{len(seen) - 1}"
        while path in graph.modules:
            path += "_"
        graph.modules[path] = ShapeGuard([source.name for source in sources], [condition], [told])
        with graph.fx.inserting_after(node):
            note(graph.fx.call_module(path, tuple(sources)), Known(where=path, line=decision.line))


def _condition(numbers: Numbers, node: fx.Node, decision: Decision) -> tuple[list[fx.Node], str, str]:
    """The nodes that a condition reads, the condition over their names, and in the words of the model."""
    comparison = decision.comparison
    if comparison is None:
        told = _written(node) if decision.held else f"not {_written(node)}"
        told = f"{told}, as asked in {decision.line}" if decision.line else told
        return [node], node.name if decision.held else f"not {node.name}", told
    name, left, right = comparison
    sources = {key: numbers.sources[key] for count in (left, right) for key in count.sizes()}
    sign = f" {_SIGNS[name if decision.held else _NEGATED[name]]} "
    condition = sign.join(count.spelled(lambda key: sources[key].name) for count in (left, right))
    told = sign.join(count.spelled(_told) for count in (left, right))
    return list(dict.fromkeys(sources.values())), condition, told


def _written(value: object) -> str:
    """What a node asks, as one would write it; of what it asks, the name."""
    if not isinstance(value, fx.Node):
        return repr(value)
    name, given = getattr(value.target, "__name__", ""), value.args
    if name in _SIGNS:
        return f"{_written(given[0])} {_SIGNS[name]} {_written(given[1])}"
    if value.target is getattr:
        return f"{_written(given[0])}.{given[1]}"
    return f"{name}({_written(given[0])})" if name in ("len", "list") else where(value)


def _told(key: Any) -> str:
    """A size as one would ask for it."""
    if isinstance(key, fx.Node):
        return key.name
    tensor, axis = key
    return f"{where(tensor)}.size()[{axis}]"
