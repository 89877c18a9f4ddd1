"""The laws of the algebra, in float64, against plain torch evaluation of both sides."""

import math

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fusekit.algebra import Affine, Conv, Cut, Map, Pad, concat
from fusekit.errors import Inapplicable
from fusekit.testing.strategies import affines, convs, inputs_of, options_of, pads, relative_error
from tests.support import ledger

TOLERANCE = 1e-10


def agree(ours: Map, theirs: Tensor, x: Tensor) -> None:
    error = relative_error(ours(x), theirs)
    ledger.record(error)
    assert error <= TOLERANCE
    assert ours.output_shape(tuple(x.shape)) == tuple(theirs.shape)


@given(convs(transposed=None), st.data())
def test_conv_reads_and_writes_torch_weights(conv: Conv, data: st.DataObject) -> None:
    """from_torch(weight) is the identity, and evaluation is torch's own on its own layout."""
    x = data.draw(inputs_of(conv))
    again = Conv.from_torch(conv.weight, conv.bias, **options_of(conv))
    assert torch.equal(again.kernel, conv.kernel)
    if conv.n == 0:
        x = torch.randn(2, 3, conv.in_channels, dtype=torch.float64)
        agree(again, F.linear(x, conv.weight, conv.bias), x)
    elif conv.transposed:
        padding = [low for low, _ in conv.padding]
        transpose = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[conv.n - 1]
        options = (conv.stride, padding, conv.output_padding, conv.groups, conv.dilation)
        agree(again, transpose(x, conv.weight, conv.bias, *options), x)
    else:
        flat = [amount for pair in reversed(conv.padding) for amount in pair]
        convolve = (F.conv1d, F.conv2d, F.conv3d)[conv.n - 1]
        padded = F.pad(x, flat)
        agree(again, convolve(padded, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups), x)


def test_a_crop_of_the_last_axis_alone_folds() -> None:
    weight, x = torch.randn(3, 2, 3, 3, dtype=torch.float64), torch.randn(2, 2, 7, 9, dtype=torch.float64)
    conv = Conv.from_torch(weight, None, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1))
    agree(conv @ Cut(((1, 2),), (1,)), F.conv2d(x[..., 1:-2], weight), x)


@settings(max_examples=30)
@given(convs(transposed=None), st.data())
def test_macs_are_the_products_that_torch_counts(conv: Conv, data: st.DataObject) -> None:
    """Output positions of a convolution, input positions of a transposed one; torch counts two operations a product,
    and knows nothing of padding on one side."""
    assume(conv.n > 0 and all(low == high for low, high in conv.padding))
    x = data.draw(inputs_of(conv))
    with FlopCounterMode(display=False) as counted:
        conv(x)
    assert conv.macs(tuple(x.shape)) == counted.get_total_flops() // 2


