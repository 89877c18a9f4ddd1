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
from hypothesis import given, settings
from torch import Tensor

from fusekit.algebra import (
    BorderedConv,
    Conv,
)
from fusekit.algebra.bordered import bordered_conv, geometry_of
from fusekit.algebra.edge import circular_pad
from fusekit.algebra.interleaved import interleaved
from fusekit.algebra.pad import pad_channels
from fusekit.algebra.products.mixing import grouped_linear, mix
from fusekit.algebra.rearrange import depth_to_space
from fusekit.algebra.transforms.spectral_conv import spectral_conv
from fusekit.ir import Facts, Unread, evaluate, spellings
from fusekit.ir.read import read
from fusekit.testing.strategies import convs, gaussian, inputs_of, relative_error
from tests.support import ledger
from tests.support.graphs import X, graph_of

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


def _pixel_unshuffle(draw: Draw) -> Case:
    factor = draw(st.integers(1, 3))
    return (X, factor), {}, gaussian(draw, 2, 3, 2 * factor, 3 * factor)


def _interleaved(draw: Draw) -> Case:
    return (X,), {}, gaussian(draw, 2, *(3, 4, 5)[: draw(st.integers(1, 3))], 3)


def _upsampled(n: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        factors = [float(draw(st.integers(1, 8))) for _ in range(n)]
        return (X, None, factors), {}, gaussian(draw, 2, 3, *(3, 4, 2)[:n])

    return case


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


def _pad_channels(draw: Draw) -> Case:
    n = draw(st.integers(1, 3))
    others = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(n - 1))
    padding = (*others, (1, 0))
    return (X, padding, gaussian(draw, 3)), {}, gaussian(draw, 2, 3, *(4, 5, 6)[:n])


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
    pad_channels: _pad_channels,
    depth_to_space: _pixel_shuffle,
    grouped_linear: _grouped_linear,
    interleaved: _interleaved,
    mix: _mix,
    spectral_conv: _spectral,
    aten.matmul.default: _matmul,
    aten.mm.default: _mm,
    aten.pixel_shuffle.default: _pixel_shuffle,
    aten.pixel_unshuffle.default: _pixel_unshuffle,
    aten.upsample_nearest1d.vec: _upsampled(1),
    aten.upsample_nearest2d.vec: _upsampled(2),
    aten.upsample_nearest3d.vec: _upsampled(3),
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
