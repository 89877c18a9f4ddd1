"""What nodes read as: every operator of the table is the function its map says, and what is another function does not
read. All in float64, where a reading that is off by one axis or one default shows at once."""

import operator
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

from fusekit.algebra import (
    Affine,
    BorderedConv,
    Conv,
    Cut,
    Flatten,
    GlobalMean,
    Identity,
    MergeLeading,
    Normalization,
    Pad,
    Picking,
)
from fusekit.algebra.bordered import bordered_conv, geometry_of
from fusekit.algebra.edge import circular_pad
from fusekit.algebra.products.mixing import grouped_linear, mix
from fusekit.algebra.transforms.spectral_conv import spectral_conv
from fusekit.capture.exported import export
from fusekit.errors import Inapplicable
from fusekit.ir import Facts, Unread, evaluate, spellings
from fusekit.ir.read import read
from fusekit.ir.spelling import is_spelled
from fusekit.model import Inputs
from fusekit.model.own_copy import own_copy
from tests.support import ledger
from tests.support.graphs import Calls, X, captured, graph_of, result_of
from tests.support.strategies import convs, gaussian, inputs_of, relative_error

aten = torch.ops.aten
TOLERANCE = 1e-12

Case = tuple[tuple[Any, ...], dict[str, Any], Tensor]  # arguments, keyword arguments, input
Draw = st.DrawFn


def _symmetric(conv: Conv) -> Conv:
    padding = tuple((low, low) for low, _ in conv.padding)
    return Conv(conv.kernel, conv.bias, conv.stride, padding, conv.dilation, conv.transposed, conv.output_padding)


def _conv(n: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        conv = _symmetric(draw(convs(n=n)))
        padding = [low for low, _ in conv.padding]
        if draw(st.booleans()):
            named = {"stride": conv.stride, "padding": padding, "dilation": conv.dilation, "groups": conv.groups}
            return (X, conv.weight), {"bias": conv.bias, **named}, draw(inputs_of(conv))
        geometry = (list(conv.stride), padding, list(conv.dilation), conv.groups)
        return (X, conv.weight, conv.bias, *geometry), {}, draw(inputs_of(conv))

    return case


def _conv_word(n: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        word = draw(st.sampled_from(("same", "valid")))
        conv = draw(convs(n=n, stride=(1,) * n if word == "same" else None))
        return (X, conv.weight, conv.bias, conv.stride, word, conv.dilation, conv.groups), {}, draw(inputs_of(conv))

    return case


def _convolution(draw: Draw) -> Case:
    conv = _symmetric(draw(convs(n=draw(st.integers(1, 3)), transposed=None)))
    padding = [low for low, _ in conv.padding]
    geometry = (conv.stride, padding, conv.dilation, conv.transposed, conv.output_padding, conv.groups)
    return (X, conv.weight, conv.bias, *geometry), {}, draw(inputs_of(conv))


def _conv_transpose(n: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        conv = draw(convs(n=n, transposed=True))
        padding = [low for low, _ in conv.padding]
        geometry = (conv.stride, padding, conv.output_padding, conv.groups, conv.dilation)
        return (X, conv.weight, conv.bias, *geometry), {}, draw(inputs_of(conv))

    return case


def _linear(draw: Draw) -> Case:
    conv = draw(convs(n=0))
    leading = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 3)))]
    return (X, conv.weight, conv.bias), {}, gaussian(draw, *leading, conv.in_channels)


def _batch_norm(draw: Draw) -> Case:
    channels = draw(st.integers(1, 4))
    weight, bias = (gaussian(draw, channels) if draw(st.booleans()) else None for _ in range(2))
    mean, var = gaussian(draw, channels), gaussian(draw, channels).abs() + 0.01
    eps = draw(st.sampled_from((1e-5, 1e-3, 0.5, 0.0)))
    spatial = [channels for _ in range(draw(st.integers(0, 3)))]  # C = H = W: only the axis tells
    return (X, weight, bias, mean, var, False, 0.1, eps, True), {}, gaussian(draw, 2, channels, *spatial)


def _instance_norm(draw: Draw) -> Case:
    (x, weight, bias, mean, var, _, momentum, eps, cudnn), named, value = _batch_norm(draw)
    value = value if value.ndim > 2 else value.unsqueeze(-1)
    return (x, weight, bias, mean, var, False, momentum, eps, cudnn), named, value


def _bounds(draw: Draw) -> tuple[int | None, int | None, int]:
    """Start, stop and step that leave something of six or more."""
    start = draw(st.sampled_from((None, 0, 1, 2)))
    stop = draw(st.sampled_from((None, -1, -2, sys.maxsize)))
    return start, stop, draw(st.integers(1, 3))


def _subscript(draw: Draw) -> Case:
    if draw(st.integers(0, 3)) == 0:
        rest = (slice(None),) * draw(st.integers(0, 2))
        return (X, (slice(None), _index(draw), *rest)), {}, gaussian(draw, 2, 4, 3, 4)
    spatial = [slice(1, -1), *(slice(*_bounds(draw)) for _ in range(draw(st.integers(0, 2))))]
    whole = (slice(None), slice(None, None, 1))
    index = draw(st.sampled_from(((*whole, *spatial), (Ellipsis, *spatial), (*whole, *spatial[:1], Ellipsis))))
    return (X, index), {}, gaussian(draw, 2, 3, *(6, 7, 8)[: len(spatial)])


def _slice(draw: Draw) -> Case:
    start, stop, step = _bounds(draw)
    return (X, draw(st.sampled_from((3, -1))), start, stop, step), {}, gaussian(draw, 2, 3, 6, 7)


def _index(draw: Draw) -> list[int]:
    """Numbers of four channels, in any order, some left out, some twice, some from the end."""
    return [draw(st.integers(-4, 3)) for _ in range(draw(st.integers(1, 5)))]


