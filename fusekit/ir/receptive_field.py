"""Receptive fields: how many input samples one value of a tensor depends on, along each spatial axis.

    field(c(x)) = field(x) + jump(x) · d (k - 1)          jump(c(x)) = jump(x) · s

for a convolution or pool c of window k, dilation d, stride s. With several operands, the largest field counts. After
any other operator that is not pointwise (flattening, resizing, global pooling) the field is unknown, and None.
"""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from fusekit.algebra import Shape
from fusekit.ir.graph import Graph
from fusekit.ir.read import read
from fusekit.ir.reading import Reading, bind

aten = torch.ops.aten


@dataclass(frozen=True)
class Field:
    """Per spatial axis: the extent in input samples, and the distance (`jump`) between the centres of neighbouring
    values' fields."""

    extent: Shape
    jump: Shape

    def through(self, reach: Shape, stride: Shape) -> "Field":
        extent = tuple(e + j * r for e, j, r in zip(self.extent, self.jump, reach, strict=True))
        return Field(extent, tuple(j * s for j, s in zip(self.jump, stride, strict=True)))


_POINT = Field((), ())  # an input, or a pointwise function of it: one sample along any number of axes

_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_POOL_CALLS = {
    **dict.fromkeys((aten.max_pool1d.default, aten.avg_pool1d.default), 1),
    **dict.fromkeys((aten.max_pool2d.default, aten.avg_pool2d.default), 2),
    **dict.fromkeys((aten.max_pool3d.default, aten.avg_pool3d.default), 3),
}
_POINTWISE_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Hardswish),
    *(nn.Hardsigmoid, nn.Hardtanh, nn.PReLU, nn.Softplus, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
)
_POINTWISE_CALLS = {
    *(operator.add, operator.sub, operator.mul, operator.truediv, torch.add, torch.cat, torch.relu, torch.sigmoid),
    *(nn.functional.relu, nn.functional.gelu, nn.functional.silu, nn.functional.leaky_relu, torch.tanh),
    *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.cat.default, aten.relu.default),
    *(aten.relu_.default, aten.sigmoid.default, aten.tanh.default, aten.gelu.default, aten.silu.default),
    *(aten.batch_norm.default, aten.leaky_relu.default, aten.hardtanh.default, aten.hardswish.default),
    *(aten._to_copy.default, aten.to.dtype),
    *(aten.pad.default, aten.constant_pad_nd.default, aten.dropout.default, aten.alias.default, aten.clone.default),
}

_AXES_MOVED = (aten.permute.default, aten.transpose.int)  # a field of one sample stays one sample


def receptive_fields(graph: Graph) -> dict[fx.Node, Field | None]:
    """The receptive field of every tensor of the graph; None where it is unknown."""
    fields: dict[fx.Node, Field | None] = {}
    for node in graph.nodes:
        follow(graph, node, read(graph, node), fields)
    return fields


def follow(graph: Graph, node: fx.Node, reading: Reading | None, fields: dict[fx.Node, Field | None]) -> None:
    """Add the field of one node to `fields`, which holds those of the nodes before it. `reading`: what the node reads
    as."""
    if node.op == "placeholder":
        fields[node] = _POINT
    elif node.op.startswith("call_"):
        source = _largest([fields.get(n) for n in node.all_input_nodes if n in fields])
        fields[node] = _through(graph, node, reading, source)


def _through(graph: Graph, node: fx.Node, reading: Reading | None, source: Field | None) -> Field | None:
    if node.target in _AXES_MOVED:
        return source if source is not None and not source.extent else None
    window = _window(graph, node, reading)
    if window is None:
        return None
    reach, stride = window
    if source is None or not reach:
        return source
    if not source.extent:
        source = Field((1,) * len(reach), (1,) * len(reach))
    return source.through(reach, stride) if len(source.extent) == len(reach) else None


def _window(graph: Graph, node: fx.Node, reading: Reading | None) -> tuple[Shape, Shape] | None:
    """(d (k - 1), stride) per axis; empty for pointwise operators; None for others."""
    if reading is not None:
        span = None if reading.known is None else reading.known.span()
        if span is None or span.transposed:
            return None
        return ((), ()) if span.is_point else (span.reach, span.stride)
    if node.op == "call_module":
        module: Any = graph.modules[str(node.target)]
        if isinstance(module, _POOLS):
            n = int(type(module).__name__[-2])
            return _pool(n, module.kernel_size, module.stride, getattr(module, "dilation", 1))
        return ((), ()) if isinstance(module, _POINTWISE_MODULES) else None
    if node.target in _POOL_CALLS:
        a = bind(node)
        return _pool(_POOL_CALLS[node.target], a["kernel_size"], a["stride"] or a["kernel_size"], a.get("dilation", 1))
    return ((), ()) if node.target in _POINTWISE_CALLS else None


def _pool(n: int, kernel: Any, stride: Any, dilation: Any) -> tuple[Shape, Shape]:
    kernel, stride, dilation = ((v,) * n if isinstance(v, int) else tuple(v) for v in (kernel, stride, dilation))
    kernel, stride, dilation = (v * n if len(v) == 1 else v for v in (kernel, stride, dilation))
    return tuple(d * (k - 1) for d, k in zip(dilation, kernel, strict=True)), stride


def _largest(fields: list[Field | None]) -> Field | None:
    known = [field for field in fields if field is not None]
    if not known or len(known) < len(fields):
        return None
    grown = [field for field in known if field.extent] or known
    if len({len(field.extent) for field in grown}) > 1:
        return None
    return Field(
        tuple(map(max, *(field.extent for field in grown))) if len(grown) > 1 else grown[0].extent,
        tuple(map(max, *(field.jump for field in grown))) if len(grown) > 1 else grown[0].jump,
    )
