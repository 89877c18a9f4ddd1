"""Pads: of zeros, of what stands at the edge, of a channel of ones; those that pad nothing read as the identity.

A pad of zeros before a convolution is not written: the convolution that takes it in writes what it cannot do itself.
"""

import math
from typing import Any

import torch
from torch import Tensor, fx, nn

from fusekit.algebra import AppendOnes, EdgePad, Identity, Pad, ValuePad
from fusekit.algebra.edge import circular_pad
from fusekit.algebra.pad import flat_padding, pad_channels
from fusekit.ir.facts import known, note
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reading
from fusekit.ir.spellings.table import Call, CalledLayer, Spelling

aten = torch.ops.aten


_LAYERS: list[type[nn.Module]] = [getattr(nn, f"{kind}Pad{n}d") for kind in ("Zero", "Constant") for n in (1, 2, 3)]


def pad_first(call: CalledLayer) -> tuple[Any, Any]:
    """(input, padding) of the convolution that a layer with a padding mode comes to: what is not of zeros is a pad
    before it, and then it pads nothing."""
    layer = call.module
    if layer.padding_mode == "zeros":
        return call.x, layer.padding
    amounts = list(layer._reversed_padding_repeated_twice)
    padded = call.graph.fx.call_function(aten.pad.default, (call.x, amounts, layer.padding_mode))
    note(padded, known(call.node))
    return padded, (0,) * len(layer.kernel_size)


def _call(call: CalledLayer) -> Call:
    value = float(getattr(call.module, "value", 0.0))
    return aten.pad.default, (call.x, list(call.module.padding), "constant", value)


def _write_edge(graph: Graph, value: EdgePad, source: fx.Node, name: str) -> list[fx.Node]:
    if len(value.stages) > 1:
        return [graph.fx.call_function(circular_pad, (source, value.stages))]
    return [graph.fx.call_function(aten.pad.default, (source, flat_padding(value.stages[0]), value.mode))]


def _write_zeros(graph: Graph, value: Pad, source: fx.Node, name: str) -> list[fx.Node]:
    return [graph.fx.call_function(aten.constant_pad_nd.default, (source, flat_padding(value.padding)))]


def _write_value(graph: Graph, value: ValuePad, source: fx.Node, name: str) -> list[fx.Node]:
    if isinstance(value.value, Tensor):
        constant = graph.add_constant(value.value, f"{name}.border" if name else "border")
        return [constant, graph.fx.call_function(pad_channels, (source, value.padding, constant))]
    call = (source, flat_padding(value.padding), value.value)
    return [graph.fx.call_function(aten.constant_pad_nd.default, call)]


def _write_ones(graph: Graph, value: AppendOnes, source: fx.Node, name: str) -> list[fx.Node]:
    return [graph.fx.call_function(aten.constant_pad_nd.default, (source, value.amounts, 1.0))]


def _read(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    amounts, mode = a["pad"], a.get("mode", "constant")
    if not all(isinstance(amount, int) for amount in amounts):
        return None
    pad = Pad(tuple((amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2))[::-1])
    if mode == "constant" and (value := a.get("value")):
        ones = AppendOnes(len(amounts) // 2 - 1)
        if value == 1 and list(amounts) == ones.amounts:
            return Reading(ones, a["self"])
        plain = isinstance(value, int | float) and math.isfinite(value) and min(amounts) >= 0 and max(amounts) > 0
        return Reading(ValuePad(pad.padding, float(value)), a["self"]) if plain else None
    if pad.is_identity():
        return Reading(Identity(None if mode == "constant" else len(pad.padding)), a["self"])
    if mode == "constant":
        return Reading(pad, a["self"])
    crops = any(amount < 0 for amount in amounts)
    return None if crops else Reading(EdgePad(mode, (pad.padding,)), a["self"])


def _read_circular(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    source, stages = node.args
    stages = tuple(tuple((low, high) for low, high in stage) for stage in stages)  # type: ignore[union-attr, misc]
    return Reading(EdgePad("circular", stages), source)  # type: ignore[arg-type]


def _read_channels(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    source, padding, given = node.args
    value = graph.constant(given)
    pairs = tuple((low, high) for low, high in padding)  # type: ignore[union-attr, misc]
    return None if value is None else Reading(ValuePad(pairs, value), source)  # type: ignore[arg-type]


SPELLING = Spelling(
    written={Pad: _write_zeros, EdgePad: _write_edge, AppendOnes: _write_ones, ValuePad: _write_value},
    read={
        aten.pad.default: _read,
        aten.constant_pad_nd.default: _read,
        circular_pad: _read_circular,
        pad_channels: _read_channels,
    },
    called=dict.fromkeys(_LAYERS, _call),
)
