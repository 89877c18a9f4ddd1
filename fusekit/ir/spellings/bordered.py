"""Folded convolutions with the correction of their border: the call of `bordered_conv`, and a layer of its own."""

from typing import Any

from torch import Tensor, fx

from fusekit.algebra import BorderedConv
from fusekit.algebra.bordered import bordered_conv, bordered_of, geometry_of
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reading
from fusekit.ir.spellings.table import Layer, Spelling
from fusekit.nn import BorderedConv1d, BorderedConv2d, BorderedConv3d

_LAYERS = {1: BorderedConv1d, 2: BorderedConv2d, 3: BorderedConv3d}


def _write(graph: Graph, value: BorderedConv, source: fx.Node, name: str) -> list[fx.Node]:
    def constant(tensor: Tensor | None, suffix: str) -> fx.Node | None:
        return None if tensor is None else graph.add_constant(tensor, f"{name}.{suffix}")

    folded, inner, outer = value.folded, value.inner, value.outer
    tensors = (
        constant(folded.weight, "weight"),
        constant(folded.bias, "bias"),
        constant(inner.weight, "inner_weight"),
        constant(inner.bias, "inner_bias"),
        constant(outer.weight, "outer_weight"),
    )
    geometry = (geometry_of(folded), geometry_of(inner), geometry_of(outer))
    return [graph.fx.call_function(bordered_conv, (source, *tensors, geometry))]


def _read(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    value, source = _value(graph, node), node.args[0]
    return Reading(value, source) if value is not None and isinstance(source, fx.Node) else None


def _value(graph: Graph, node: fx.Node) -> BorderedConv | None:
    _, *constants, geometry = node.args
    weight, bias, inner_weight, inner_bias, outer_weight = (graph.constant(constant) for constant in constants)
    if weight is None or inner_weight is None or outer_weight is None:
        return None
    pair: Any = geometry
    return bordered_of(weight, bias, inner_weight, inner_bias, outer_weight, pair)


def _emit(graph: Graph, node: fx.Node) -> Layer | None:
    """Its parameters are its own: folded anew, they could not be those of the pair."""
    value = _value(graph, node)
    if value is None:
        return None
    trains = any(graph.constants[str(source.target)].requires_grad for source in node.all_input_nodes[1:])
    return Layer(_LAYERS[value.folded.n](value).requires_grad_(trains))


SPELLING = Spelling(written={BorderedConv: _write}, read={bordered_conv: _read}, emitted={bordered_conv: _emit})
