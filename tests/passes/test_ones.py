"""A bias as a channel of ones: where all that differs at the border is a bias."""

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

import fusekit
from fusekit.algebra import Affine, AppendOnes, BorderedConv, Choice, Conv
from fusekit.algebra.bordered import needs_ring
from fusekit.algebra.ones import bias_as_channel
from fusekit.errors import Inapplicable
from fusekit.passes import FoldConvBorder
from fusekit.testing.strategies import convs, inputs_of, relative_error
from tests.support import ledger
from tests.support.architectures import randomize
from tests.support.compare import assert_same, normal, report_of


@given(st.data())
def test_the_border_of_a_biased_pointwise_convolution(data: st.DataObject) -> None:
    """Any stride and groups inside, any padding outside; both spellings, at every size."""
    outer = data.draw(convs(n=data.draw(st.integers(1, 3))))
    drawn = data.draw(convs(n=outer.n, out_channels=outer.in_channels, padded=False))
    window: Any = (..., *(slice(1),) * outer.n)
    kernel = drawn.kernel[window]
    bias = normal(outer.in_channels)
    inner = Conv(kernel, bias, drawn.stride, drawn.padding, drawn.dilation)
    x = data.draw(inputs_of(inner, outer))
    given_as = FoldConvBorder().propose(outer, inner)
    assert isinstance(given_as, Choice)
    for option in given_as.options:
        error = relative_error(option(x), outer(inner(x)))
        ledger.record(error)
        assert error <= 1e-10


@pytest.mark.parametrize("padding", [((1, 0),), ((0, 1),), ((-1, 2),), ((0, 0),), ((-1, 0),)])
def test_a_shift_before_padding_on_one_side(padding: Any) -> None:
    outer = Conv.from_torch(normal(3, 2, 3), normal(3), padding=padding)
    shift = Affine(normal(2), normal(2, seed=1), -2)
    assert needs_ring(outer, shift) == any(low > 0 or high > 0 for low, high in padding)
    x = normal(2, 2, 7)
    bordered = BorderedConv.fold(outer, Conv.from_affine(shift, 1, 2))
    assert relative_error(bordered(x), outer(shift(x))) < 1e-13


def test_only_the_bias_of_a_bare_tap_is_a_channel() -> None:
    weight, bias = torch.randn(4, 3, 1, 1).double(), torch.randn(4).double()
    pointwise = Conv.from_torch(weight, bias)
    assert bias_as_channel(pointwise).in_channels == 4
    x = normal(2, 3, 4, 5)
    assert relative_error(bias_as_channel(pointwise)(AppendOnes(2)(x)), pointwise(x)) < 1e-14
    for other in (
        Conv.from_torch(weight, None),
        Conv.from_torch(weight, bias, padding=((1, 0), (0, 0))),
        Conv.from_torch(weight.expand(4, 3, 3, 1), bias),
        Conv.from_torch(weight.transpose(0, 1), bias[:3], transposed=True),
    ):
        with pytest.raises(Inapplicable):
            bias_as_channel(other)


@pytest.mark.parametrize("target", ["torch", "onnxruntime"])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_price_prefers_it_to_a_ring(target: str, stride: int, tmp_path: Any) -> None:
    """One copy of the input instead of four sides; at every size, and in the file with every size free."""
    model = nn.Sequential(nn.Conv2d(16, 96, 1, stride=stride), nn.Conv2d(96, 16, 3, padding=1, stride=stride))
    randomize(model).double()
    fast = fusekit.optimize(model, normal(1, 16, 33, 30), target=target)
    (event,) = report_of(fast).applied
    assert event.rewrite == "fold-conv-border"
    (layer,) = (module for module in fast.modules() if isinstance(module, nn.Conv2d))
    assert layer.in_channels == 17 and report_of(fast).after.macs is not None
    for size in (33, 1, 2, 7):
        assert_same(fast, model, normal(2, 16, size, size + 1))
    verdict = fusekit.export(model.float(), tmp_path / "m.onnx", (torch.randn(1, 16, 33, 30),))
    assert verdict.ok and "dynamic axes: input[0, 2, 3]" in str(verdict)
