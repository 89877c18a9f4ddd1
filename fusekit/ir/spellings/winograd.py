"""Convolutions by Winograd's filters: windows cut, mixed, multiplied, mixed and joined, each a call of its own.

Only the mixings and the products in the middle read as maps again; what is cut is joined by nobody else.
"""

from torch import fx

from fusekit.algebra import WinogradConv
from fusekit.algebra.products.winograd_conv import cut, join
from fusekit.ir.graph import Graph
from fusekit.ir.spellings.conv import write_conv
from fusekit.ir.spellings.mixing import write_mixing
from fusekit.ir.spellings.table import Spelling


def _write(graph: Graph, value: WinogradConv, source: fx.Node, name: str) -> list[fx.Node]:
    geometry = (value.conv.n, value.outputs, value.taps, *value.conv.padding[-1])
    nodes = [graph.fx.call_function(cut, (source, *geometry))]
    nodes += write_mixing(graph, value.before, nodes[-1], name)
    nodes += write_conv(graph, value.products, nodes[-1], name)
    nodes += write_mixing(graph, value.after, nodes[-1], name)
    return [*nodes, graph.fx.call_function(join, (nodes[-1], source, *geometry))]


SPELLING = Spelling(written={WinogradConv: _write})