def _picked(draw: Draw) -> Case:
    index = torch.tensor(_index(draw))
    return (X, [None, index]), {}, gaussian(draw, 2, 4, *(3, 4)[: draw(st.integers(0, 2))])


def _index_select(draw: Draw) -> Case:
    index = torch.tensor(_index(draw)) % 4
    return (X, draw(st.sampled_from((1, -3))), index), {}, gaussian(draw, 2, 4, 3, 4)


def _flip(draw: Draw) -> Case:
    return (X, [draw(st.sampled_from((1, -3)))]), {}, gaussian(draw, 2, 4, 3, 4)


def _channel_shuffle(draw: Draw) -> Case:
    return (X, draw(st.sampled_from((1, 2, 3, 6)))), {}, gaussian(draw, 2, 6, 3, 4)


def _norm_of_input(kind: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        channels = draw(st.sampled_from((2, 4)))
        weight, bias = (gaussian(draw, channels) if draw(st.booleans()) else None for _ in range(2))
        if kind == "group":
            x = gaussian(draw, 2, channels, *(3, 2)[: draw(st.integers(0, 2))])
            return (X, draw(st.sampled_from((1, 2))), weight, bias, 0.25), {}, x
        x = gaussian(draw, *(2, 3)[: draw(st.integers(0, 2))], channels)
        return (X, [channels], weight, *(() if kind == "rms" else (bias,)), 0.25), {}, x

    return case


def _permute(draw: Draw) -> Case:
    dims = draw(st.permutations((0, 1, 2, 3)))
    return (X, [dim - 4 * draw(st.integers(0, 1)) for dim in dims]), {}, gaussian(draw, 2, 3, 4, 5)


def _transpose(draw: Draw) -> Case:
    return (X, draw(st.integers(-4, 3)), draw(st.integers(-4, 3))), {}, gaussian(draw, 2, 3, 4, 5)


def _einsum(draw: Draw) -> Case:
    equation, shape = draw(
        st.sampled_from(
            (
                ("bchw, oc -> bohw", (4, 3)),
                ("bchw,co->bohw", (3, 4)),
                ("bchw,ow->bcho", (4, 5)),
                ("wo,bchw->bcho", (5, 4)),
                ("bcl,oc->bol", (4, 3)),
                ("nd,de->ne", (3, 4)),
            )
        )
    )
    weight = gaussian(draw, *shape)
    rank = max(map(len, equation.replace(" ", "").split("->")[0].split(",")))
    x = gaussian(draw, *(2, 3, 4, 5)[:rank])
    return (equation, [weight, X] if equation.startswith("wo") else [X, weight]), {}, x


def _dropout(draw: Draw) -> Case:
    return (X, 0.5, False), {}, gaussian(draw, 2, 3)


def _alias(draw: Draw) -> Case:
    return (X,), {}, gaussian(draw, 2, 3)


def _avg_pool(n: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        window = [draw(st.integers(1, 3)) for _ in range(n)]
        padding = [draw(st.integers(0, k // 2)) for k in window]
        stride = draw(st.sampled_from(([], [2] * n, list(range(1, n + 1)))))
        return (X, window, stride, padding, False, True), {}, gaussian(draw, 2, 3, *(5, 6, 7)[:n])

    return case


def _matmul(draw: Draw) -> Case:
    leading = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 2)))]
    return (X, gaussian(draw, 4, 3)), {}, gaussian(draw, *leading, 2, 4)


def _mm(draw: Draw) -> Case:
    return (X, gaussian(draw, 4, 3)), {}, gaussian(draw, 2, 4)


def _pixel_shuffle(draw: Draw) -> Case:
    factor = draw(st.integers(1, 3))
    return (X, factor), {}, gaussian(draw, 2, 2 * factor**2, 3, 4)


def _adaptive(n: int) -> Callable[[Draw], Case]:
    return lambda draw: ((X, [1] * n), {}, gaussian(draw, 2, 3, *(3, 4, 5)[:n]))


def _mean(draw: Draw) -> Case:
    dims = draw(st.sampled_from(([-1], [-2, -1], [-1, -2], [2, 3], [3], [-1, 2], [-3, -2, -1])))
    if draw(st.booleans()):
        return (X, draw(st.sampled_from(([-2, -1], [3, 2], [2, -1])))), {}, gaussian(draw, 2, 3, 4, 5)
    return (X, dims, True), {}, gaussian(draw, 2, 3, 4, 5)


def _flatten(draw: Draw) -> Case:
    if draw(st.booleans()):
        return (X, *draw(st.sampled_from(((0, 1), (-4, 2), (0, -2), (1, 3))))), {}, gaussian(draw, 2, 3, 4, 5)
    return (X, 1), {}, gaussian(draw, 2, 3, *(4, 5)[: draw(st.integers(0, 2))])


def _amounts(draw: Draw) -> list[int]:
    return [draw(st.integers(-1, 2)) for _ in range(2 * draw(st.integers(1, 3)))]


def _pad(draw: Draw) -> Case:
    if draw(st.booleans()):
        amounts = [draw(st.integers(0, 2)) for _ in range(4)]
        return (X, amounts, draw(st.sampled_from(("circular", "reflect", "replicate")))), {}, gaussian(draw, 2, 3, 4, 5)
    if draw(st.integers(0, 3)) == 0:
        return (X, [draw(st.integers(0, 2)), 1, 0, 1], "constant", -2.5), {}, gaussian(draw, 3, 4, 5, 6)
    value = draw(st.sampled_from((None, 0.0, 0)))
    return (X, _amounts(draw), "constant", value), {}, gaussian(draw, 3, 4, 5, 6)


def _constant_pad(draw: Draw) -> Case:
    if draw(st.integers(0, 3)) == 0:
        return (X, [*(0, 0) * draw(st.integers(0, 3)), 0, 1], 1.0), {}, gaussian(draw, 2, 3, 4, 5)
    return (X, _amounts(draw)), {}, gaussian(draw, 3, 4, 5, 6)


def _operand(draw: Draw, size: int) -> Tensor | float:
    """A number, a 0-d tensor, one number, or one number per entry of some axis of a (size, ..., size) tensor."""
    shapes = ((), (1,), (1, 1), (size,), (size, 1), (size, 1, 1), (1, size, 1), (1, 1, size, 1), (1, size, 1, 1))
    if draw(st.integers(0, len(shapes))) == 0:
        return draw(st.sampled_from((2, -1.5, 0.25, 1)))
    shape: tuple[int, ...] = draw(st.sampled_from(shapes))
    return gaussian(draw, *shape) + 3.0


def _arithmetic(*, left: bool, alpha: bool, number: bool | None = None) -> Callable[[Draw], Case]:
    """x ∘ constant and, where the overload takes it, constant ∘ x; with alpha by name where there is one."""

    def case(draw: Draw) -> Case:
        size = draw(st.integers(2, 4))
        operand = draw(st.sampled_from((2, -1.5, 0.25))) if number else _operand(draw, size)
        if number is False and not isinstance(operand, Tensor):
            operand = torch.tensor(operand, dtype=torch.float64)
        swap = left and isinstance(operand, Tensor) and draw(st.booleans())
        kwargs = {"alpha": draw(st.sampled_from((1, 2, -0.5)))} if alpha and draw(st.booleans()) else {}
        return ((operand, X) if swap else (X, operand)), kwargs, gaussian(draw, size, size, size, size)

    return case


def _circular_pad(draw: Draw) -> Case:
    stages = tuple(tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(2)) for _ in range(3))
    return (X, stages), {}, gaussian(draw, 2, 3, 2, 3)


