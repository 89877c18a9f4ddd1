"""The size of the program of a graph."""

from fusekit.ir.facts import known
from fusekit.ir.graph import Graph
from fusekit.ir.read import read
from fusekit.report import Totals


def totals(graph: Graph) -> Totals:
    """The number of operators, of parameter entries, and of multiply-accumulates of convolutions and linear layers for
    the shapes of the example inputs."""
    operators = sum(node.op.startswith("call_") for node in graph.nodes)
    tensors = {id(t): t for t in graph.constants.values() if t.is_floating_point() or t.is_complex()}
    for module in graph.modules.values():
        tensors |= {id(p): p for p in module.parameters()}
    macs: int | None = 0
    for node in graph.nodes:
        reading = read(graph, node)
        value = None if reading is None else reading.known
        if reading is not None and value is not None and value.is_weighted():
            shape = known(reading.source).shape
            macs = None if macs is None or shape is None else macs + value.macs(shape)
    return Totals(operators, sum(t.numel() for t in tensors.values()), macs)
