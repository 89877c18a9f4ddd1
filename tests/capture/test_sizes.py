"""Sizes of a symbolic trace are numbers: computed with, decided by the example, and right at every other size."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fusekit
from fusekit.capture import capture
from fusekit.errors import CaptureError
from fusekit.model import Inputs
from tests.support.capture_room import OTHER, Forward, X, both_ways, folds, host, prepared, same_or_refused
from tests.support.compare import assert_same, normal, report_of


class Same(nn.Conv2d):
    """TensorFlow's padding, as timm spells it."""

    def pad(self, size: Any, axis: int) -> Any:
        k, s, d = self.kernel_size[axis], self.stride[axis], self.dilation[axis]
        if isinstance(size, Tensor):
            return torch.clamp(((size / s).ceil() - 1) * s + (k - 1) * d + 1 - size, min=0)
        return max((math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size, 0)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.size()[-2:]
        high, wide = self.pad(h, 0), self.pad(w, 1)
        x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation)


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 2), st.integers(1, 12), st.integers(1, 12))
def test_same_padding_is_right_at_every_size(stride: int, k: int, dilation: int, h: int, w: int) -> None:
    """With and without inputs, the norm behind it folded; a stride of 1 pads so many for all sizes."""
    layers = Same(3, 4, k, stride, dilation=dilation, bias=False), nn.BatchNorm2d(4)
    model = prepared(nn.Sequential(*layers))
    for given_inputs in (None, normal(2, 3, 9, 8)):
        result: Any = fusekit.optimize(model, *(() if given_inputs is None else (given_inputs,)), measure=False)
        assert folds(result) == 1 and report_of(result).capture == "symbolic trace"
        assert_same(result, model, normal(2, 3, h, w))
        if stride == 1:
            assert (
                not any("pad" in str(node.target) for node in result.graph.nodes if node.op != "call_module")
                or k % 2 == 0
            )


def interpolated(m: Any, x: Tensor) -> Tensor:
    return F.interpolate(m.norm(m.conv(x)), size=(x.shape[2] * 2, x.size(3) + 1))