@settings(max_examples=50)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(2, 3), st.integers(2, 3))
def test_composed_taps_lie_on_the_coarsest_grid(d1: int, d2: int, stride: int, k1: int, k2: int) -> None:
    """Taps d1 u + s d2 v: their common divisor is the dilation, and the window ends with the last of them."""
    inner = Conv(torch.ones(1, 1, 1, k1), None, (stride,), ((0, 0),), (d1,))
    outer = Conv(torch.ones(1, 1, 1, k2), None, (1,), ((0, 0),), (d2,))
    taps = {d1 * u + stride * d2 * v for u in range(k1) for v in range(k2)}
    step = math.gcd(*taps)
    composed = outer.composed(inner)
    assert (composed.dilation, composed.window) == ((step,), (max(taps) // step + 1,))


@pytest.mark.parametrize(
    ("scale", "shift", "axis"),
    [((3,), (3,), 1), ((3,), (4,), -1), ((3, 1), (3, 1), -1), ((3,), (3,), None), ((), (), -1)],
)
def test_an_affine_map_is_two_scalars_or_two_vectors(
    scale: tuple[int, ...], shift: tuple[int, ...], axis: int | None
) -> None:
    with pytest.raises(ValueError, match="scale"):
        Affine(torch.ones(scale), torch.ones(shift), axis)


@given(convs(transposed=None), st.data())
def test_affine_after_conv(conv: Conv, data: st.DataObject) -> None:
    affine = data.draw(affines(conv.out_channels, conv.channel_axis))
    x = data.draw(inputs_of(conv))
    agree(affine @ conv, affine(conv(x)), x)


@given(convs(transposed=None), st.data())
def test_affine_before_conv(conv: Conv, data: st.DataObject) -> None:
    """Refused exactly when a shift meets zero padding or a transposed convolution."""
    affine = data.draw(affines(conv.in_channels, conv.channel_axis))
    x = data.draw(inputs_of(conv))
    shifted = bool(torch.any(affine.shift != 0))
    padded = any(low or high for low, high in conv.padding)
    try:
        agree(conv @ affine, conv(affine(x)), x)
    except Inapplicable:
        assert shifted and (padded or conv.transposed)
    else:
        assert not shifted or not (padded or conv.transposed)


@given(st.data())
def test_affine_algebra(data: st.DataObject) -> None:
    channels = data.draw(st.integers(1, 4))
    a, b = (data.draw(affines(channels, -2)) for _ in range(2))
    x = torch.randn(2, channels, 3, dtype=torch.float64)
    agree(a @ b, a(b(x)), x)
    agree(a + b, a(x) + b(x), x)


@given(st.data())
def test_conv_after_pad(data: st.DataObject) -> None:
    conv = data.draw(convs(n=data.draw(st.integers(1, 3))))
    pad = data.draw(pads(conv.n))
    x = data.draw(inputs_of(conv))
    try:
        folded = conv @ pad
    except Inapplicable:
        pairs = zip(conv.padding, pad.padding, strict=True)
        assert any(c > 0 > p for outer, inner in pairs for c, p in zip(outer, inner, strict=True))
    else:
        agree(folded, conv(pad(x)), x)


@given(st.data())
def test_crop_or_pad_after_conv(data: st.DataObject) -> None:
    """A crop always, of transposed ones too; zeros only where the convolution gives zeros."""
    conv = data.draw(convs(n=data.draw(st.integers(1, 3)), transposed=None))
    low = data.draw(st.sampled_from((-2, -2, 0)))
    pad = Pad(tuple((data.draw(st.integers(low, 1)), data.draw(st.integers(low, 1))) for _ in range(conv.n)))
    x = data.draw(inputs_of(conv))
    made = conv.output_shape(tuple(x.shape))[2:]
    assume(all(size + sum(pair) > 0 for size, pair in zip(made, pad.padding, strict=True)))
    try:
        folded = pad @ conv
    except Inapplicable:
        assert any(amount > 0 for pair in pad.padding for amount in pair)
        return
    agree(folded, pad(conv(x)), x)


@given(st.data())
def test_conv_and_cut(data: st.DataObject) -> None:
    """Every so many rows before and behind a convolution; before one that pads, only where nothing was cut off."""
    conv = data.draw(convs(n=data.draw(st.integers(1, 2)), transposed=None, padded=data.draw(st.booleans())))
    crop = tuple((data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in range(conv.n))
    cut = Cut(crop, tuple(data.draw(st.integers(1, 3)) for _ in range(conv.n)))
    x = data.draw(inputs_of(conv))
    big = torch.randn(2, conv.in_channels, *(3 * size + 6 for size in x.shape[2:]), dtype=torch.float64)
    try:
        agree(conv @ cut, conv(cut(big)), big)
    except Inapplicable:
        assert conv.transposed or any(low > 0 or high > 0 for low, high in conv.padding)
    try:
        agree(cut @ conv, cut(conv(big)), big)
    except Inapplicable:
        assert conv.transposed and any(step > 1 for step in cut.every)


@given(st.data())
def test_pad_after_pad(data: st.DataObject) -> None:
    outer, inner = data.draw(pads(2)), data.draw(pads(2))
    x = torch.randn(1, 2, 6, 7, dtype=torch.float64)
    try:
        agree(outer @ inner, outer(inner(x)), x)
    except Inapplicable:
        pass


@given(convs(), st.data())
def test_conv_after_conv_unpadded(inner: Conv, data: st.DataObject) -> None:
    """Without outer padding every composition is exact: strides, dilations, groups, biases, all sizes."""
    outer = data.draw(convs(n=inner.n, in_channels=inner.out_channels, padded=False))
    x = data.draw(inputs_of(inner, outer))
    assume(all(size >= 1 for size in outer.output_shape(inner.output_shape(tuple(x.shape)))[2:]))
    assume(all(s > r for s, r in zip(inner.output_shape(tuple(x.shape))[2:], outer.reach, strict=True)))
    agree(outer @ inner, outer(inner(x)), x)


@given(convs(), st.data())
def test_conv_after_conv_padded(inner: Conv, data: st.DataObject) -> None:
    """With outer padding: exact wherever the criterion allows it, on every size."""
    outer = data.draw(convs(n=inner.n, in_channels=inner.out_channels))
    x = data.draw(inputs_of(inner, outer))
    try:
        folded = outer @ inner
    except Inapplicable:
        return
    agree(folded, outer(inner(x)), x)


@given(st.data())
def test_border_criterion_is_sharp(data: st.DataObject) -> None:
    """Where the criterion refuses for its window (1-D, no bias, every tap non-zero), some input size really differs."""
    inner = data.draw(convs(n=1))
    outer = data.draw(convs(n=1, in_channels=inner.out_channels, stride=(1,)))
    bare = Conv(inner.kernel, None, inner.stride, inner.padding, inner.dilation)
    assume(outer.window == (1,) or outer.dilation == (1,))
    try:
        _ = outer @ bare
        return
    except Inapplicable:
        pass
    unpadded = Conv(outer.kernel, outer.bias, outer.stride, ((0, 0),), outer.dilation)
    composed = unpadded @ bare
    low, high = outer.padding[0]
    s = bare.stride[0]
    (low1, high1), d = composed.padding[0], composed.dilation
    padded = Conv(composed.kernel, composed.bias, composed.stride, ((low1 + s * low, high1 + s * high),), d)
    worst = 0.0
    for size in range(bare.reach[0] + 1, bare.reach[0] + 1 + 4 * s):
        x = torch.randn(1, bare.in_channels, size, dtype=torch.float64)
        y = bare(x)
        if y.shape[-1] + low + high > outer.reach[0]:
            worst = max(worst, relative_error(padded(x), outer(y)))
    # a window wholly in the padding reads nothing: then there was nothing to refuse, but nothing to lose either
    assume(outer.reach[0] + 1 > max(low, high) or worst > 0)
    assert worst > 1e-6


@given(st.data())
def test_sum_of_parallel_convs(data: st.DataObject) -> None:
    first = data.draw(convs(transposed=None))
    second = data.draw(
        convs(n=first.n, in_channels=first.in_channels, out_channels=first.out_channels, stride=first.stride)
    )
    if first.n and not first.transposed and data.draw(st.booleans()):
        # same output size: the second's total padding follows from the first's
        low = [data.draw(st.integers(0, 3)) for _ in range(first.n)]
        sizes = zip(first.padding, first.reach, second.reach, low, strict=True)
        padding = tuple((p, sum(pair) - reach + r - p) for pair, reach, r, p in sizes)
        assume(all(high >= 0 for _, high in padding))
        second = Conv(second.kernel, second.bias, second.stride, padding, second.dilation)
    x = data.draw(inputs_of(first))
    assume(all(s + sum(p) > r for s, p, r in zip(x.shape[2:], second.padding, second.reach, strict=True)))
    try:
        total = first + second
    except Inapplicable:
        return
    agree(total, first(x) + second(x), x)
    axis = first.channel_axis
    agree(concat([first, second, first]), torch.cat([first(x), second(x), first(x)], axis), x)


@given(st.data())
def test_sum_of_transposed_convs_of_unlike_geometry(data: st.DataObject) -> None:
    """Other taps, dilations, croppings and output paddings that make as many outputs: always one convolution."""
    first = data.draw(convs(n=data.draw(st.integers(1, 2)), transposed=True))
    drawn = data.draw(
        convs(n=first.n, in_channels=first.in_channels, out_channels=first.out_channels, stride=first.stride)
    )
    lows, extras = [], []
    for axis, reach, stride, dilation in zip(first.axes, drawn.reach, first.stride, drawn.dilation, strict=True):
        fits = {low: axis.grown - reach + 2 * low for low in range(8)}
        fits = {low: extra for low, extra in fits.items() if 0 <= extra < max(stride, dilation)}
        assume(fits)
        lows.append(data.draw(st.sampled_from(sorted(fits))))
        extras.append(fits[lows[-1]])
    padding = tuple((low, low) for low in lows)
    second = Conv(drawn.kernel, drawn.bias, first.stride, padding, drawn.dilation, True, tuple(extras))
    x = data.draw(inputs_of(first))
    assume(all(size > 0 for size in first.output_shape(tuple(x.shape))[2:]))
    agree(first + second, first(x) + second(x), x)
    agree(second + first, first(x) + second(x), x)
    agree(concat([first, second]), torch.cat([first(x), second(x)], first.channel_axis), x)


@given(st.data())
def test_transposed_conv_of_stride_1_is_a_plain_one(data: st.DataObject) -> None:
    """And adds to plain ones; with another stride it is refused."""
    n = data.draw(st.integers(1, 2))
    stride = (data.draw(st.sampled_from((1, 1, 1, 2))),) * n
    t = data.draw(convs(n=n, transposed=True, stride=stride))
    x = data.draw(inputs_of(t))
    drawn = data.draw(convs(n=n, in_channels=t.in_channels, out_channels=t.out_channels, stride=(1,) * n))
    sizes = zip(t.axes, drawn.reach, strict=True)
    low = data.draw(st.integers(0, 2))
    padding = tuple((low, axis.grown + reach - low) for axis, reach in sizes)
    plain = Conv(drawn.kernel, drawn.bias, (1,) * n, padding, drawn.dilation)
    try:
        bare = t.untransposed()
        total = t + plain
    except Inapplicable as refusal:
        assert stride[0] != 1 and "stride 1" in str(refusal)
        return
    assume(all(size > 0 for size in t.output_shape(tuple(x.shape))[2:]))
    agree(bare, t(x), x)
    agree(total, t(x) + plain(x), x)
    agree(plain + t, t(x) + plain(x), x)


@given(convs(), st.data())
def test_sum_with_identity_branch(conv: Conv, data: st.DataObject) -> None:
    affine = data.draw(affines(conv.in_channels, conv.channel_axis))
    x = data.draw(inputs_of(conv))
    try:
        total = affine + conv
    except Inapplicable:
        return
    agree(total, affine(x) + conv(x), x)


@torch.no_grad()
def test_batch_norm_is_affine() -> None:
    norm = torch.nn.BatchNorm2d(3, eps=0.1).double().eval()
    assert norm.running_mean is not None and norm.running_var is not None
    for value in (norm.weight, norm.bias, norm.running_mean):
        torch.nn.init.normal_(value)
    torch.nn.init.uniform_(norm.running_var, 0.1, 2)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    affine = Affine.batch_norm(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps, -3)
    agree(affine, norm(x), x)


@given(st.data())
def test_pointwise_beside_transposed(data: st.DataObject) -> None:
    """c ∘ t always, t ∘ c without a bias, for a pointwise c and any groups."""
    n = data.draw(st.integers(1, 3))
    t = data.draw(convs(n=n, transposed=True))
    ones = ((0, 0),) * n
    drawn = data.draw(convs(n=n, in_channels=t.out_channels, stride=(1,) * n))
    c = Conv(_first_tap(drawn.kernel), drawn.bias, (1,) * n, ones, (1,) * n)
    x = data.draw(inputs_of(t))
    agree(c @ t, c(t(x)), x)
    drawn = data.draw(convs(n=n, out_channels=t.in_channels, stride=(1,) * n))
    c = Conv(_first_tap(drawn.kernel), drawn.bias, (1,) * n, ones, (1,) * n)
    x = data.draw(inputs_of(t))[:, :1].expand(-1, c.in_channels, *(-1,) * n)
    try:
        agree(t @ c, t(c(x)), x)
    except Inapplicable:
        assert c.bias is not None


def _first_tap(kernel: Tensor) -> Tensor:
    for axis in range(3, kernel.ndim):
        kernel = kernel.narrow(axis, 0, 1)
    return kernel
