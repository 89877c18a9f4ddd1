"""Items assigned in a forward: a tensor like the one before, with inputs and without; or left to torch.export."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fusekit
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
