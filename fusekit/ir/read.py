"""Reads nodes as algebra.

A node *reads* as a map if, with its constants fixed, it computes that function of one tensor. An operator that is in no
table does not read, and its node is left as it is. The readers expect the canonical spelling that `capture` produces:
ATen overloads, and some functions of fusekit.
"""

from torch import fx

from fusekit.ir.graph import Graph
from fusekit.ir.reading import Reading, bind
from fusekit.ir.spellings import SPELLINGS
from fusekit.ir.spellings.elementwise import read_activation


def read(graph: Graph, node: fx.Node) -> Reading | None:
    """The node as a map, or None."""
    if graph.readings is None:
        return _read(graph, node)
    if node not in graph.readings:
        graph.readings[node] = _read(graph, node)
    reading: Reading | None = graph.readings[node]
    return reading


def _read(graph: Graph, node: fx.Node) -> Reading | None:
    reader = SPELLINGS.reader(node.target) if node.op == "call_function" else None
    if reader is not None:
        return reader(graph, node, bind(node))
    activation = read_activation(graph, node)
    return None if activation is None else Reading(*activation)
