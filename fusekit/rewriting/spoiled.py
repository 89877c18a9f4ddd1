"""Weights that hold NaN or infinity, and which rewrites are still allowed near them.

    0 · ∞ = NaN,  ∞ − ∞ = NaN

A law that multiplies by zero, leaves out a zero, or adds in another order would move NaN and infinity to other
outputs. So a fold that reads such weights is refused. After such a layer activations are not finite either, and only
laws that scale and shift each channel still hold: s (K ⋆ x) + t is NaN or infinite exactly where (s K) ⋆ x + t is.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor, fx

from fusekit.algebra import Map
from fusekit.ir import Graph, Unread
from fusekit.ir.read import read

HOLD_BEHIND = {"fold-constants", "drop-identity", "fold-affine", "fold-affine-in", "fold-affines"}


def is_finite(value: Tensor) -> bool:
    """Whether all entries are finite. If their sum is finite, all are, and the sum is ten times faster to compute. If
    it is not, it may only have overflowed, so each entry is checked."""
    if not (value.is_floating_point() or value.is_complex()):
        return True
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())


def has_finite_constants(value: Map) -> bool:
    """Whether all constants of a map are finite. Constants on the meta device have no values and count as finite."""
    return all(constant.is_meta or is_finite(constant) for constant in value.constants())


def spoiled_layers(graph: Graph) -> dict[fx.Node, str]:
    """The linear layers with weights that are not finite, each with the name of one such weight. A mask of infinities
    that is added to a tensor is not a weight."""
    names = {name for name, value in graph.constants.items() if not is_finite(value)}
    found: dict[fx.Node, str] = {}
    for node in graph.nodes if names else ():
        own = [str(s.target) for s in node.all_input_nodes if s.op == "get_attr" and s.target in names]
        reading = read(graph, node) if own else None
        if reading is not None and not isinstance(reading.map, Unread):
            found[node] = own[0]
    return found


def weights_before(nodes: Iterable[fx.Node], spoiled: Mapping[fx.Node, str]) -> str:
    """The name of a weight that is not finite and that these nodes depend on; "" if there is none."""
    waiting = list(nodes) if spoiled else []
    seen: set[fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node in spoiled:
            return spoiled[node]
        if node not in seen:
            seen.add(node)
            waiting += node.all_input_nodes
    return ""
