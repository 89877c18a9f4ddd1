"""conv ∘ conv with padding in between: exact at the border, at every size, for every stride, padding and dilation."""

import hypothesis.strategies as st
import torch
from hypothesis import given

from fusekit.algebra import Conv
from fusekit.algebra.bordered import BorderedConv, bordered_conv, geometry_of
from fusekit.testing.strategies import convs, relative_error
from tests.support import ledger
from tests.support.compare import normal


@given(convs(), st.data())
def test_folded_pair_is_exact_at_the_border(inner: Conv, data: st.DataObject) -> None:
    """Also on maps so small that the rings of two sides overlap."""
    outer = data.draw(convs(n=inner.n, in_channels=inner.out_channels))
    folded = BorderedConv.fold(outer, inner)
    tested = 0
    for extra in range(6):
        sizes = []
        for i in range(inner.n):
            # the smallest size on which both are defined, and a few more
            size = 1
            while not _defined(outer, inner, i, size):
                size += 1
            sizes.append(size + (extra + i) % 6)
        x = torch.randn(1 + (inner.n == 0), inner.in_channels, *sizes, dtype=torch.float64)
        error = relative_error(folded(x), outer(inner(x)))
        ledger.record(error)
        assert error <= 1e-10
        tested += 1
    assert tested == 6


def test_a_bordered_convolution_from_its_weights() -> None:
    """As the program spells it: weights and biases of all three in torch's layout, and their geometry."""
    inner = Conv.from_torch(normal(6, 2, 3), normal(6), padding=((1, 0),), stride=(2,), groups=2)
    outer = Conv.from_torch(normal(4, 3, 2, seed=1), normal(4, seed=1), padding=((1, 2),), dilation=(2,), groups=2)
    value = BorderedConv.fold(outer, inner)
    assert isinstance(value, BorderedConv)
    folded, parts = value.folded, (value.folded, inner, outer)
    weights = (folded.weight, folded.bias, inner.weight, inner.bias, outer.weight)
    x = normal(2, 4, 9)
    assert relative_error(bordered_conv(x, *weights, tuple(map(geometry_of, parts))), outer(inner(x))) < 1e-13


def _defined(outer: Conv, inner: Conv, i: int, size: int) -> bool:
    padded = size + sum(inner.padding[i])
    if padded <= inner.reach[i]:
        return False
    middle = (padded - inner.reach[i] - 1) // inner.stride[i] + 1
    return middle + sum(outer.padding[i]) > outer.reach[i]


def test_a_ring_costs_its_perimeter() -> None:
    inner = Conv.from_torch(torch.randn(64, 3, 3, 3).double(), None, padding=((1, 1), (1, 1)))
    outer = Conv.from_torch(torch.randn(3, 64, 3, 3).double(), None, padding=((1, 1), (1, 1)))
    bordered = BorderedConv.fold(outer, inner)
    assert isinstance(bordered, BorderedConv)
    shape = (1, 3, 128, 128)
    pair = inner.macs(shape) + outer.macs(inner.output_shape(shape))
    ring = bordered.macs(shape) - bordered.folded.macs(shape)
    assert 0 < ring < 0.1 * pair
