"""Reads nodes as algebra.

A node *reads* as a map if, its constants given, it is that function of one tensor. What is in no table does not read,
and stays as it is. The spelling is ATen overloads, which `capture` brings every model to, and calls of our own.
"""

from torch import fx

from fusekit.ir.graph import Graph
from fusekit.ir.reading import Reading, bind
from fusekit.ir.spellings import SPELLINGS
from fusekit.ir.spellings.elementwise import read_activation


def read(graph: Graph, node: fx.Node) -> Reading | None:
    """The node as a map, or None."""
    reader = SPELLINGS.reader(node.target) if node.op == "call_function" else None
    if reader is not None:
        return reader(graph, node, bind(node))
    activation = read_activation(graph, node)
    return None if activation is None else Reading(*activation)
