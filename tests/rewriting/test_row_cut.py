"""Rows of convolutions are cut where that is cheapest."""

import itertools
from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import fusekit
from fusekit.algebra import Chain, Composition, Conv, Map, Shape
from fusekit.algebra.work import EAGER
from fusekit.errors import Inapplicable
from fusekit.rewriting.row_cut import cheapest_cut
from fusekit.testing.strategies import convs, inputs_of, relative_error
from tests.support.compare import assert_same, normal, report_of


def dense(inputs: int, outputs: int, window: int = 1, *, stride: int = 1, padding: int = 0, bias: bool = False) -> Conv:
    torch.manual_seed(inputs)
    weight = torch.randn(outputs, inputs, window, window, dtype=torch.float64)
    given_bias = torch.randn(outputs, dtype=torch.float64) if bias else None
    return Conv.from_torch(weight, given_bias, stride=(stride,) * 2, padding=((padding, padding),) * 2)


def price(value: Composition, shape: tuple[int, ...]) -> float:
    total = 0.0
    for each in reversed(value.maps):
        total += each.work(shape, 4, EAGER).price
        shape = each.output_shape(shape)
    return total


def every_cut(n: int) -> Iterator[tuple[tuple[int, int], ...]]:
    for inner in itertools.chain.from_iterable(itertools.combinations(range(1, n), k) for k in range(n)):
        edges = (0, *inner, n)
        yield tuple(itertools.pairwise(edges))


@given(st.data())
@settings(max_examples=60)
def test_no_lawful_cut_is_cheaper(data: st.DataObject) -> None:
    """Against all 2^(n-1) cuts, of which each stretch must meet the gain by itself."""
    channels = [data.draw(st.sampled_from((1, 2, 8, 32, 64))) for _ in range(data.draw(st.integers(3, 5)))]
    padded = data.draw(st.booleans())
    chain = Chain(
        tuple(
            dense(a, b, data.draw(st.sampled_from((1, 1, 3))), stride=data.draw(st.integers(1, 2)), padding=int(padded))
            for a, b in itertools.pairwise(channels)
        )
    )
    shape, gain = (1, channels[0], 64, 64), data.draw(st.sampled_from((1.0, 0.8, 0.5)))
    shapes: list[Shape] = [shape]
    for conv in chain.convs:
        shapes.append(conv.output_shape(shapes[-1]))

    def meets(start: int, stop: int) -> bool:
        parts, folded = chain.convs[start:stop], chain.folded(start, stop)
        before = price(Composition(parts[::-1]), shapes[start])
        return stop - start == 1 or price(Composition((folded,)), shapes[start]) <= gain * before

    prices, lawful = [], 0
    for stretches in every_cut(len(chain.convs)):
        try:
            cut = chain.cut(stretches)
        except Inapplicable:
            continue
        lawful += 1
        if all(meets(*stretch) for stretch in stretches):
            prices.append(price(cut, shape))
    plain = price(Composition(chain.convs[::-1]), shape)
    try:
        best, pays = cheapest_cut(chain, shape, 4, rates=EAGER, gain=gain, kept=False)
    except Inapplicable:
        assert lawful == 1  # nothing but leaving it as it is
        return
    best = best if pays else Composition(chain.convs[::-1])
    assert min(price(best, shape), plain) == pytest.approx(min(prices))
    assert pays == (min(prices) < plain)


@given(convs(n=1), st.data())
def test_every_stretch_is_the_composition(first: Conv, data: st.DataObject) -> None:
    second = data.draw(convs(n=1, in_channels=first.out_channels))
    third = data.draw(convs(n=1, in_channels=second.out_channels))
    chain = Chain((first, second, third))
    x = data.draw(inputs_of(first, second, third))
    for stretches in every_cut(3):
        try:
            cut = chain.cut(stretches)
        except Inapplicable:
            continue
        assert relative_error(cut(x), chain(x)) < 1e-11


def test_the_first_pair_is_not_taken_where_it_spoils_the_row() -> None:
    """16 -> 8 -> 32 -> 128 channels, the last by 5x5: folding pairs from the front stops at nearly twice the work."""
    chain = Chain((dense(16, 8), dense(8, 32), dense(32, 128, 5)))
    shape = (1, 16, 64, 64)
    best, pays = cheapest_cut(chain, shape, 4, rates=EAGER, gain=0.9, kept=False)
    assert pays and len(best.maps) == 2
    first_pair = price(chain.cut(((0, 2), (2, 3))), shape)
    assert price(best, shape) < 0.6 * first_pair


def test_a_bias_that_forbids_the_best_stretch() -> None:
    """On shapes alone the whole row folds; the inner bias and the outer padding leave the outer pair."""
    chain = Chain((dense(8, 64, bias=True), dense(64, 64, 3, padding=1), dense(64, 8)))
    best, pays = cheapest_cut(chain, (1, 8, 64, 64), 4, rates=EAGER, gain=0.9, kept=False)
    inner, outer = (m for m in best.maps[::-1])
    assert pays and inner.window == (1, 1) and outer.window == (3, 3) and outer.out_channels == 8


def test_an_inner_value_that_is_computed_anyway_is_not_saved() -> None:
    """Two equal matrices in one pay, unless the first is computed all the same."""
    chain = Chain((dense(64, 64), dense(64, 64)))
    for kept in (False, True):
        cut, pays = cheapest_cut(chain, (1, 64, 32, 32), 4, rates=EAGER, gain=0.9, kept=kept)
        assert pays is not kept and len(cut.maps) == 1  # where nothing pays, the nearest that would


def test_nothing_lawful_is_refused_with_the_reason() -> None:
    rows = [dense(3, 64, 3, padding=1, bias=True), dense(64, 64, 3, padding=1, bias=True), dense(64, 3, 3, padding=1)]
    with pytest.raises(Inapplicable, match="the border"):
        cheapest_cut(Chain(tuple(rows)), (1, 3, 64, 64), 4, rates=EAGER, gain=0.9, kept=False)


class Row(nn.Module):
    """Linear layers in a row, one value of it perhaps returned too."""

    def __init__(self, *layers: nn.Module, tapped: int | None = None) -> None:
        super().__init__()
        self.layers, self.tapped = nn.ModuleList(layers), tapped

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        kept = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index == self.tapped:
                kept.append(x)
        return (x, *kept)


@pytest.mark.parametrize("tapped", [None, 0, 1, 2])
def test_a_row_in_a_model(tapped: int | None) -> None:
    """What is read elsewhere ends one row and begins the next."""
    layers = (nn.Conv2d(4, 32, 3), nn.Conv2d(32, 64, 1), nn.Conv2d(64, 64, 1), nn.Conv2d(64, 4, 1))
    model = Row(*layers, tapped=tapped).double().eval()
    x = normal(2, 4, 12, 11)
    fast = fusekit.optimize(model, x)
    applied = report_of(fast).applied
    assert {event.rewrite for event in applied} == {"fold-conv"}
    assert_same(fast, model, x)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in fast.modules())
    assert convolutions == {None: 1, 0: 2, 1: 2, 2: 2}[tapped]


def test_twenty_layers_become_one() -> None:
    """More than are folded at once: what comes out folds again."""
    model = nn.Sequential(*(nn.Conv1d(8, 8, 1) for _ in range(30))).double().eval()
    x = normal(2, 8, 40)
    fast = fusekit.optimize(model, x)
    assert sum(isinstance(module, nn.Conv1d) for module in fast.modules()) == 1
    assert_same(fast, model, x)
    assert isinstance(Chain((dense(2, 2),)), Map)
