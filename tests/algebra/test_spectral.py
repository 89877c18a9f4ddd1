"""The plan of a convolution by transforms, and the map that follows it: against written-out sums and `Conv`."""

import math
from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

from fusekit.algebra import Conv, SpectralConv
from fusekit.algebra.transforms import transform as realization
from fusekit.algebra.transforms.effort import choose, effort
from fusekit.algebra.transforms.spectral import Frames, Line, fast_size, one_shot, tiled
from fusekit.algebra.transforms.spectral_conv import Geometry, lines_of, realize, spectral_conv
from fusekit.algebra.transforms.transform import Transform
from fusekit.errors import Inapplicable
from fusekit.testing.strategies import convs, gaussian, inputs_of, relative_error
from tests.support import ledger

TOLERANCE = 1e-10


def padded(line: Line, x: Tensor) -> Tensor:
    """x spread, then padded or cropped, written out."""
    spread = x.new_zeros(line.extent(len(x)))
    spread[:: line.spread] = x
    return torch.nn.functional.pad(spread, (line.low, line.high))


def direct(line: Line, x: Tensor, w: Tensor) -> Tensor:
    values = padded(line, x)
    return torch.stack([values[line.stride * m : line.stride * m + len(w)] @ w for m in range(line.outputs(len(x)))])


def by_frames(line: Line, frames: Frames, x: Tensor, w: Tensor) -> Tensor:
    """What `Frames` promises, word by word: circular convolutions of its frames, the kept outputs of each."""
    spread = x.new_zeros(line.extent(len(x)))
    spread[:: line.spread] = x
    h = x.new_zeros(frames.points)
    for u, tap in enumerate(w):
        h[-u % frames.points] += tap
    found: list[Tensor] = []
    for t in range(frames.count(line.outputs(len(x)))):
        frame = x.new_zeros(frames.points)
        for i in range(min(frames.samples, frames.points)):
            at = frames.start + t * frames.step + i
            frame[i] = spread[at] if 0 <= at < len(spread) else 0.0
        y = torch.fft.ifft(torch.fft.fft(frame) * torch.fft.fft(h)).real
        found += [y[place] for place in frames.kept]
    return torch.stack(found)[: line.outputs(len(x))]


@st.composite
def lines(draw: st.DrawFn) -> tuple[Line, Tensor, Tensor]:
    """A line, an input on which it has outputs, and a kernel without zeros."""
    taps, size = draw(st.integers(1, 7)), draw(st.integers(1, 12))
    if draw(st.booleans()):
        low, high = draw(st.integers(-2, 9)), draw(st.integers(-2, 9))
        line = Line(taps - 1, draw(st.integers(1, 4)), low, high)
    else:
        crop = draw(st.integers(0, taps - 1)), draw(st.integers(0, taps - 1))
        line = Line.transposed(taps - 1, draw(st.integers(1, 3)), *crop, draw(st.integers(0, 2)))
    assume(line.extent(size) + min(line.low, 0) + min(line.high, 0) >= 0)
    assume(line.extent(size) + line.low + line.high > line.reach)
    return line, gaussian(draw, size), gaussian(draw, taps) + 3


@given(lines(), st.integers(0, 9), st.booleans())
def test_frames_hold_what_they_promise(drawn: tuple[Line, Tensor, Tensor], more: int, by_matrices: bool) -> None:
    line, x, w = drawn
    expected = direct(line, x, w)
    for frames in (one_shot(line, len(x), by_matrices=by_matrices), tiled(line, len(w) + more, len(x))):
        error = relative_error(by_frames(line, frames, x, w), expected)
        ledger.record(error)
        assert error <= TOLERANCE
        assert frames.tiles == frames.count(line.outputs(len(x)))


