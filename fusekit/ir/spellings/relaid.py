"""Convolutions in another layout: the conversions around them as calls, the convolution itself as ever."""

from typing import Any

import torch
from torch import fx

from fusekit.algebra import Relaid
from fusekit.algebra.layout import channels_first, channels_last
from fusekit.ir.graph import Graph
from fusekit.ir.spellings.conv import constant_of, write_call
from fusekit.ir.spellings.table import Spelling

aten = torch.ops.aten


def _write(graph: Graph, value: Relaid, source: fx.Node, name: str) -> list[fx.Node]:
    nodes: list[fx.Node] = []

    def call(target: Any, *arguments: int) -> None:
        nodes.append(graph.fx.call_function(target, (nodes[-1] if nodes else source, *arguments)))

    if value.planar:
        call(aten.unsqueeze.default, -2)
    if value.channels_last:
        call(channels_last)
    inner = value.inner
    weight, bias = constant_of(graph, inner.weight, f"{name}.weight"), constant_of(graph, inner.bias, f"{name}.bias")
    nodes += write_call(graph, inner, nodes[-1], weight, bias)
    if value.channels_last:
        call(channels_first)
    if value.planar:
        call(aten.squeeze.dim, -2)
    return nodes


SPELLING = Spelling(written={Relaid: _write})
