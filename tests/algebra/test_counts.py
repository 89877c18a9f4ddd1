"""Counts: the normal form has the value of what was written, at all sizes, and sees what does not hang on them."""

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fusekit.algebra.counts import Count, TooLong, compared, least, most

H, W = Count.size("h"), Count.size("w")
SIZES = st.fixed_dictionaries({"h": st.integers(0, 40), "w": st.integers(0, 40)})
Written = tuple[Count, Callable[[dict[str, int]], int]]  # a count, and what it was written as


def _two(one: Written, other: Written, name: str) -> Written:
    rules: dict[str, Any] = {"max": most, "min": least}
    plain: dict[str, Any] = {"max": max, "min": min}
    rule, value = rules.get(name) or getattr(operator, name), plain.get(name) or getattr(operator, name)
    return rule(one[0], other[0]), lambda sizes: value(one[1](sizes), other[1](sizes))


def _by(one: Written, name: str, n: int) -> Written:
    if name == "ceil":
        return (one[0] * Fraction(1, n)).ceil(), lambda sizes: math.ceil(Fraction(one[1](sizes), n))
    rule = getattr(operator, name)
    return rule(one[0], n), lambda sizes: rule(one[1](sizes), n)


LEAVES: Any = st.one_of(
    st.integers(-5, 5).map(lambda n: (Count.of(n), lambda sizes: n)),
    st.sampled_from(["h", "w"]).map(lambda key: (Count.size(key), lambda sizes: sizes[key])),
)
WRITTEN: Any = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(_two, inner, inner, st.sampled_from(["add", "sub", "mul", "max", "min"])),
        st.builds(_by, inner, st.sampled_from(["floordiv", "mod", "ceil"]), st.integers(1, 5)),
    ),
    max_leaves=6,
)


@given(st.data(), SIZES)
def test_the_normal_form_has_the_value_of_what_was_written(data: st.DataObject, sizes: dict[str, int]) -> None:
    try:
        count, value = data.draw(WRITTEN)
    except TooLong:
        assume(False)
    assert count.value(sizes) == value(sizes) and count.is_whole()
    assert eval(count.spelled(), dict(sizes)) == value(sizes)
    bound = count.at_least()
    assert bound is None or bound <= value(sizes)
    assert count.constant is None or count.constant == value(sizes)
    assert count.sizes() <= set(sizes)


@given(WRITTEN, WRITTEN, SIZES, st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne"]))
def test_comparisons_that_are_decided_hold(one: Written, other: Written, sizes: dict[str, int], name: str) -> None:
    told = compared(name, one[0], other[0])
    assert told is None or told == getattr(operator, name)(one[1](sizes), other[1](sizes))


def same_padding(size: Count, k: int, s: int, d: int) -> Count:
    return most(((size * Fraction(1, s)).ceil() - 1) * s + (k - 1) * d + 1 - size, Count.of(0))


@pytest.mark.parametrize(("k", "s", "d"), [(3, 1, 1), (5, 1, 2), (1, 1, 1)])
def test_padding_that_keeps_the_size_is_a_number(k: int, s: int, d: int) -> None:
    assert same_padding(H, k, s, d).constant == (k - 1) * d


@pytest.mark.parametrize(("k", "s"), [(3, 2), (2, 2), (5, 3), (7, 4)])
def test_with_a_stride_it_is_so_many_that_the_size_is_rounded_up(k: int, s: int) -> None:
    """What a convolution makes of the padded size names the size once."""
    pad = same_padding(H, k, s, 1)
    low = pad // 2
    assert (H + low + (pad - low) - k) // s + 1 == (H * Fraction(1, s)).ceil() == (H + s - 1) // s
    assert pad.at_least() == k - s


def test_what_is_known_of_all_sizes() -> None:
    assert compared("ge", H, Count.of(0)) and compared("gt", H + 1, Count.of(0))
    assert compared("lt", H % 7, Count.of(7)) and compared("eq", H - H, Count.of(0))
    assert compared("eq", H, W) is None and compared("gt", H, Count.of(0)) is None
    assert (H * W // 2 * 2 - H * W).sizes() == {"h", "w"}
    assert ((7 - H % 7) % 7).spelled(lambda key: f"x.{key}").count("x.h") <= 3
    assert (H % 7).spelled() == "(h % 7)" and (H // 2 // 3) == H // 6 and most(H, H - 1) == H


def test_a_count_of_many_terms_is_given_up() -> None:
    total = math.prod([Count.size(f"{n}") + 1 for n in range(4)], start=Count.of(1))
    with pytest.raises(TooLong):
        total * total