@given(lines())
def test_no_smaller_frame_would_do(drawn: tuple[Line, Tensor, Tensor]) -> None:
    """Alias-minimal: with one point less some output is wrong. (Unspread input, a window that is not all padding.)"""
    line, x, w = drawn
    assume(line.spread == 1 and 0 <= line.low <= line.reach and 0 <= line.high <= line.reach and len(x) > line.reach)
    frames = one_shot(line, len(x), by_matrices=True)
    assume(frames.points > 1)
    wrong = by_frames(line, replace(frames, points=frames.points - 1), x.abs() + 1, w.abs() + 1)
    right = direct(line, x.abs() + 1, w.abs() + 1)
    assert relative_error(wrong, right) > 1e-6


def test_same_needs_half_the_reach_and_circular_sizes_are_fast() -> None:
    line = Line(30, 1, 15, 15)
    assert one_shot(line, 56, by_matrices=True).points == 56 + 15 and one_shot(line, 56).points == 72
    assert one_shot(Line(30), 56, by_matrices=True).points == 56
    for points in (1, 2, 3, 5, 17, 71, 97, 1000, 16870, 17011):
        fast = fast_size(points)
        assert points <= fast <= points * 1.35 + 4 and (fast < 16 or fast % 8 == 0)
        assert max((f for f in range(2, fast + 1) if fast % f == 0 and all(f % g for g in range(2, f))), default=1) <= 7


def test_what_has_no_output_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no window of 5"):
        one_shot(Line(4), 3)
    with pytest.raises(ValueError, match="does not hold a window of 5"):
        tiled(Line(4), 4)
    with pytest.raises(ValueError, match="no output"):
        realize(Geometry((1,), ((0, 0),), (1,), 1), (5,), (1, 1), (3,))
    with pytest.raises(Inapplicable, match="no axis"):
        SpectralConv.of(Conv.from_torch(torch.ones(2, 3), None))


