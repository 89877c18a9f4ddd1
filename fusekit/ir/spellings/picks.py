"""Channels by an index, in reverse, or shuffled: orders that convolutions read and write for nothing."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from fusekit.algebra import Picking
from fusekit.ir.facts import facts
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reading
from fusekit.ir.spellings.table import Call, CalledLayer, Spelling

aten = torch.ops.aten


def picked(graph: Graph, source: Any, axis: Any, index: Any) -> Reading | None:
    """The channels of `source` that `index` names, a list of numbers or a constant of them; None where `axis` is not
    the channels', or how many there are is not known."""
    known = facts(source)
    total = None if known.rank is None or known.rank < 2 else known.size(1 - known.rank)
    value = graph.constant(index) if isinstance(index, fx.Node) else index
    if isinstance(value, Tensor):
        value = value.tolist() if value.dtype == torch.int64 and value.ndim == 1 else None
    if not total or known.rank is None or axis not in (1, 1 - known.rank) or not isinstance(value, list):
        return None
    if not value or not all(type(number) is int and -total <= number < total for number in value):
        return None
    return Reading(Picking(tuple(number % total for number in value), total, known.rank - 2), source)


def _read_index(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """x[:, index]."""
    indices = a["indices"]
    return picked(graph, a["self"], 1, indices[1]) if len(indices) == 2 and indices[0] is None else None


def _read_select(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    return picked(graph, a["self"], a["dim"], a["index"])


def _read_flip(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    known, dims = facts(a["self"]), a["dims"]
    total = None if known.rank is None or known.rank < 2 else known.size(1 - known.rank)
    return picked(graph, a["self"], dims[0], list(range(total))[::-1]) if total and len(dims) == 1 else None


def _read_shuffle(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """Groups of channels interleaved: channel g·(C/G) + k goes to k·G + g (Zhang et al., ShuffleNet, 2018)."""
    known, groups = facts(a["self"]), a["groups"]
    total = None if known.rank is None or known.rank < 3 else known.size(1 - known.rank)
    if not total or not isinstance(groups, int) or total % groups:
        return None
    return picked(graph, a["self"], 1, torch.arange(total).reshape(groups, -1).t().flatten().tolist())


def _call_shuffle(call: CalledLayer) -> Call:
    return aten.channel_shuffle.default, (call.x, call.module.groups)


SPELLING = Spelling(
    read={
        aten.index.Tensor: _read_index,
        aten.index_select.default: _read_select,
        aten.flip.default: _read_flip,
        **dict.fromkeys((aten.channel_shuffle.default, aten.native_channel_shuffle.default), _read_shuffle),
    },
    called={nn.ChannelShuffle: _call_shuffle},
)
