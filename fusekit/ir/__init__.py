"""One graph: nodes read as algebra, algebra written as nodes, the graph emitted as modules.

Knows torch.fx and what operators mean. Must not know where a graph came from, what is worth rewriting, or who runs it.
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
