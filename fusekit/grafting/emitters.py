"""Maps as nodes of a file: one small function for each kind, valid for the file's version of the operators."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from onnx import NodeProto, TensorProto, helper
from torch import Tensor

from fusekit.algebra import (
    Affine,
    AppendOnes,
    Conv,
    EdgePad,
    Elementwise,
    Flatten,
    GlobalMean,
    Identity,
    Map,
    Pad,
    Picking,
    PixelShuffle,
    Split,
)
from fusekit.algebra.values import is_one, is_zero
from fusekit.grafting.constants import initializer
from fusekit.grafting.operators.activations import WRITTEN

_MODES = {"reflect": "reflect", "replicate": "edge"}


@dataclass
class Sheet:
    """Where nodes and their constants are written. `unique` makes a name that nothing else has."""

    opset: int
    unique: Callable[[str], str]
    nodes: list[NodeProto]
    initializers: list[TensorProto]

    def constant(self, value: Tensor, name: str) -> str:
        """A new constant; the name that it got."""
        name = self.unique(name)
        self.initializers.append(initializer(name, value))
        return name

    def integers(self, values: Sequence[int], name: str) -> str:
        """A new constant of integers."""
        return self.constant(torch.tensor(list(values), dtype=torch.int64), name)

    def node(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], path: str, **attributes: Any) -> None:
        """A new node of the place `path`."""
        self.nodes.append(helper.make_node(operator, list(inputs), list(outputs), name=path, **attributes))


@dataclass(frozen=True)
class Place:
    """What a map is applied to, `source`, a value of so many axes (`rank`, None if unknown); what comes of it,
    `output`; and the path of the node, after which constants are named."""

    source: str
    output: str
    path: str
    rank: int | None
    dtype: torch.dtype


def write(sheet: Sheet, value: Map, place: Place) -> None:
    """Nodes that compute a map that `has_form`."""
    _WRITERS[type(value)](sheet, value, place)


def has_form(value: Map) -> bool:
    """Whether a map can be written: its kind is known here, and it crops nothing and keeps its axes, as the operators
    do. Parts of what is split are written by `graft.py`."""
    if isinstance(value, Split):
        value = value.conv
    crops = isinstance(value, Conv) and any(min(pair) < 0 for pair in value.padding)
    drops = isinstance(value, GlobalMean) and not value.keeps
    return isinstance(value, Identity) or (type(value) in _WRITERS and not crops and not drops)


def _conv(sheet: Sheet, conv: Conv, place: Place) -> None:
    if conv.n == 0:
        _linear(sheet, conv, place)
        return
    inputs = [place.source, sheet.constant(conv.weight, f"{place.path}.weight")]
    if conv.bias is not None:
        inputs.append(sheet.constant(conv.bias, f"{place.path}.bias"))
    lows, highs = zip(*conv.padding, strict=True)
    geometry = {
        "kernel_shape": conv.window,
        "strides": conv.stride,
        "dilations": conv.dilation,
        "pads": (*lows, *highs),
        "group": conv.groups,
    }
    if conv.transposed and any(conv.output_padding):
        geometry["output_padding"] = conv.output_padding
    sheet.node("ConvTranspose" if conv.transposed else "Conv", inputs, [place.output], place.path, **geometry)


def _linear(sheet: Sheet, linear: Conv, place: Place) -> None:
    """Matrices are multiplied by Gemm, values of other ranks by MatMul."""
    weight, bias = linear.weight, linear.bias
    if place.rank == 2:
        inputs = [place.source, sheet.constant(weight, f"{place.path}.weight")]
        bias = weight.new_zeros(len(weight)) if bias is None and sheet.opset < 11 else bias
        inputs += [] if bias is None else [sheet.constant(bias, f"{place.path}.bias")]
        sheet.node("Gemm", inputs, [place.output], place.path, transB=1)
        return
    product = place.output if bias is None else sheet.unique(f"{place.path}.product")
    matrix = sheet.constant(weight.t(), f"{place.path}.weight.T")
    sheet.node("MatMul", [place.source, matrix], [product], place.path)
    if bias is not None:
        added = [product, sheet.constant(bias, f"{place.path}.bias")]
        sheet.node("Add", added, [place.output], f"{place.path}.plus_bias")


def _padded(sheet: Sheet, place: Place, pairs: Sequence[tuple[int, int]], mode: str, value: float = 0.0) -> None:
    """`pairs`: (low, high) of each axis of the value."""
    lows, highs = zip(*pairs, strict=True)
    if sheet.opset < 11:
        sheet.node("Pad", [place.source], [place.output], place.path, mode=mode, pads=[*lows, *highs], value=value)
        return
    inputs = [place.source, sheet.integers((*lows, *highs), f"{place.path}.pads")]
    if value:
        inputs.append(sheet.constant(torch.tensor(value, dtype=place.dtype), f"{place.path}.value"))
    sheet.node("Pad", inputs, [place.output], place.path, mode=mode)


def _pad(sheet: Sheet, pad: Pad, place: Place) -> None:
    _padded(sheet, place, _on_all_axes(pad.padding, place), "constant")


def _edge_pad(sheet: Sheet, pad: EdgePad, place: Place) -> None:
    _padded(sheet, place, _on_all_axes(pad.padding, place), _MODES[pad.mode])


def _ones(sheet: Sheet, ones: AppendOnes, place: Place) -> None:
    _padded(sheet, place, ((0, 0), (0, 1), *((0, 0),) * ones.n), "constant", 1.0)


def _on_all_axes(pairs: Sequence[tuple[int, int]], place: Place) -> list[tuple[int, int]]:
    assert place.rank is not None
    return [*((0, 0),) * (place.rank - len(pairs)), *pairs]


def _mean(sheet: Sheet, mean: GlobalMean, place: Place) -> None:
    sheet.node("GlobalAveragePool", [place.source], [place.output], place.path)


def _flatten(sheet: Sheet, flatten: Flatten, place: Place) -> None:
    sheet.node("Flatten", [place.source], [place.output], place.path, axis=1)


def _shuffle(sheet: Sheet, shuffle: PixelShuffle, place: Place) -> None:
    options = {"blocksize": shuffle.factor, "mode": "CRD"}
    sheet.node("DepthToSpace", [place.source], [place.output], place.path, **options)


def _activation(sheet: Sheet, value: Elementwise, place: Place) -> None:
    if value.function is torch.ops.aten.silu.default:
        gate = sheet.unique(f"{place.path}.gate")
        sheet.node("Sigmoid", [place.source], [gate], f"{place.path}.sigmoid")
        sheet.node("Mul", [place.source, gate], [place.output], place.path)
        return
    operator, attributes = WRITTEN[value.function]
    sheet.node(operator, [place.source], [place.output], place.path, **attributes(*value.arguments))


def _affine(sheet: Sheet, affine: Affine, place: Place) -> None:
    """A product, a sum, or for both a batch norm whose statistics change nothing: one node, as it is in the graph."""
    scale, shift = affine.scale.to(place.dtype), affine.shift.to(place.dtype)
    if not is_one(scale) and not is_zero(shift):
        words = {"weight": scale, "bias": shift, "mean": torch.zeros_like(scale), "var": torch.ones_like(scale)}
        inputs = [place.source, *(sheet.constant(value, f"{place.path}.{word}") for word, value in words.items())]
        sheet.node("BatchNormalization", inputs, [place.output], place.path, epsilon=0.0)
        return
    operator, word, value = ("Mul", "scale", scale) if is_zero(shift) else ("Add", "shift", shift)
    shaped = value if affine.axis is None else value.reshape(-1, *(1,) * (-affine.axis - 1))
    inputs = [place.source, sheet.constant(shaped, f"{place.path}.{word}")]
    sheet.node(operator, inputs, [place.output], place.path)


def _picking(sheet: Sheet, picking: Picking, place: Place) -> None:
    order = sheet.integers(picking.picked, f"{place.path}.order")
    sheet.node("Gather", [place.source, order], [place.output], place.path, axis=1)


_WRITERS: dict[type, Callable[[Sheet, Any, Place], None]] = {
    Affine: _affine,
    Conv: _conv,
    Pad: _pad,
    EdgePad: _edge_pad,
    AppendOnes: _ones,
    GlobalMean: _mean,
    Flatten: _flatten,
    Picking: _picking,
    PixelShuffle: _shuffle,
    Elementwise: _activation,
}
