"""Weights that hold NaN or infinity, and what may still be rewritten around them.

    0 · ∞ = NaN,  ∞ − ∞ = NaN

so a law that multiplies by zero, leaves a zero out, or adds in another order, moves them to other places. A fold that
reads such weights is refused; behind them, where activations are not finite either, only those laws hold that scale and
shift channel by channel: s (K ⋆ x) + t is NaN or infinite where (s K) ⋆ x + t is.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor, fx

from fusekit.algebra import Map
from fusekit.ir import Graph, Unread
from fusekit.ir.read import read

HOLD_BEHIND = {"fold-constants", "drop-identity", "fold-affine", "fold-affine-in", "fold-affines"}


def is_finite(value: Tensor) -> bool:
    """Whether all its numbers are. A finite sum has finite terms, and is found ten times as fast; a sum that is not may
    have gone beyond the range on the way."""
    if not (value.is_floating_point() or value.is_complex()):
        return True
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())


def has_finite_constants(value: Map) -> bool:
    """Whether all numbers of a map are finite; true where only its shapes are known."""
    return all(constant.is_meta or is_finite(constant) for constant in value.constants())


def spoiled_layers(graph: Graph) -> dict[fx.Node, str]:
    """The nodes that read weights which are not finite, and the name of one of these. A mask of infinities that is
    added is no weight."""
    names = {name for name, value in graph.constants.items() if not is_finite(value)}
    found: dict[fx.Node, str] = {}
    for node in graph.nodes if names else ():
        own = [str(s.target) for s in node.all_input_nodes if s.op == "get_attr" and s.target in names]
        reading = read(graph, node) if own else None
        if reading is not None and not isinstance(reading.map, Unread):
            found[node] = own[0]
    return found


def weights_before(nodes: Iterable[fx.Node], spoiled: Mapping[fx.Node, str]) -> str:
    """The name of such weights that these nodes depend on; "" if on none."""
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
