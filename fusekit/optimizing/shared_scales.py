"""Which channels of a graph must be scaled alike, and which must keep their scale.

Each channel of each value belongs to a group. A layer begins new groups behind it; what commutes with a positive scale
passes groups on; operands of a sum join theirs (union-find). All else fixes the groups that it reads: scale 1.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fusekit.algebra import Affine, AvgPool, Conv, Elementwise, Flatten, GlobalMean, Identity, Map, Pad
from fusekit.algebra.values import is_zero
from fusekit.ir import Graph, known, where
from fusekit.ir.graph import operator_name
from fusekit.ir.read import read
from fusekit.ir.reading import bind

aten = torch.ops.aten
_HOMOGENEOUS = {
    *(torch.relu, torch.abs, F.relu, F.leaky_relu),
    *(aten.relu.default, aten.leaky_relu.default, aten.abs.default),
}
_HOMOGENEOUS_LAYERS = (nn.ReLU, nn.LeakyReLU)
_MAX_POOLS = {
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
    *(aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default),
}
_MAX_POOL_LAYERS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_PRELUS = (torch.prelu, F.prelu, aten.prelu.default)


@dataclass(frozen=True)
class Channels:
    """The group of each channel of a value, and the axis of the channels, counted from the left."""

    axis: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer, what it reads, and the groups of its input and output channels: [C_in],
    [C_out]."""

    node: fx.Node
    source: fx.Node
    conv: Conv
    inputs: Tensor
    outputs: Tensor