def flattened(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    b, c, h, w = y.shape
    return m.norm(y).view(b, c, -1).transpose(1, 2).reshape(b, h, w, c)  # type: ignore[no-any-return]


def averaged(m: Any, x: Tensor) -> Tensor:
    y = m.norm(m.conv(x))
    return y.sum((2, 3)) / (math.prod(y.shape[-2:]) * min(y.size(2), 4) + round(x.shape[0] / 2))  # type: ignore[no-any-return]


def positions(m: Any, x: Tensor) -> Tensor:
    """A grid made from sizes, and a table cut to them."""
    y = m.norm(m.conv(x))
    h, w = y.shape[-2:]
    grid = torch.arange(h, dtype=y.dtype)[:, None] * torch.ones(1, w, dtype=y.dtype)
    return y + grid + m.table[..., :h, :w]  # type: ignore[no-any-return]


def token(m: Any, x: Tensor) -> Tensor:
    y = m.norm(m.conv(x)).flatten(2)
    first = m.table[:, :3, :1, 0].expand(y.shape[0], -1, -1)
    return torch.cat([first, y], -1)


def halved(n: Any) -> int:
    return int(n / 2)


def made_whole(m: Any, x: Tensor) -> Tensor:
    """int of a quotient, here and in a function; float of a size."""
    size = (int(x.shape[2] * 1.5), halved(x.size(3)) + int(float(x.shape[0])))
    return F.interpolate(m.norm(m.conv(x)), size=size)


FOLLOWED: list[Forward] = [made_whole, interpolated, flattened, averaged, positions, token]


@pytest.mark.parametrize("forward", FOLLOWED, ids=lambda f: f.__name__)
def test_sizes_are_computed_with(forward: Forward) -> None:
    model = host(forward)
    model.register_buffer("table", normal(1, 3, 16, 16))
    model = prepared(model)
    for result in both_ways(model, X, (*OTHER, normal(3, 3, 5, 9))):
        assert report_of(result).capture == "symbolic trace" and folds(result) == 1
        assert_same(result, model, normal(3, 3, 5, 9))


def windows(m: Any, x: Tensor) -> Tensor:
    """Padded to a multiple of 4, where it is none, and cropped again."""
    y = m.norm(m.conv(x))
    h, w = y.shape[-2:]
    low, right = (4 - h % 4) % 4, (4 - w % 4) % 4
    if low > 0 or right > 0:
        y = F.pad(y, (0, right, 0, low))
    y = y.unflatten(2, (y.shape[2] // 4, 4)).mean(2, keepdim=True).flatten(2, 3)
    return y[..., :w] if low or right else y  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [(8, 8), (6, 8), (5, 7)])
def test_what_sizes_decide_is_guarded(size: tuple[int, int]) -> None:
    """As many sizes as go the example's way are answered, the others refused, none wrong; and in words of the model."""
    model = prepared(host(windows))
    result = fusekit.optimize(model, normal(2, 3, *size), measure=False)
    assert report_of(result).capture == "symbolic trace" and folds(result) == 1
    others = [normal(2, 3, h, w) for h in (4, 5, 6, 8, 12) for w in (8, 7, 6)]
    answered = [same_or_refused(result, model, x) for x in others]
    assert any(answered) and not all(answered)


def test_a_guard_says_where_it_was_asked() -> None:
    model = prepared(host(lambda m, x: m.a(x) if x.shape[2:] == x.shape[-2:] else m.b(x)))
    result = fusekit.optimize(model, X, measure=False)
    assert_same(result, model, X)
    with pytest.raises(ValueError, match=r"captured for inputs with .*test_sizes.py:\d+"):
        result(normal(2, 3, 6))


def test_numbers_that_are_the_same_at_all_sizes_decide_without_inputs() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        spare = max(-(-x.shape[2] // 1) - x.shape[2], 0)
        return m.norm(m.conv(x)) if spare == 0 and x.shape[2] % 3 < 3 else x

    result = fusekit.optimize(prepared(host(forward)))
    assert report_of(result).capture == "symbolic trace" and folds(result) == 1


@pytest.mark.parametrize("read", [lambda y: y.shape[0], lambda y: y.shape[1], lambda y: y.size(-1) * y.shape[2]])
def test_a_size_is_asked_of_what_folds_no_more(read: Any) -> None:
    """Whatever is read between the two, they fold: batch and channels, and sizes by the convolution's formula."""
    model = prepared(host(lambda m, x: (lambda y: m.norm(y) * read(y))(m.conv(x))))
    for result in both_ways(model):
        assert folds(result) >= 1


def test_the_check_that_a_size_needs_keeps_no_wide_value_alive() -> None:
    """The axes of what the block returns are counted where the block begins: all of it becomes one convolution."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y: Tensor = m.project(m.expand(x))
        return y + x if x.shape[1] == y.shape[1] else y

    model = host(forward)
    model.expand, model.project = nn.Conv2d(3, 64, 3, padding="same"), nn.Conv2d(64, 3, 1)
    model = prepared(model)
    program: Any = fusekit.optimize(model, X, measure=False)
    called = [program.get_submodule(each.target) for each in program.graph.nodes if each.op == "call_module"]
    assert [each.out_channels for each in called if isinstance(each, nn.Conv2d)] == [3]
    assert_same(program, model, OTHER[0])
    assert not same_or_refused(program, model, X[0])  # one image without a batch has another axis 1


def test_a_range_of_a_size_is_left_to_others() -> None:
    """A loop over a size is unrolled by no symbolic trace."""
    model = prepared(host(lambda m, x: sum(m.a(x)[:, :, i] for i in range(x.shape[2]))))
    result = fusekit.optimize(model)
    assert_same(result, model, OTHER[0])


def written(m: Any, x: Tensor) -> Tensor:
    """What only torch.export follows."""
    y = m.conv(x)
    y[:, ::2] *= 2
    return m.norm(y)  # type: ignore[no-any-return]


def test_free_sizes_take_no_longer_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it the sizes are fixed where that is asked for, all but the batch; and else the model is left whole."""
    monkeypatch.setattr("fusekit.capture.exported.LONGEST", 0.0)
    model = prepared(host(written))
    with pytest.raises(CaptureError, match="with free sizes it takes more than 0 s"):
        capture(model, Inputs.of(X))
    captured = capture(model, Inputs.of(X), fixed=True)
    assert captured.way == "torch.export" and "all but the batch" in captured.reasons[-1]
