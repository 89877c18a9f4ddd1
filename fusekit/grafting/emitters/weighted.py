"""Convolutions, linear layers, maps of each channel and of each entry as nodes."""

import torch

from fusekit.algebra import Affine, Conv, Elementwise, Normalization
from fusekit.algebra.values import is_one, is_zero
from fusekit.grafting.operators.activations import WRITTEN
from fusekit.grafting.operators.normalizations import NORMS
from fusekit.grafting.sheet import Emitter, Emitters, Place, Sheet


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


def _normalization(sheet: Sheet, norm: Normalization, place: Place) -> None:
    """These operators always scale: by ones, if the map does not."""
    ones = torch.ones(norm.channels, dtype=place.dtype)
    weight, bias = norm.weight, norm.bias
    inputs = [place.source, sheet.constant(ones if weight is None else weight, f"{place.path}.weight")]
    if norm.kind == "group" and bias is None:
        bias = torch.zeros_like(ones)
    if bias is not None:
        inputs.append(sheet.constant(bias, f"{place.path}.bias"))
    epsilon = torch.finfo(place.dtype).eps if norm.eps is None else norm.eps
    operator, _ = NORMS[norm.kind]
    options = {"num_groups": norm.groups} if norm.kind == "group" else {"axis": -1}
    sheet.node(operator, inputs, [place.output], place.path, epsilon=epsilon, **options)


def _is_offered(norm: Normalization, opset: int) -> bool:
    return opset >= NORMS[norm.kind][1]


EMITTERS: Emitters = {
    Affine: Emitter(_affine),
    Conv: Emitter(_conv),
    Elementwise: Emitter(_activation),
    Normalization: Emitter(_normalization, _is_offered),
}