def _spectral(draw: Draw) -> Case:
    conv = draw(convs(n=draw(st.integers(1, 3)), transposed=None))
    geometry = (conv.stride, conv.padding, conv.dilation, conv.groups, conv.transposed, conv.output_padding)
    return (X, conv.weight, conv.bias, *geometry), {}, draw(inputs_of(conv))


def _bordered(draw: Draw) -> Case:
    """Two convolutions folded, with the ring put right: the outer one always pads."""
    inner = draw(convs(n=draw(st.integers(1, 2))))
    outer = draw(convs(n=inner.n, in_channels=inner.out_channels))
    outer = replace(outer, padding=tuple((low + 1, high) for low, high in outer.padding))
    inner = replace(inner, bias=gaussian(draw, inner.out_channels))
    value = BorderedConv.fold(outer, inner)
    assert isinstance(value, BorderedConv)
    tensors = (value.folded.weight, value.folded.bias, inner.weight, inner.bias, outer.weight)
    geometry = (geometry_of(value.folded), geometry_of(inner), geometry_of(outer))
    return (X, *tensors, geometry), {}, draw(inputs_of(inner, outer))


def _mix(draw: Draw) -> Case:
    n, channels, out, inputs = (draw(st.integers(0, 2)), *(draw(st.integers(1, 3)) for _ in range(3)))
    bias = gaussian(draw, out * channels) if draw(st.booleans()) else None
    x = gaussian(draw, 2, inputs * channels, *(3,) * n)
    return (X, gaussian(draw, out, inputs), bias, n, draw(st.booleans()), draw(st.booleans())), {}, x


def _grouped_linear(draw: Draw) -> Case:
    groups, out, inputs = (draw(st.integers(1, 3)) for _ in range(3))
    bias = gaussian(draw, groups * out) if draw(st.booleans()) else None
    return (X, gaussian(draw, groups, out, inputs), bias), {}, gaussian(draw, 2, 3, groups * inputs)


def _reshape(draw: Draw) -> Case:
    x = gaussian(draw, 2, 3, 4, 5)
    return (X, draw(st.sampled_from(([-1, 60], [-1, 5])))), {}, x


CASES: dict[Any, Callable[[Draw], Case]] = {
    bordered_conv: _bordered,
    circular_pad: _circular_pad,
    grouped_linear: _grouped_linear,
    mix: _mix,
    spectral_conv: _spectral,
    aten.matmul.default: _matmul,
    aten.mm.default: _mm,
    aten.pixel_shuffle.default: _pixel_shuffle,
    aten.adaptive_avg_pool1d.default: _adaptive(1),
    aten.adaptive_avg_pool2d.default: _adaptive(2),
    aten.adaptive_avg_pool3d.default: _adaptive(3),
    aten.mean.dim: _mean,
    aten.flatten.using_ints: _flatten,
    aten.avg_pool1d.default: _avg_pool(1),
    aten.avg_pool2d.default: _avg_pool(2),
    aten.avg_pool3d.default: _avg_pool(3),
    aten.conv1d.default: _conv(1),
    aten.conv2d.default: _conv(2),
    aten.conv3d.default: _conv(3),
    aten.conv1d.padding: _conv_word(1),
    aten.conv2d.padding: _conv_word(2),
    aten.conv3d.padding: _conv_word(3),
    aten.convolution.default: _convolution,
    aten.conv_transpose1d.default: _conv_transpose(1),
    aten.conv_transpose2d.input: _conv_transpose(2),
    aten.conv_transpose3d.input: _conv_transpose(3),
    aten.linear.default: _linear,
    aten.batch_norm.default: _batch_norm,
    aten.instance_norm.default: _instance_norm,
    operator.getitem: _subscript,
    aten.slice.Tensor: _slice,
    aten.permute.default: _permute,
    aten.transpose.int: _transpose,
    aten.einsum.default: _einsum,
    aten.layer_norm.default: _norm_of_input("layer"),
    aten.rms_norm.default: _norm_of_input("rms"),
    aten.group_norm.default: _norm_of_input("group"),
    **dict.fromkeys((aten.view.default, aten.reshape.default), _reshape),
    aten.index.Tensor: _picked,
    aten.index_select.default: _index_select,
    aten.flip.default: _flip,
    **dict.fromkeys((aten.channel_shuffle.default, aten.native_channel_shuffle.default), _channel_shuffle),
    aten.dropout.default: _dropout,
    aten.feature_dropout.default: _dropout,
    aten.alpha_dropout.default: _dropout,
    aten.feature_alpha_dropout.default: _dropout,
    aten.alias.default: _alias,
    aten.neg.default: _alias,
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _constant_pad,
    aten.add.Tensor: _arithmetic(left=True, alpha=True),
    aten.add.Scalar: _arithmetic(left=False, alpha=True, number=True),
    **dict.fromkeys((aten.sub.Tensor, aten.subtract.Tensor), _arithmetic(left=True, alpha=True)),
    **dict.fromkeys((aten.sub.Scalar, aten.subtract.Scalar), _arithmetic(left=False, alpha=True, number=True)),
    aten.rsub.Tensor: _arithmetic(left=True, alpha=True, number=False),
    aten.rsub.Scalar: _arithmetic(left=False, alpha=True, number=True),
    **dict.fromkeys((aten.mul.Tensor, aten.multiply.Tensor), _arithmetic(left=True, alpha=False)),
    **dict.fromkeys((aten.mul.Scalar, aten.multiply.Scalar), _arithmetic(left=False, alpha=False, number=True)),
    **dict.fromkeys(
        (aten.div.Tensor, aten.divide.Tensor, aten.true_divide.Tensor), _arithmetic(left=False, alpha=False)
    ),
    **dict.fromkeys(
        (aten.div.Scalar, aten.divide.Scalar, aten.true_divide.Scalar),
        _arithmetic(left=False, alpha=False, number=True),
    ),
}


