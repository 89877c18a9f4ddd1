"""The graph of a program: its nodes are read as algebra, algebra is written as nodes, and the graph becomes a module.

Knows torch.fx and the meaning of operators. Must not know where a graph came from, which rewrites pay, or which runtime
will run it.
"""

from fusekit.ir.emit import OptimizedModule
from fusekit.ir.facts import Facts, Known, known, note, where
from fusekit.ir.graph import Graph, evaluate
from fusekit.ir.reading import Unread

__all__ = [
    "Facts",
    "Graph",
    "Known",
    "OptimizedModule",
    "Unread",
    "evaluate",
    "known",
    "note",
    "where",
]
