"""Blocks of channels mixed by a matrix, and blocks with a linear layer each: calls of `mix` and `grouped_linear`."""

from typing import Any

from torch import fx

from fusekit.algebra import GroupedLinear, Mixing
from fusekit.algebra.products.mixing import grouped_linear, mix
from fusekit.ir.facts import Known, note
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reading, weight_and_bias
from fusekit.ir.spellings.table import Spelling


def write_mixing(graph: Graph, value: Mixing, source: fx.Node, name: str) -> list[fx.Node]:
    """The matrix belongs to the algorithm and does not train; the bias belongs to the layer."""
    matrix = graph.add_constant(value.matrix, f"{name}.mixing")
    note(matrix, Known(fixed=True))
    bias = None if value.bias is None else graph.add_constant(value.bias, f"{name}.bias")
    return [graph.fx.call_function(mix, (source, matrix, bias, value.n, value.reads_inner, value.writes_inner))]


def _read_mix(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    arguments: Any = node.args
    source, matrix, bias, n, reads_inner, writes_inner = arguments
    values = weight_and_bias(graph, matrix, bias)
    if values is None or not isinstance(source, fx.Node):
        return None
    return Reading(Mixing(values[0], int(n), values[1], reads_inner, writes_inner), source)


def _write_grouped(graph: Graph, value: GroupedLinear, source: fx.Node, name: str) -> list[fx.Node]:
    weight = graph.add_constant(value.kernel, f"{name}.weight")
    bias = None if value.bias is None else graph.add_constant(value.bias, f"{name}.bias")
    return [graph.fx.call_function(grouped_linear, (source, weight, bias))]


def _read_grouped(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    source, weight, bias = node.args
    values = weight_and_bias(graph, weight, bias)
    return Reading(GroupedLinear(*values), source) if values is not None and isinstance(source, fx.Node) else None


SPELLING = Spelling(
    written={Mixing: write_mixing, GroupedLinear: _write_grouped},
    read={mix: _read_mix, grouped_linear: _read_grouped},
)