@pytest.mark.parametrize(
    "target",
    spellings.SPELLINGS.operators,
    ids=lambda target: getattr(target, "__name__", str(target)) if callable(target) else "",
)
def test_a_reading_is_the_function_of_its_node(target: Any) -> None:
    """read(node).map(x) = node(x), and the map knows its output shape. An operator added to the table needs a case."""

    @settings(max_examples=30)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        args, kwargs, x = data.draw(st.composite(CASES[target])())
        graph, node = graph_of(target, args, kwargs, Facts(tuple(x.shape), x.dtype))
        reading = read(graph, node)
        assert reading is not None
        assert not isinstance(reading.map, Unread), reading.map.reason
        assert reading.source.op == "placeholder"
        expected = evaluate(graph, [node], {reading.source: x})[node]
        error = relative_error(reading.map(x), expected)
        ledger.record(error)
        assert error <= TOLERANCE
        assert reading.map.output_shape(tuple(x.shape)) == tuple(expected.shape)

    check()


_W = torch.randn(4, 3, 3, 3, dtype=torch.float64)
_WT = torch.randn(3, 2, 3, 3, dtype=torch.float64)
_G = torch.rand(3, 1, 1, dtype=torch.float64) + 0.5
_B = torch.randn(4, dtype=torch.float64)
_ROW = torch.rand(6, dtype=torch.float64) + 0.5
_NORM = {"mean": _ROW[:3], "var": _ROW[3:], "w": _ROW[1:4], "b": _ROW[2:5]}
_L = torch.randn(5, 6, dtype=torch.float64)


class Renamed(nn.BatchNorm2d):
    """Inherits all that it computes."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=0.2)


class Calling(nn.BatchNorm2d):
    """A forward of its own, which calls that of its base."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Doubling(nn.BatchNorm2d):
    """Another scale than the one that is stored."""

    @property
    def eps(self) -> float:
        return 0.7

    @eps.setter
    def eps(self, value: float) -> None:
        pass


