"""Removes concatenations that are only split again at the same places.

    split(concat(x_1, ..., x_k)) = (x_1, ..., x_k)

The lowering concatenates real and imaginary parts so that laws can treat them as one tensor. Where no law applied, this
undoes it.
"""

from itertools import accumulate

from torch import fx

from fusekit.ir import Graph
from fusekit.ir.facts import facts
from fusekit.ir.joins import concatenated
from fusekit.rewriting.channel_paths import Part, part_of


def unjoin(graph: Graph) -> None:
    """Replace parts of concatenations by the tensors that were concatenated. The results are bitwise the same."""
    undone: dict[fx.Node, None] = {}
    for node in list(graph.nodes):
        part = part_of(node) if node.op == "call_function" else None
        source = _joined(graph, part) if part is not None else None
        if part is not None and source is not None:
            node.replace_all_uses_with(source)
            undone |= dict.fromkeys((part.whole, part.cut or part.whole, node))
    graph.erase_dead(sorted(undone))


def _joined(graph: Graph, part: Part) -> fx.Node | None:
    """The concatenated tensor that is exactly this part; None if there is none."""
    found = concatenated(graph, part.whole)
    if found is None or found[1] != part.axis:
        return None
    sizes = [facts(source).size(part.axis) for source in found[0]]
    if None in sizes:
        return None
    starts = accumulate((size or 0 for size in sizes), initial=0)
    places = {start: (size, source) for start, size, source in zip(starts, sizes, found[0], strict=False)}
    size, source = places.get(part.start, (None, None))
    return source if size == part.width else None
