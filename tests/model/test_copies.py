"""Copies of a module share nothing with it: not weights, not state, not what functions set on it hold."""

import threading
import types
from functools import partial, update_wrapper
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusekit.errors import CaptureError
from fusekit.model import evaluation_copy, overridden
from fusekit.model.copies import deep_copy

X = torch.randn(2, 3, 5, 5)


def layer() -> nn.Conv2d:
    return nn.Conv2d(3, 3, 1).eval()


def by_method(m: nn.Module) -> Any:
    return types.MethodType(lambda self, x: 2 * type(self).forward(self, x), m)


def by_closure(m: nn.Module) -> Any:
    plain = m.forward
    return lambda x: 2 * plain(x)


def by_partial(m: nn.Module) -> Any:
    """As wrappers for large models do: the module as the first argument, the old forward behind `__wrapped__`."""
    plain = m.forward

    def forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return 2 * plain(*args, **kwargs)

    return update_wrapper(partial(forward, m), plain)


def by_nested_functions(m: nn.Module) -> Any:
    inner = by_closure(m)
    return lambda x: inner(x) * 1


@pytest.mark.parametrize("way", [by_method, by_closure, by_partial, by_nested_functions])
@pytest.mark.parametrize("inside", [False, True])
def test_a_forward_set_on_a_module_runs_the_copy_s_own_weights(way: Any, inside: bool) -> None:
    patched = layer()
    patched.forward = way(patched)  # type: ignore[method-assign]
    model: nn.Module = nn.Sequential(patched) if inside else patched
    want = model(X)
    copied = deep_copy(model)
    assert torch.equal(copied(X), want)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(model(X), want) and not copied(X).any()


def test_a_recursive_closure_is_copied() -> None:
    model = layer()

    def forward(x: Tensor, again: bool = True) -> Tensor:
        return forward(x, False) if again else model.conv2(x)  # type: ignore[operator]

    model.conv2 = nn.Conv2d(3, 2, 1)
    model.forward = forward  # type: ignore[method-assign,assignment]
    copied = deep_copy(model)
    assert torch.equal(copied(X), model(X))
    copied.conv2.bias.data += 1  # type: ignore[union-attr,operator]
    assert not torch.allclose(copied(X), model(X))


GLOBAL = layer()


def test_a_part_of_the_model_found_by_a_global_name_is_refused() -> None:
    model = nn.Sequential(GLOBAL)
    model.forward = lambda x: GLOBAL(x) + 1  # type: ignore[method-assign]
    with pytest.raises(CaptureError, match="global name GLOBAL"):
        deep_copy(model)


def test_an_attribute_of_the_same_name_is_no_global() -> None:
    model = nn.Sequential(GLOBAL)
    model.GLOBAL = GLOBAL
    model.forward = types.MethodType(lambda self, x: self.GLOBAL(x), model)  # type: ignore[method-assign]
    assert torch.equal(deep_copy(model)(X), model(X))


def test_weights_are_not_shared_even_by_copies_to_run() -> None:
    model = nn.Sequential(layer(), nn.BatchNorm2d(3))
    copied = evaluation_copy(model)
    ours = {t.data_ptr() for t in (*model.parameters(), *model.buffers())}
    assert not ours & {t.data_ptr() for t in (*copied.parameters(), *copied.buffers())}


def test_ties_stay_ties() -> None:
    first, second = layer(), layer()
    second.weight = first.weight
    copied = deep_copy(nn.Sequential(first, second))
    assert copied[0].weight is copied[1].weight  # type: ignore[index]


def test_what_cannot_be_copied_is_named() -> None:
    model = nn.Sequential(layer())
    model[0].lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(CaptureError, match=r"cannot be copied: .*; it is 0\.lock"):
        deep_copy(model)


def test_methods_on_a_module_are_seen() -> None:
    model = layer()
    assert overridden(model) == []
    model.activation = nn.functional.relu  # type: ignore[assignment]
    assert overridden(model) == []  # not a method of its class
    model._conv_forward = types.MethodType(lambda self, x, w, b: x, model)  # type: ignore[method-assign]
    assert overridden(model) == ["_conv_forward"]
