"""Copies of functions in which a name that is only called means something else, and nothing else is another."""

import sys
from typing import Any

import pytest
from torch import nn

from fusekit.model.patches import methods_renamed
from fusekit.model.renamed import Renaming

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python marks no calls of names before")
counter = 0


def half(n: Any) -> Any:
    return int(n / 2)


def by_helper(n: Any) -> Any:
    return half(n) + sum(int(k) for k in range(2))


def asks(n: Any) -> Any:
    return int(n) if isinstance(n, int) else 0


def counts(n: Any) -> Any:
    global counter
    counter += int(n)
    return counter


def reads(n: Any) -> Any:
    return int(n), counter


def own_name(n: Any) -> Any:
    int = float
    return int(n)


def recursive(n: Any) -> Any:
    return recursive(n - 1) if n > 0 else int(0.5)


def idle(n: Any) -> Any:
    return n


class Layer(nn.Module):
    def forward(self, n: Any) -> Any:
        return self.halved(n), super().extra_repr()

    def halved(self, n: Any) -> Any:
        return half(n)


RENAMING = Renaming({"int": lambda value: f"int of {value}"})


def test_calls_are_answered_by_another() -> None:
    for function, expected in ((half, "int of 3.0"), (recursive, "int of 0.5")):
        copied = RENAMING.of(function)
        assert copied is not None and copied(6) == expected and function(6) in (3, 0)
    with pytest.raises(TypeError):  # a word and a sum: the helper is another, too
        RENAMING.of(by_helper)(6)  # type: ignore[misc]


def test_what_needs_the_type_keeps_it() -> None:
    assert [RENAMING.of(function) for function in (asks, own_name, idle, counts, int, len, nn.Module.to)] == [None] * 7


def test_globals_are_the_same_at_all_times() -> None:
    copied = RENAMING.of(reads)
    assert copied is not None
    for value in (3, 4):
        globals()["counter"] = value
        assert copied(1) == ("int of 1", value)


def test_methods_are_renamed_here_and_now() -> None:
    layer, plain = Layer(), Layer.halved
    with methods_renamed(layer, RENAMING):
        assert layer(6) == ("int of 3.0", "")
    assert layer(6) == (3, "") and Layer.halved is plain