SPELLINGS: dict[str, tuple[type, Callable[[Any, Any], Any], dict[str, Any]]] = {
    "x * g": (Affine, lambda m, x: x * m.g, {"g": _G}),
    "g * x": (Affine, lambda m, x: m.g * x, {"g": _G}),
    "x * 2": (Affine, lambda m, x: x * 2, {}),
    "0.5 * x": (Affine, lambda m, x: 0.5 * x, {}),
    "torch.mul": (Affine, lambda m, x: torch.mul(x, m.g), {"g": _G}),
    "torch.mul, const first": (Affine, lambda m, x: torch.mul(m.g, x), {"g": _G}),
    "torch.multiply, by name": (Affine, lambda m, x: torch.multiply(x, other=m.g), {"g": _G}),
    "x.mul": (Affine, lambda m, x: x.mul(m.g), {"g": _G}),
    "g.mul(x)": (Affine, lambda m, x: m.g.mul(x), {"g": _G}),
    "x + g": (Affine, lambda m, x: x + m.g, {"g": _G}),
    "3 + x": (Affine, lambda m, x: 3 + x, {}),
    "torch.add, alpha": (Affine, lambda m, x: torch.add(x, m.g, alpha=3), {"g": _G}),
    "torch.add, const first, alpha": (Affine, lambda m, x: torch.add(m.g, x, alpha=-2), {"g": _G}),
    "x.add, alpha": (Affine, lambda m, x: x.add(m.g, alpha=0.5), {"g": _G}),
    "x - g": (Affine, lambda m, x: x - m.g, {"g": _G}),
    "g - x": (Affine, lambda m, x: m.g - x, {"g": _G}),
    "1 - x": (Affine, lambda m, x: 1 - x, {}),
    "torch.sub, alpha": (Affine, lambda m, x: torch.sub(x, m.g, alpha=2), {"g": _G}),
    "torch.subtract, const first": (Affine, lambda m, x: torch.subtract(m.g, x), {"g": _G}),
    "torch.sub, const first, alpha": (Affine, lambda m, x: torch.sub(m.g, x, alpha=2), {"g": _G}),
    "x.sub": (Affine, lambda m, x: x.sub(1.5), {}),
    "x / g": (Affine, lambda m, x: x / m.g, {"g": _G}),
    "x / 255": (Affine, lambda m, x: x / 255, {}),
    "torch.div": (Affine, lambda m, x: torch.div(x, m.g), {"g": _G}),
    "torch.true_divide": (Affine, lambda m, x: torch.true_divide(x, 3), {}),
    "x.div": (Affine, lambda m, x: x.div(m.g), {"g": _G}),
    "a row": (Affine, lambda m, x: x * m.g, {"g": _ROW}),
    "F.batch_norm": (Affine, lambda m, x: F.batch_norm(x, m.mean, m.var, m.w, m.b, eps=0.1), _NORM),
    "F.batch_norm, plain": (Affine, lambda m, x: F.batch_norm(x, m.mean, m.var), _NORM),
    "nn.BatchNorm2d": (Affine, lambda m, x: m.f(x), {"f": nn.BatchNorm2d(3, eps=0.3).double()}),
    "F.instance_norm": (
        Affine,
        lambda m, x: F.instance_norm(x, m.mean, m.var, m.w, m.b, use_input_stats=False, eps=0.1),
        _NORM,
    ),
    "nn.InstanceNorm2d": (
        Affine,
        lambda m, x: m.f(x),
        {"f": nn.InstanceNorm2d(3, affine=True, track_running_stats=True).double()},
    ),
    "nn.SyncBatchNorm": (Affine, lambda m, x: m.f(x), {"f": nn.SyncBatchNorm(3, eps=0.3).double()}),
    "a norm of one's own": (Affine, lambda m, x: m.f(x), {"f": Renamed(3).double()}),
    "a norm that calls its base": (Affine, lambda m, x: m.f(x), {"f": Calling(3).double()}),
    "x[:, :, 1:-1]": (Cut, lambda m, x: x[:, :, 1:-1], {}),
    "x[:, [2, 1, 0]]": (Picking, lambda m, x: x[:, [2, 1, 0]], {}),
    "x[:, index]": (Picking, lambda m, x: x[:, m.i, :], {"i": torch.tensor([2, 0, 0])}),
    "x.flip": (Picking, lambda m, x: x.flip(1), {}),
    "torch.index_select": (Picking, lambda m, x: torch.index_select(x, 1, m.i), {"i": torch.tensor([2, 0])}),
    "nn.ChannelShuffle": (Picking, lambda m, x: m.f(x), {"f": nn.ChannelShuffle(3)}),
    "x[..., ::2]": (Cut, lambda m, x: x[..., ::2], {}),
    "x.view(x.size(0), -1)": (Flatten, lambda m, x: x.view(x.size(0), -1), {}),
    "x.reshape of its shape": (Flatten, lambda m, x: torch.reshape(x, (x.shape[0], -1)), {}),
    "x.flatten(0, 1)": (MergeLeading, lambda m, x: x.flatten(0, 1), {}),
    "x.mean((2, 3))": (GlobalMean, lambda m, x: x.mean((2, 3)), {}),
    "nn.LayerNorm": (Normalization, lambda m, x: m.f(x), {"f": nn.LayerNorm(6, eps=0.1).double()}),
    "F.layer_norm": (Normalization, lambda m, x: F.layer_norm(x, (6,), m.g), {"g": _ROW}),
    "nn.RMSNorm": (Normalization, lambda m, x: m.f(x), {"f": nn.RMSNorm(6).double()}),
    "nn.GroupNorm": (Normalization, lambda m, x: m.f(x), {"f": nn.GroupNorm(3, 3, eps=0.1).double()}),
    "F.conv2d": (Conv, lambda m, x: F.conv2d(x, m.w, m.b, 2, 1), {"w": _W, "b": _B}),
    "F.conv2d, by name": (Conv, lambda m, x: F.conv2d(input=x, weight=m.w, stride=(1, 2), dilation=2), {"w": _W}),
    "torch.conv2d": (Conv, lambda m, x: torch.conv2d(x, m.w, bias=m.b, padding=(0, 2)), {"w": _W, "b": _B}),
    "F.conv2d, same": (Conv, lambda m, x: F.conv2d(x, m.w, padding="same", dilation=2), {"w": _W[:, :, :2, :2]}),
    "F.conv_transpose2d": (Conv, lambda m, x: F.conv_transpose2d(x, m.w, None, 2, 1, 1), {"w": _WT}),
    "F.conv_transpose2d, by name": (
        Conv,
        lambda m, x: F.conv_transpose2d(x, m.w, padding=1, output_padding=1, dilation=2, stride=2),
        {"w": _WT},
    ),
    "F.linear": (Conv, lambda m, x: F.linear(x, m.w), {"w": _L}),
    "nn.Linear": (Conv, lambda m, x: m.f(x), {"f": nn.Linear(6, 5).double()}),
    "nn.Conv2d": (Conv, lambda m, x: m.f(x), {"f": nn.Conv2d(3, 6, 3, 2, 2, groups=3).double()}),
    "nn.Conv2d, same": (Conv, lambda m, x: m.f(x), {"f": nn.Conv2d(3, 4, (2, 4), padding="same").double()}),
    "nn.Conv2d, valid": (Conv, lambda m, x: m.f(x), {"f": nn.Conv2d(3, 4, 2, padding="valid").double()}),
    "nn.ConvTranspose2d": (Conv, lambda m, x: m.f(x), {"f": nn.ConvTranspose2d(3, 3, 3, 2, 1, 1, groups=3).double()}),
    "F.pad": (Pad, lambda m, x: F.pad(x, (1, 2, 0, 1)), {}),
    "F.pad, by name": (Pad, lambda m, x: F.pad(x, pad=[1, 1], mode="constant", value=0.0), {}),
    "F.pad, crop": (Pad, lambda m, x: F.pad(x, (-1, 0)), {}),
    "nn.ZeroPad2d": (Pad, lambda m, x: m.f(x), {"f": nn.ZeroPad2d((1, 0, 2, 1))}),
    "nn.ConstantPad2d(0)": (Pad, lambda m, x: m.f(x), {"f": nn.ConstantPad2d(2, 0.0)}),
    "F.pad of nothing": (Identity, lambda m, x: F.pad(x, (0, 0, 0, 0)), {}),
    "x + 0": (Identity, lambda m, x: x + 0, {}),
    "x[:, :, 0:]": (Identity, lambda m, x: x[:, :, 0:], {}),
    "x * 1": (Identity, lambda m, x: 1 * x, {}),
    "x / 1": (Identity, lambda m, x: x / 1.0, {}),
    "nn.Dropout": (Identity, lambda m, x: m.f(x), {"f": nn.Dropout(0.3)}),
    "F.dropout": (Identity, lambda m, x: F.dropout(x, 0.3, m.training), {}),
    "nn.Identity": (Identity, lambda m, x: m.f(x), {"f": nn.Identity()}),
}