@dataclass
class SharedScales:
    """The layers of a graph. Groups are numbered from 0 to `count`; `fixed` [count] tells those of scale 1."""

    graph: Graph
    layers: list[Layer] = field(default_factory=list)
    fixed: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    _parents: list[int] = field(default_factory=list)
    _reasons: dict[int, tuple[str, str]] = field(default_factory=dict)  # group: (where, why it is fixed)
    _channels: dict[fx.Node, Channels] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph) -> "SharedScales":
        """Those of a graph whose shapes are known (there are example inputs)."""
        found = cls(graph)
        weights = Counter(_weight_of(graph, node) for node in graph.nodes)
        rows: list[tuple[fx.Node, fx.Node, Conv, Channels, Channels]] = []
        for node in graph.nodes:
            row = found._visit(node)
            if row is not None:
                rows.append(row)
                if weights[_weight_of(graph, node)] > 1:
                    for channels in row[3:]:
                        found._fix(channels.groups, where(node), "its weight is shared with another call")
        found._number(rows)
        return found

    @property
    def count(self) -> int:
        return len(self.fixed)

    def refused(self) -> list[tuple[str, str]]:
        """(where, reason) for each place that fixes channels of a layer's output."""
        return list(dict.fromkeys(self._reasons.values()))

    def _visit(self, node: fx.Node) -> tuple[fx.Node, fx.Node, Conv, Channels, Channels] | None:
        if node.op in ("get_attr", "placeholder"):
            return None
        if node.op == "output":
            self._fix_all(node, "the output of the network keeps its scale")
            return None
        reading = read(self.graph, node)
        if reading is not None and isinstance(reading.map, Conv):
            return self._layer(node, reading.source, reading.map)
        passed = self._passed(node, None if reading is None else reading.known)
        if passed is None:
            self._fix_all(
                node,
                f"{operator_name(node) if node.op != 'call_module' else self._kind(node)} does not "
                "commute with a scale of each channel, or is not known to",
            )
        else:
            self._channels[node] = passed
        return None

    def _kind(self, node: fx.Node) -> str:
        return type(self.graph.modules[str(node.target)]).__name__

    def _layer(
        self, node: fx.Node, source: fx.Node, conv: Conv
    ) -> tuple[fx.Node, fx.Node, Conv, Channels, Channels] | None:
        shape, made = known(source).shape, known(node).shape
        if shape is None or made is None or not conv.kernel.is_floating_point():
            self._fix_all(node, "its sizes are not known, or it is not real")
            return None
        axis = conv.channel_axis % len(shape)
        seen = self._channels.get(source)
        if seen is None or seen.axis != axis or len(seen.groups) != conv.in_channels:
            if seen is not None:
                self._fix(seen.groups, where(node), "it reads another axis than that of the channels")
            seen = Channels(axis, self._new(conv.in_channels))
            self._fix(seen.groups, "", "")
        behind = Channels(conv.channel_axis % len(made), self._new(conv.out_channels))
        self._channels[node] = behind
        return node, source, conv, seen, behind

    def _passed(self, node: fx.Node, value: Map | None) -> Channels | None:
        """The channels of a node that passes scales on; None if it does not."""
        if node.target is aten.cat.default:
            return self._concatenated(node)
        if node.target in (aten.add.Tensor, aten.sub.Tensor) and value is None:
            return self._sum(node)
        source = next((n for n in node.all_input_nodes if n.op != "get_attr"), None)
        seen = self._channels.get(source) if source is not None else None
        shape, made = (None, None) if source is None else (known(source).shape, known(node).shape)
        if seen is None or shape is None or made is None:
            return None
        if isinstance(value, Flatten):
            times = math.prod(shape[2:])
            whole = seen.axis == 1 and len(made) == 2 and made[1] == len(seen.groups) * times
            return Channels(1, tuple(g for g in seen.groups for _ in range(times))) if whole else None
        passes = self._passes(node, value, seen, len(shape))
        same = len(made) > seen.axis and made[seen.axis] == len(seen.groups)
        return seen if passes and same else None

    def _passes(self, node: fx.Node, value: Map | None, seen: Channels, rank: int) -> bool:
        """Whether f(s x) = s f(x) for every positive scale of each channel."""
        if isinstance(value, Elementwise):
            return value.function in _HOMOGENEOUS or isinstance(value.function, _HOMOGENEOUS_LAYERS)
        if isinstance(value, Pad):
            return len(value.padding) < rank - seen.axis
        if isinstance(value, Affine):
            return is_zero(value.shift)
        if isinstance(value, AvgPool | GlobalMean | Identity):
            return True
        if node.op == "call_module":
            module = self.graph.modules[str(node.target)]
            hooked = module._forward_hooks or module._forward_pre_hooks
            if type(module) is nn.PReLU:
                return seen.axis == 1 and not hooked
            return type(module) in _MAX_POOL_LAYERS and not hooked and not module.return_indices
        if node.target in _PRELUS:
            return seen.axis == 1 and self.graph.constant(node.args[1]) is not None
        return node.target in _MAX_POOLS and not node.kwargs.get("return_indices")

    def _concatenated(self, node: fx.Node) -> Channels | None:
        a = bind(node)
        parts: Sequence[Any] = a["tensors"]
        seen = [self._channels.get(part) for part in parts]
        made = known(node).shape
        if made is None or any(each is None for each in seen):
            return None
        known_ones = [each for each in seen if each is not None]
        if {each.axis for each in known_ones} != {a["dim"] % len(made)}:
            return None
        return Channels(known_ones[0].axis, tuple(g for each in known_ones for g in each.groups))

    def _sum(self, node: fx.Node) -> Channels | None:
        operands = node.args[:2]
        seen = [self._channels.get(operand) for operand in operands if isinstance(operand, fx.Node)]
        shapes = {known(operand).shape for operand in operands if isinstance(operand, fx.Node)}
        if len(seen) != 2 or None in seen or shapes != {known(node).shape}:
            return None
        left, right = (each for each in seen if each is not None)
        if left.axis != right.axis:
            return None
        for a, b in zip(left.groups, right.groups, strict=True):
            self._join(a, b)
        return left

    def _new(self, count: int) -> tuple[int, ...]:
        start = len(self._parents)
        self._parents += range(start, start + count)
        return tuple(range(start, start + count))

    def _root(self, group: int) -> int:
        while self._parents[group] != group:
            self._parents[group] = group = self._parents[self._parents[group]]
        return group

    def _join(self, a: int, b: int) -> None:
        a, b = self._root(a), self._root(b)
        if a == b:
            return
        self._parents[b] = a
        if b in self._reasons:
            self._reasons.setdefault(a, self._reasons[b])
            del self._reasons[b]

    def _fix(self, groups: Sequence[int], place: str, reason: str) -> None:
        for group in groups:
            self._reasons.setdefault(self._root(group), (place, reason))

    def _fix_all(self, node: fx.Node, reason: str) -> None:
        for source in node.all_input_nodes:
            if source in self._channels:
                self._fix(self._channels[source].groups, where(node), reason)

    def _number(self, rows: Sequence[tuple[fx.Node, fx.Node, Conv, Channels, Channels]]) -> None:
        numbers: dict[int, int] = {}

        def numbered(channels: Channels) -> Tensor:
            roots = (self._root(group) for group in channels.groups)
            return torch.tensor([numbers.setdefault(root, len(numbers)) for root in roots], dtype=torch.long)

        self.layers = [Layer(*row[:3], numbered(row[3]), numbered(row[4])) for row in rows]
        self.fixed = torch.tensor([root in self._reasons for root in numbers], dtype=torch.bool)
        self._reasons = {group: told for group, told in self._reasons.items() if told[1]}


def _weight_of(graph: Graph, node: fx.Node) -> int:
    """What the weights of calls are told apart by; the node itself if it reads none."""
    constants = [value for source in node.all_input_nodes if (value := graph.constant(source)) is not None]
    large = [value for value in constants if value.ndim > 1]
    return large[0].data_ptr() if large else id(node)
