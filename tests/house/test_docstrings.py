"""Every public name says what it is: a docstring that names each parameter and field, and, for a pass, its law."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import Any

import pytest

import fusekit
from fusekit import algebra, nn, passes, runtimes
from fusekit.nn import functional, init
from fusekit.runtimes.open_vino import OpenVino
from fusekit.runtimes.protocol import Runtime

ROOMS = (fusekit, algebra, passes, runtimes)
RUNTIMES: tuple[type, ...] = (Runtime, *(type(each) for each in runtimes.runtimes()))


def named(room: ModuleType) -> dict[str, Any]:
    return {f"{room.__name__}.{name}": getattr(room, name) for name in room.__all__}


PUBLIC = {name: value for room in ROOMS for name, value in named(room).items()}
PUBLIC |= {f"{each.__module__}.{each.__name__}": each for each in RUNTIMES}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
PASSES = {name: value for name, value in named(passes).items() if inspect.isclass(value)}


def function_of(member: Any) -> Any:
    """What is behind a method, a class method or a property."""
    return next((found for key in ("__func__", "fget", "func") if (found := getattr(member, key, None))), member)


def methods() -> Iterator[tuple[str, type, str]]:
    """The public methods and properties that a class defines itself: (full name, class, name)."""
    for name, value in CLASSES.items():
        for member, found in vars(value).items():
            if not member.startswith("_") and inspect.isfunction(function_of(found)):
                yield f"{name}.{member}", value, member


def told(value: type, name: str) -> str:
    """What a class says of a member, and what the classes say whose member it is as well: the protocol's words hold
    for all that keep it."""
    lines = (*value.__mro__, *((Runtime,) if value in RUNTIMES else ()))
    return "\n".join(inspect.getdoc(function_of(vars(each)[name])) or "" for each in lines if name in vars(each))


def overrides(value: type, name: str) -> bool:
    return any(name in vars(base) for base in value.__mro__[1:]) or (value in RUNTIMES and name in vars(Runtime))


def not_in(words: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if not re.search(rf"\b{re.escape(name)}\b", words)]


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def test_the_walk_finds_what_is_public() -> None:
    assert {"fusekit.optimize", "fusekit.validate", "fusekit.runtimes.runtime"} <= set(FUNCTIONS)
    assert {"fusekit.Report", "fusekit.algebra.Conv", f"{OpenVino.__module__}.OpenVino"} <= set(CLASSES)
    assert {"fusekit.algebra.Windowed.from_torch", "fusekit.algebra.Windowed.weight"} <= {
        name for name, _, _ in methods()
    }
    assert len(PASSES) == len(passes.PASSES)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_names_its_parameters(name: str) -> None:
    words = inspect.getdoc(FUNCTIONS[name]) or ""
    assert words, f"{name} has no docstring"
    assert not_in(words, parameters(FUNCTIONS[name])) == [], f"{name} does not say what these are"


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_names_its_fields(name: str) -> None:
    value = CLASSES[name]
    words = vars(value).get("__doc__") or ""
    assert words and not words.startswith(f"{value.__name__}("), f"{name} has no docstring of its own"
    if is_dataclass(value):
        own = [field.name for field in fields(value) if not field.name.startswith("_")]
        assert not_in(words, own) == [], f"{name} does not say what these are"


def raises_on_purpose(function: Any) -> bool:
    """Whether the function itself raises an error about what it was given."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    raised = (ast.unparse(node.exc) for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None)
    return any(re.match(r"Inapplicable|\w+Error\(", each) and "NotImplemented" not in each for each in raised)


def test_what_raises_names_its_errors() -> None:
    """In its own docstring or in that of its class."""
    layers = {name: value for room in (nn, functional, init) for name, value in named(room).items()}
    functions = {**FUNCTIONS, **{name: value for name, value in layers.items() if inspect.isfunction(value)}}
    words = {name: inspect.getdoc(value) or "" for name, value in functions.items() if raises_on_purpose(value)}
    for name, value, member in methods():
        if raises_on_purpose(function_of(vars(value)[member])):
            words[name] = f"{told(value, member)} {inspect.getdoc(value)}"
    assert len(words) > 30
    assert [name for name, text in words.items() if not re.search(r"Error|Inapplicable", text)] == []


def test_a_method_names_its_parameters() -> None:
    """Where a base class or a protocol names them, a method adds what is its own."""
    silent = [name for name, value, member in methods() if not told(value, member)]
    assert silent == [], "no docstring, neither its own nor one of a base class"
    missing = {
        name: absent
        for name, value, member in methods()
        if not overrides(value, member)
        and (absent := not_in(told(value, member), parameters(function_of(vars(value)[member]))))
    }
    assert missing == {}, "parameters that the docstring does not name"


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_states_its_law(name: str) -> None:
    """In the first line of its class, which `fusekit passes` prints, and as a formula on a line of its own above."""
    first = (vars(PASSES[name]).get("__doc__") or "").split("\n")[0]
    assert "=" in first, f"{name}: no equation in the first line"
    whole = inspect.getmodule(PASSES[name])
    assert whole is not None and re.search(r"^ +\S.*=|^\S+ = ", whole.__doc__ or "", re.M), f"{name}: no formula"
