"""Items assigned in a forward: a tensor like the one before, with inputs and without; or left to torch.export."""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

import fusekit
from tests.support.architectures import randomize
from tests.support.capture_room import OTHER, Forward, X, both_ways, folds, host, prepared
from tests.support.compare import assert_same, normal, report_of


def number(m: Any, x: Tensor) -> Tensor:
    y = m.norm(m.conv(x))
    y[:, 0] = 0
    return m.b(y)  # type: ignore[no-any-return]


def border(m: Any, x: Tensor) -> Tensor:
    """A border of the shift, side by side."""
    y = F.pad(m.norm(m.conv(x)), [1] * 4)
    v = m.norm.bias.view(1, -1, 1, 1)
    y[:, :, :1], y[:, :, -1:], y[..., :1], y[..., -1:] = v, v, v, v
    return m.b(y)  # type: ignore[no-any-return]


def placed(m: Any, x: Tensor) -> Tensor:
    """An image within zeros made for it, and its first row twice."""
    b, c, h, w = x.shape
    zeros = torch.zeros(b, c, h + 2, w + 2, dtype=x.dtype, device=x.device)
    zeros[:, :, 1:-1, 1:-1] = m.a(x)
    zeros[:, :, :1] = x.mean((2, 3), keepdim=True)
    return zeros


def by_size(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y[..., : x.shape[2] // 2, :] = 1
    return m.b(y)  # type: ignore[no-any-return]


def added_to_a_part(m: Any, x: Tensor) -> Tensor:
    """Of what nothing else reads."""
    y = torch.cat([m.a(x), m.b(x)], 1)[:, 1:4]
    y += x
    return y.flatten(1)


@pytest.mark.parametrize("forward", [number, border, placed, by_size, added_to_a_part], ids=lambda f: f.__name__)
def test_items_assigned(forward: Forward) -> None:
    model = prepared(host(forward))
    for result in both_ways(model, X, (*OTHER, normal(1, 3, 1, 4))):
        assert report_of(result).capture == "symbolic trace" and folds(result) >= 1
        assert_same(result, model, normal(3, 3, 4, 5))


def seen_elsewhere(m: Any, x: Tensor) -> Tensor:
    """A view of what is written to."""
    y = m.a(x)
    v = y.flatten(1)
    y[:, :1] = 2
    return m.b(y).flatten(1) + v  # type: ignore[no-any-return]


def of_the_whole(m: Any, x: Tensor) -> Tensor:
    """A part is written to, and the whole read."""
    y = torch.cat([m.a(x), m.b(x)], 1)
    part = y[:, 1:4]
    part += x
    return y + part.sum()


def of_the_input(m: Any, x: Tensor) -> Tensor:
    x[:, :1] = 2
    return m.a(x)  # type: ignore[no-any-return]


def of_itself(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y[:, 1:] = y[:, :-1]
    return m.b(y)  # type: ignore[no-any-return]


@pytest.mark.parametrize("forward", [seen_elsewhere, of_the_whole, of_the_input, of_itself], ids=lambda f: f.__name__)
def test_what_others_see_is_left_to_torch(forward: Forward) -> None:
    model = prepared(host(forward))
    result = fusekit.optimize(model, X, measure=False)
    assert report_of(result).capture != "symbolic trace"
    assert torch.allclose(result(X.clone()), model(X.clone()), rtol=0, atol=1e-9)


class NormAndPad(nn.Module):
    """A batch norm, its border what it makes of zeros, and a window: the branch of a diverse branch block."""

    def __init__(self, assign: Callable[[Tensor, Tensor], None]) -> None:
        super().__init__()
        self.one, self.norm, self.three = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3)
        self.assign = assign

    def forward(self, x: Tensor) -> Tensor:
        norm: Any = self.norm
        y = F.pad(norm(self.one(x)), [1] * 4)
        v = norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()
        self.assign(y, v + norm.weight * self.one.bias / (norm.running_var + norm.eps).sqrt())
        return self.three(y)  # type: ignore[no-any-return]


def _by_slices(y: Tensor, v: Tensor) -> None:
    v = v.view(1, -1, 1, 1)
    y[:, :, 0:1, :], y[:, :, -1:, :], y[:, :, :, 0:1], y[:, :, :, -1:] = v, v, v, v


def _by_ellipsis(y: Tensor, v: Tensor) -> None:
    v = v[:, None, None]
    y[..., :1], y[..., -1:], y[..., :1, :], y[:, :, -1:] = v, v, v, v


def _by_numbers(y: Tensor, v: Tensor) -> None:
    v = v[:, None]
    y[:, :, 0], y[:, :, -1], y[..., 0], y[..., -1] = v, v, v, v


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("assign", [_by_slices, _by_ellipsis, _by_numbers], ids=lambda f: f.__name__)
def test_a_border_of_the_shift_folds_away(assign: Callable[[Tensor, Tensor], None], dtype: torch.dtype) -> None:
    model = randomize(NormAndPad(assign)).to(dtype).eval()
    for example in ((), (torch.randn(2, 3, 6, 6, dtype=dtype),)):
        result = fusekit.optimize(model, *example, measure=False)
        assert sum(isinstance(m, nn.Conv2d) for m in result.modules()) == 1, str(report_of(result))
        x = torch.randn(3, 3, 5, 9, dtype=dtype)
        assert torch.allclose(result(x), model(x), rtol=0, atol=2e-5 if dtype is torch.float32 else 1e-10)


_STRIPS = [(axis, side) for axis in (2, 3) for side in (0, 1)]


@settings(max_examples=12, deadline=None, database=None)
@given(st.data())
def test_strips_in_any_order_and_of_any_width(data: st.DataObject) -> None:
    """Values that differ, strips that overlap at the corners or reach beyond the pad, some written twice."""
    pad = [data.draw(st.integers(0, 2)) for _ in range(4)]
    strips = data.draw(st.lists(st.tuples(st.sampled_from(_STRIPS), st.integers(1, 3), st.integers(-1, 2)), max_size=5))
    scales = torch.randn(3, 1, 1, dtype=torch.float64)

    def forward(m: Any, x: Tensor) -> Tensor:
        y = F.pad(m.norm(m.conv(x)), pad)
        for (axis, side), width, value in strips:
            index = [slice(None)] * 4
            index[axis] = slice(-width, None) if side else slice(width)
            y[tuple(index)] = value if value > 0 else m.weights * value
        return m.b(y)  # type: ignore[no-any-return]

    model = prepared(host(forward))
    model.weights = nn.Parameter(scales)
    for result in both_ways(model):
        assert report_of(result).capture == "symbolic trace"