@pytest.mark.parametrize("way", ["symbolic", "exported", "no example"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_reads(name: str, way: str) -> None:
    """Modules, functions, operators and methods, by all the ways in, mean what they compute."""
    kind, body, parts = SPELLINGS[name]
    torch.manual_seed(0)
    model = Calls(body, **parts).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    if way == "exported":
        graph = export(own_copy(model), Inputs.of(x))
    else:
        graph = captured(model, x if way == "symbolic" else None)
    node = result_of(graph)
    if way == "exported" and node.op == "placeholder":
        assert kind is Identity  # torch.export leaves no trace of it
        return
    reading = read(graph, node)
    if way == "no example" and (reading is None or isinstance(reading.map, Unread)):
        assert kind not in (Conv, Pad)  # rank and dtype of the input are not known, nothing is guessed
        return
    if way == "exported" and kind not in (Affine, Conv, Pad) and reading is None:
        return  # nor how many channels it has
    if way == "exported" and reading is not None and isinstance(reading.map, Unread):
        assert "an axis whose size is unknown" in reading.map.reason  # the model takes one channel as well as three
        return
    assert reading is not None
    assert not isinstance(reading.map, Unread)
    assert isinstance(reading.map, kind), reading.map
    with torch.no_grad():
        assert relative_error(reading.map(x), model(x)) <= TOLERANCE


def _floats(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float32) + 0.5


NCHW = Facts((2, 3, 3, 3), torch.float32)  # C = H = W: only the axis tells
ONE_CHANNEL = Facts((2, 1, 5, 5), torch.float32)
FREE = Facts((None, 3, None, None), torch.float32)
NO_RANK = Facts(None, torch.float32)

UNREAD: dict[str, tuple[Any, tuple[Any, ...], Facts | None, str]] = {
    "(H, W)": (aten.mul.Tensor, (X, _floats(3, 3)), NCHW, "not one number per channel"),
    "(C, H, 1)": (aten.add.Tensor, (X, _floats(3, 3, 1)), NCHW, "not one number per channel"),
    "with a batch axis": (aten.add.Tensor, (X, _floats(2, 3, 1, 1)), NCHW, "not one number per channel"),
    "more axes than the tensor": (aten.add.Tensor, (X, _floats(1, 1, 3, 1, 1)), NCHW, "not one number per channel"),
    "one number, more axes": (aten.mul.Tensor, (X, _floats(1)), Facts((), torch.float32), "not one number per"),
    "broadcasts up": (aten.mul.Tensor, (X, _floats(3, 1, 1)), ONE_CHANNEL, "on an axis whose size is 1"),
    "constant first, broadcasts up": (aten.add.Tensor, (_floats(5, 1, 1), X), ONE_CHANNEL, "an axis whose size is 1"),
    "(W,) on a free width": (aten.mul.Tensor, (X, _floats(3)), FREE, "an axis whose size is unknown"),
    "(H, 1) on a free height": (aten.sub.Tensor, (X, _floats(3, 1)), FREE, "an axis whose size is unknown"),
    "rank unknown": (aten.mul.Tensor, (X, _floats(3, 1, 1)), NO_RANK, "rank of the other operand is unknown"),
    "nothing known": (aten.mul.Tensor, (X, _floats(3, 1, 1)), None, "dtype of the other operand is unknown"),
    "double on float": (aten.mul.Tensor, (X, _floats(3, 1, 1).double()), NCHW, "no floating constant of the tensor's"),
    "half on float": (aten.mul.Tensor, (X, _floats(3, 1, 1).half()), NCHW, "no floating constant of the tensor's"),
    "integer constant": (aten.mul.Tensor, (X, torch.ones(3, 1, 1, dtype=torch.int64)), NCHW, "no floating constant"),
    "integer tensor": (aten.add.Tensor, (X, _floats(3, 1, 1)), Facts((2, 3, 3, 3), torch.int64), "is torch.int64"),
    "complex tensor": (aten.mul.Tensor, (X, _floats(3, 1, 1)), Facts((2, 3, 3, 3), torch.complex64), "complex64"),
    "batch norm, rank unknown": (
        aten.batch_norm.default,
        (X, None, None, _floats(3), _floats(3), False, 0.1, 1e-5, True),
        NO_RANK,
        "rank of the batch norm's input is unknown",
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_could_be_another_map_does_not_read_and_says_why(name: str) -> None:
    target, args, known, words = UNREAD[name]
    graph, node = graph_of(target, args, known=known)
    reading = read(graph, node)
    assert reading is not None
    assert isinstance(reading.map, Unread)
    assert reading.is_a(Affine) and not reading.is_a(Conv)
    assert words in reading.map.reason


INTEGERS = Facts((2, 3, 3, 3), torch.int64)

NOT_READ: dict[str, tuple[Any, tuple[Any, ...], Facts | None]] = {
    "division by zero": (aten.div.Tensor, (X, 0.0), NCHW),
    "division by a zero": (aten.div.Tensor, (X, torch.tensor([1.0, 0.0, 2.0]).reshape(3, 1, 1)), NCHW),
    "constant / x": (aten.div.Tensor, (_floats(3, 1, 1), X), NCHW),
    "x + x": (aten.add.Tensor, (X, X), NCHW),
    "x * True": (aten.mul.Tensor, (X, True), NCHW),
    "complex factor": (aten.mul.Tensor, (X, 2j), NCHW),
    "integers + 1.5": (aten.add.Tensor, (X, 1.5), INTEGERS),
    "integers / 2": (aten.div.Tensor, (X, 2), INTEGERS),
    "constants alone": (aten.add.Tensor, (_floats(3), _floats(3)), NCHW),
    "training mode": (
        aten.batch_norm.default,
        (X, None, None, _floats(3), _floats(3), True, 0.1, 1e-5, True),
        NCHW,
    ),
    "batch statistics": (
        aten.batch_norm.default,
        (X, _floats(3), _floats(3), None, None, False, 0.1, 1e-5, True),
        NCHW,
    ),
    "batch norm of itself": (
        aten.batch_norm.default,
        (X, X, None, _floats(3), _floats(3), False, 0.1, 1e-5, True),
        NCHW,
    ),
    "dropout in training": (aten.dropout.default, (X, 0.5, True), NCHW),
    "alpha dropout in training": (aten.alpha_dropout.default, (X, 0.5, True), NCHW),
    "weight from the input": (aten.conv2d.default, (_floats(2, 3, 5, 5), X), NCHW),
    "bias from the input": (aten.conv2d.default, (X, _floats(4, 3, 1, 1), X), NCHW),
    "linear, weight from the input": (aten.linear.default, (_floats(2, 3), X), NCHW),
    "linear of a vector weight": (aten.linear.default, (X, _floats(3)), NCHW),
    "integer weights": (aten.conv2d.default, (X, torch.ones(4, 3, 1, 1, dtype=torch.int64)), INTEGERS),
    "reflect and crop": (aten.pad.default, (X, [1, -1], "reflect"), NCHW),
    "replicate and crop": (aten.pad.default, (X, [-1, 1], "replicate", None), NCHW),
    "circular and crop": (aten.pad.default, (X, [1, 1, 1, -1], "circular"), NCHW),
    "crop, and pad with ones": (aten.pad.default, (X, [1, -1], "constant", 1.0), NCHW),
    "pad with minus infinity": (aten.constant_pad_nd.default, (X, [1, 1], float("-inf")), NCHW),
    "pool that rounds up": (aten.avg_pool2d.default, (X, [2, 2], [2, 2], [0, 0], True), NCHW),
    "pool that does not count padding": (aten.avg_pool2d.default, (X, [2, 2], [], [1, 1], False, False), NCHW),
    "pool with a divisor of its own": (aten.avg_pool2d.default, (X, [2, 2], [], [0, 0], False, True, 3), NCHW),
    "max pool": (aten.max_pool2d.default, (X, [2, 2]), NCHW),
    "mean that drops its only axis": (aten.mean.dim, (X, [-1]), NCHW),
    "mean of unknown rank that drops its axes": (aten.mean.dim, (X, [-2, -1]), NO_RANK),
    "mean over the channels alone": (aten.mean.dim, (X, [1], True), NCHW),
    "mean over rows alone": (aten.mean.dim, (X, [2], True), NCHW),
    "pool to two positions": (aten.adaptive_avg_pool2d.default, (X, [2, 1]), NCHW),
    "flatten of everything": (aten.flatten.using_ints, (X,), NCHW),
    "flatten of the positions": (aten.flatten.using_ints, (X, 2), NCHW),
    "constant @ x": (aten.matmul.default, (_floats(3, 3), X), NCHW),
    "x @ a batch of constants": (aten.matmul.default, (X, _floats(2, 3, 3, 3)), NCHW),
    "x @ a vector": (aten.matmul.default, (X, _floats(3)), NCHW),
    "instance norm of each image's own": (
        aten.instance_norm.default,
        (X, None, None, None, None, True, 0.1, 1e-5, False),
        NCHW,
    ),
    "a slice of channels": (operator.getitem, (X, (slice(None), slice(1, 3))), NCHW),
    "a slice of the batch": (aten.slice.Tensor, (X, 0, 1, 9), NCHW),
    "so many rows": (operator.getitem, (X, (Ellipsis, slice(0, 2))), NCHW),
    "no rows": (operator.getitem, (X, (Ellipsis, slice(1, 0))), NCHW),
    "the last rows": (operator.getitem, (X, (Ellipsis, slice(-2, None))), NCHW),
    "one row": (operator.getitem, (X, (slice(None), slice(None), 1)), NCHW),
    "a row from the end of a free width": (aten.slice.Tensor, (X, 3, -2, sys.maxsize), FREE),
    "a slice of unknown rank": (operator.getitem, (X, (slice(None), slice(None), slice(1, -1))), NO_RANK),
    "rows by an index": (aten.index_select.default, (X, 2, torch.tensor([0, 2])), NCHW),
    "rows by an index, as a subscript": (aten.index.Tensor, (X, [None, None, torch.tensor([0, 2])]), NCHW),
    "an index beside another": (aten.index.Tensor, (X, [None, torch.tensor([0]), torch.tensor([0])]), NCHW),
    "a mask of channels": (aten.index.Tensor, (X, [None, torch.tensor([True, False, True])]), NCHW),
    "a table of channels": (aten.index.Tensor, (X, [None, torch.tensor([[0, 1]])]), NCHW),
    "channels beyond the last": (operator.getitem, (X, (slice(None), [0, 3])), NCHW),
    "channels and some rows": (operator.getitem, (X, (slice(None), [0, 1], slice(1, 2))), NCHW),
    "channels of a batch cut": (operator.getitem, (X, (slice(1, None), [0, 1])), NCHW),
    "rows turned round": (aten.flip.default, (X, [2]), NCHW),
    "channels and rows turned round": (aten.flip.default, (X, [1, 2]), NCHW),
    "a shuffle that does not divide": (aten.channel_shuffle.default, (X, 2), NCHW),
    "reshape of one batch size": (aten.reshape.default, (X, [2, -1]), NCHW),
    "reshape to other rows": (aten.reshape.default, (X, [-1, 9]), NCHW),
    "layer norm over two axes": (aten.layer_norm.default, (X, [3, 3], _floats(3, 3)), NCHW),
    "layer norm by itself": (aten.layer_norm.default, (X, [3], X), NCHW),
    "a sum over the rows": (aten.einsum.default, ("bchw,oh->bcow", [X, _floats(4, 3)]), NCHW),
    "a sum that drops its axis": (aten.einsum.default, ("bchw,c->bhw", [X, _floats(3)]), NCHW),
    "a sum over the axis that stays": (aten.einsum.default, ("bchw,cw->bchw", [X, _floats(3, 3)]), NCHW),
    "a sum that turns the axes": (aten.einsum.default, ("bchw,oc->bhwo", [X, _floats(4, 3)]), NCHW),
    "a sum of itself": (aten.einsum.default, ("bchw,bdhw->bcd", [X, X]), NCHW),
    "a sum over a diagonal": (aten.einsum.default, ("bccw,ow->bcco", [X, _floats(4, 3)]), NCHW),
    "a transpose of unknown rank": (aten.transpose.int, (X, 1, 2), NO_RANK),
    "another operator": (aten.softmax.int, (X, 1), NCHW),
    "floor division": (aten.div.Tensor_mode, (X, 2.0), NCHW),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_what_is_not_one_of_the_maps_does_not_read(name: str) -> None:
    target, args, known = NOT_READ[name]
    kwargs = {"rounding_mode": "floor"} if target is aten.div.Tensor_mode else {}
    graph, node = graph_of(target, args, kwargs, known)
    assert read(graph, node) is None


def test_other_nodes_do_not_read() -> None:
    """Inputs, constants, outputs, opaque modules and getitem: read is asked of every node of a graph."""
    model = Calls(lambda m, x: m.f(x).chunk(2)[0], f=nn.Softmax(1))
    graph = captured(model, torch.randn(2, 4, 5))
    assert [read(graph, node) for node in graph.nodes] == [None] * len(list(graph.nodes))


def test_a_layer_that_computes_with_something_of_its_own_is_no_norm() -> None:
    """A class that replaces what the forward of its base looks up is entered, not taken for its base."""
    layer = Doubling(3).double().eval()
    assert not is_spelled(layer) and is_spelled(Renamed(3)) and not is_spelled(Calling(3))
    graph = captured(layer, torch.zeros(2, 3, 4, 4, dtype=torch.float64))
    reading = read(graph, result_of(graph))
    assert reading is not None and isinstance(reading.map, Affine)
    assert torch.allclose(reading.map.scale, torch.full((3,), 1.7, dtype=torch.float64).rsqrt())


def test_an_instance_norm_of_one_image_without_a_batch_stays_a_layer() -> None:
    """Its channels are the first axis there."""
    norm = nn.InstanceNorm2d(3, track_running_stats=True)
    graph = captured(nn.Sequential(norm).eval(), torch.zeros(3, 5, 5))
    assert result_of(graph).op == "call_module"


def test_a_row_as_long_as_the_channels_acts_on_the_last_axis() -> None:
    """With C = W a (W,) constant is a map of axis -1, a (H, 1) one of axis -2: the number of entries says nothing."""
    for shape, axis in (((3,), -1), ((1, 3), -1), ((3, 1), -2), ((3, 1, 1), -3), ((1, 3, 1, 1), -3)):
        graph, node = graph_of(aten.mul.Tensor, (X, _floats(*shape)), known=NCHW)
        reading = read(graph, node)
        assert reading is not None and isinstance(reading.map, Affine)
        assert reading.map.axis == axis


def test_a_pad_of_channels_is_a_pad_that_no_convolution_takes() -> None:
    graph, node = graph_of(aten.pad.default, (X, [0, 0, 0, 0, 1, 0]), known=NCHW)
    reading = read(graph, node)
    assert reading is not None and isinstance(reading.map, Pad)
    conv = Conv.from_torch(_floats(4, 4, 3, 3), None)
    with pytest.raises(Inapplicable, match="reaches beyond the 2 spatial axes"):
        _ = conv @ reading.map


def test_a_constant_keeps_its_precision_in_the_reading() -> None:
    """Scale and shift are float64 whatever the model's dtype: the rounding comes once, at the commit."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        graph, node = graph_of(aten.div.Tensor, (X, _floats(3, 1, 1).to(dtype)), known=Facts((2, 3, 3, 3), dtype))
        reading = read(graph, node)
        assert reading is not None and isinstance(reading.map, Affine)
        assert reading.map.scale.dtype == torch.float64


def test_batch_norm_reads_from_its_own_rank_where_the_inputs_is_unknown() -> None:
    """Conv without example inputs: the layer documents a batch, so the channels of the norm are known."""
    graph = captured(nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4)))
    reading = read(graph, result_of(graph))
    assert reading is not None and isinstance(reading.map, Affine)
    assert reading.map.axis == -2
    graph = captured(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)))
    reading = read(graph, result_of(graph))
    assert reading is not None and isinstance(reading.map, Unread)