@st.composite
def spectral(draw: st.DrawFn) -> tuple[Conv, SpectralConv, Tensor]:
    """A convolution of any kind, cut in any way, and an input; sometimes with so many inputs that matrices mix them."""
    n = draw(st.integers(1, 3))
    conv = draw(convs(n=n, transposed=None))
    if draw(st.booleans()):
        shape = list(conv.kernel.shape)
        shape[2] = draw(st.sampled_from((1, 9)))
        shape[3] = draw(st.integers(1, 9))
        window = conv.reach[0] + 1
        conv = replace(conv, kernel=gaussian(draw, *shape), output_padding=(0,) * n)
        assume(not conv.transposed or window >= 1)
        if conv.transposed:
            conv = replace(
                conv, padding=tuple((min(p, r // 2),) * 2 for (p, _), r in zip(conv.padding, conv.reach, strict=True))
            )
    tile = tuple(draw(st.sampled_from((None, 4, 11, 24))) for _ in range(n)) if draw(st.booleans()) else None
    return conv, SpectralConv.of(conv, tile), draw(inputs_of(conv))


@settings(max_examples=300)
@given(spectral(), st.sampled_from((1, 500, realization.BLOCK)))
def test_a_spectral_convolution_is_the_convolution(drawn: tuple[Conv, SpectralConv, Tensor], block: int) -> None:
    """All strides, dilations, groups, paddings, transposed or not, no batch; tiles and blocks of any size."""
    conv, ours, x = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(realization, "BLOCK", block)
        given_value, expected = ours(x), conv(x)
        error = relative_error(given_value, expected)
    ledger.record(error)
    assert error <= TOLERANCE
    assert ours.output_shape(tuple(x.shape)) == tuple(expected.shape)
    assert given_value.is_contiguous() and given_value.dtype == torch.float64
    assert ours.on_meta().output_shape(tuple(x.shape)) == tuple(expected.shape)


@given(convs(n=2), st.data())
def test_unbatched_and_as_a_function_of_a_graph(conv: Conv, data: st.DataObject) -> None:
    x = data.draw(inputs_of(conv))
    assume(len(x))
    arguments = (conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    assert relative_error(spectral_conv(x[0], *arguments), conv(x)[0]) <= TOLERANCE


def test_effort_counts_what_is_done() -> None:
    """By hand: 64 channels of 56x56 under 31x31, in one frame of 72x72."""
    conv = Conv.from_torch(torch.zeros(64, 1, 31, 31), None, padding=((15, 15), (15, 15)), groups=64)
    ours, shape = SpectralConv.of(conv), (1, 64, 56, 56)
    assert ours.realization(shape).transform.plan.points == (72, 72)
    points = 72 * 72
    assert ours.effort(shape).flops == int(2.5 * 2 * 64 * points * math.log2(points)) + 8 * 64 * points // 2
    assert ours.macs(shape) == ours.effort(shape).flops // 2 < conv.macs(shape) // 3
    assert abs(ours.effort((4, *shape[1:])).flops - 4 * ours.effort(shape).flops) <= 4
    assert ours.nanoseconds(shape, 4, by_matrices=True) > 0
    assert ours.realization(shape).spectrum_bytes(torch.float32) == 64 * 72 * 37 * 8


def test_long_signals_are_cut_and_short_ones_are_not() -> None:
    """The cheapest plan by its own price, and that price grows with the length."""
    lines = (Line(1024, 1, 512, 512),)
    long = choose(lines, (1_000_000,), 1, (1, 1, 1))
    assert 2048 <= long.points[0] <= 65536 and (long.tiles[0] or 0) > 10
    assert choose(lines, (600,), 1, (1, 1, 1)).axes[0].one_shot
    whole = Transform(
        realize(Geometry((1,), ((512, 512),), (1,), 1), (1025,), (1, 1), (1_000_000,), 1, (None,)).transform.plan,
        1,
        1,
        1,
    )
    assert effort(Transform(long, 1, 1, 1), 1, long.tiles[0] or 1).nanoseconds < effort(whole, 1, 1).nanoseconds


@pytest.mark.parametrize(("taps", "size"), [(1025, 16_000), (4096, 16_000), (16_384, 16_000), (16_384, 65_536)])
def test_one_transform_is_not_left_alone(taps: int, size: int) -> None:
    """MKL takes four times as long for one transform as for each of four: one channel is cut, several share a block."""
    geometry = Geometry((1,), ((taps // 2, taps // 2),), (1,), 1)
    alone = realize(geometry, (taps,), (1, 1), (size,))
    assert (alone.transform.plan.tiles[0] or 1) > 1 and alone.transform.blocks(1, 2) == 1
    many = realize(replace(geometry, groups=64), (taps,), (1, 1), (size,)).transform
    assert many.blocks(1, many.plan.tiles[0] or 1) * realization.SIDE_BY_SIDE <= 64 * (many.plan.tiles[0] or 1)


def test_a_nan_spoils_its_tile_and_no_other() -> None:
    conv = Conv.from_torch(gaussian_of(1, 1, 9), None, padding=((4, 4),))
    x = gaussian_of(1, 1, 400)
    x[0, 0, 200] = torch.nan
    cut = SpectralConv.of(conv, (64,))
    spoilt = cut(x)[0, 0].isnan().nonzero().flatten()
    keep = 64 - 8
    assert len(spoilt) <= 2 * keep and int(spoilt.min()) <= 196 and int(spoilt.max()) >= 204
    clean = torch.where(cut(x).isnan(), 0.0, cut(x) - conv(x).nan_to_num())
    assert float(clean.abs().max()) < TOLERANCE
    assert SpectralConv.of(conv, (None,))(x).isnan().all()


def gaussian_of(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def test_lines_of_a_transposed_convolution_swap_the_roles() -> None:
    conv = Conv.from_torch(
        gaussian_of(2, 3, 4), None, stride=(3,), padding=((1, 1),), transposed=True, output_padding=(2,)
    )
    (line,) = lines_of(conv)
    assert line == Line(3, 1, 2, 4, 3) and line.outputs(5) == conv.output_shape((1, 2, 5))[-1]
