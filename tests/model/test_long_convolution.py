"""The yardstick for long convolutions against torch's own sum, and where it is used."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fusekit.model import Inputs, long_convolution, run_float64
from fusekit.model.long_convolution import LongConvolutions
from fusekit.testing.strategies import relative_error
from tests.support.compare import normal

CONV = (F.conv1d, F.conv2d, F.conv3d)


@given(st.data(), st.integers(1, 3))
def test_the_same_as_the_sum(data: st.DataObject, n: int) -> None:
    """Any stride, padding, dilation, groups, batch and bias; one call without a batch."""

    def axes(low: int, high: int) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(low, high)) for _ in range(n))

    groups, inputs, outputs = (data.draw(st.integers(1, 3)) for _ in range(3))
    window, dilation, padding, stride = axes(1, 4), axes(1, 3), axes(0, 2), axes(1, 3)
    axis = zip(dilation, window, padding, strict=True)
    size = [max(1, d * (k - 1) + 1 - 2 * p + data.draw(st.integers(0, 4))) for d, k, p in axis]
    x, weight = normal(2, groups * inputs, *size), normal(groups * outputs, inputs, *window)
    bias = normal(groups * outputs) if data.draw(st.booleans()) else None
    y = long_convolution.by_transforms(
        x, weight, bias, list(stride), list(padding), list(dilation), False, [0] * n, groups
    )
    expected = CONV[n - 1](x, weight, bias, stride, padding, dilation, groups)
    assert y.is_contiguous() and relative_error(y, expected) < 1e-13


@pytest.mark.parametrize("size", [1, 2, 7, 97, 1000, 16_385])
def test_points(size: int) -> None:
    points = long_convolution._smooth(size)
    assert points >= size and points % 2 == 0 and points < 1.2 * size + 4


def test_only_long_ones_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    plain = long_convolution.by_transforms

    def counted(x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        taken.append(weight.shape[-1])
        return plain(x, weight, *rest)

    monkeypatch.setattr(long_convolution, "by_transforms", counted)
    x = normal(1, 4, 20_000)
    with LongConvolutions():
        for taps in (100, 1001):
            F.conv1d(x, normal(4, 1, taps), groups=4)
            F.conv1d(x.float(), normal(4, 1, taps).float(), groups=4)
        F.conv_transpose1d(normal(1, 4, 2000), normal(4, 1, 1001), groups=4)
    assert taken == [1001]


def test_a_reverb_has_a_float64_run() -> None:
    """48,000 taps on 3 s: torch's own sum would ask for tens of gigabytes."""
    model = nn.Conv1d(1, 1, 48_000, padding=47_999, bias=False)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[0, 0, 0], model.weight[0, 0, -1] = 1.0, 0.5
    x = torch.randn(1, 1, 144_000)
    y = run_float64(model, Inputs((x,)))
    wide = x.double()
    assert relative_error(y, F.pad(wide, (47_999, 0)) + 0.5 * F.pad(wide, (0, 47_999))) < 1e-13
