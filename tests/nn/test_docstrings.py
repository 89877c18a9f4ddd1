"""Every public name of `fusekit.nn` says what it computes: each parameter, and the shapes of what it takes and gives.

A parameter is told of in the docstring itself, or in that of a name it refers to in backticks: another public name, or
torch's own (`torch.nn.Conv1d`), whose arguments it then shares.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from functools import reduce
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusekit.nn as fnn
import fusekit.nn.functional as FF
from fusekit.nn import complex, hypercomplex, init, quaternion, speechbrain_quaternion

ROOMS: tuple[ModuleType, ...] = (fnn, complex, hypercomplex, quaternion, FF, FF.complex, FF.quaternion, init)
PUBLIC: dict[str, Any] = {name: getattr(room, name) for room in ROOMS for name in room.__all__}
PUBLIC |= {f"speechbrain.{name}": getattr(speechbrain_quaternion, name) for name in speechbrain_quaternion.__all__}
MODULE = {name for base in (nn.Module, torch.autograd.Function) for name in dir(base)}

LEFT_OUT = ("self", "device", "dtype", "args", "kwargs")  # said once for all layers, or of nn.Module


def parameters(public: Any) -> list[str]:
    return [name for name in inspect.signature(public).parameters if name not in LEFT_OUT]


def referred(text: str) -> Iterator[Any]:
    """What the names in backticks stand for, ours and torch's."""
    for path in re.findall(r"`([\w.]+)`", text):
        name = path.split(".")[-1]
        if path.startswith("torch.nn."):
            yield reduce(getattr, path.split(".")[1:], torch)
        elif name in PUBLIC:
            yield PUBLIC[name]


def told(public: Any, known: tuple[Any, ...] = ()) -> set[str]:
    """The words of a docstring, and of those it refers to; of torch's names the parameters."""
    if (getattr(public, "__module__", "") or "").startswith("torch"):
        text = public.__doc__ or ""
        listed = [] if inspect.isbuiltin(public) else parameters(public)
        return set(listed or re.findall(r"\w+", text))  # some of torch's only say *args
    text = public.__doc__ or ""
    words = set(re.findall(r"\w+", text))
    return words.union(*(told(other, (*known, public)) for other in referred(text) if other not in (*known, public)))


def shaped(public: Any, known: tuple[Any, ...] = ()) -> bool:
    text = public.__doc__ or ""
    others = [other for other in referred(text) if other not in (*known, public)]
    return bool(re.search(r"\[[\w*(][^\]]*\]", text)) or any(shaped(other, (*known, public)) for other in others)


def untold(public: Any) -> list[str]:
    return [name for name in parameters(public) if name not in told(public)]


def methods(public: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public methods that are not torch's: forward and the like are what the class's docstring is about."""
    for name, value in inspect.getmembers(public):
        ours = (getattr(value, "__module__", "") or "").startswith("fusekit.")
        if ours and not name.startswith("_") and name not in MODULE and callable(value):
            yield name, value


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_tells_its_parameters_and_shapes(name: str) -> None:
    public = PUBLIC[name]
    own = vars(public).get("__doc__") if isinstance(public, type) else public.__doc__
    assert own, f"{name} has no docstring of its own"
    assert not untold(public), f"the docstring of {name} does not tell of {', '.join(untold(public))}"
    takes_tensors = name != "ShapeGuard"
    assert shaped(public) or not takes_tensors, f"the docstring of {name} names no shape such as [N, C, *S]"


@pytest.mark.parametrize("name", sorted(name for name, value in PUBLIC.items() if isinstance(value, type)))
def test_a_public_method_tells_its_parameters(name: str) -> None:
    for method, value in methods(PUBLIC[name]):
        assert value.__doc__, f"{name}.{method} has no docstring"
        assert not untold(value), f"the docstring of {name}.{method} does not tell of {', '.join(untold(value))}"


def test_what_is_left_out_is_seen() -> None:
    def silent(x: Tensor, weight: Tensor) -> Tensor:
        """x [N, C] times something."""
        return x * weight

    def borrowing(x: Tensor, weight: Tensor) -> Tensor:
        """Arguments as those of `complex_linear`."""
        return x * weight

    def shapeless(x: Tensor) -> Tensor:
        """x as it is, see `ShapeGuard`."""
        return x

    assert untold(silent) == ["weight"] and shaped(silent)
    assert not untold(borrowing) and shaped(borrowing)
    assert not untold(shapeless) and not shaped(shapeless)
