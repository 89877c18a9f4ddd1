"""Rules for data of JSON: a rule takes a value and gives it back, or raises Refused. What no rule names is refused.

Types are taken strictly (`true` is no integer, an integer no flag), because the reader behind is not: it takes "yes"
for a flag, and what it does not know for nothing.
"""

import keyword
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from fusekit.checkpoint.archive.refused import Refused, shown

Rule = Callable[[Any, str], Any]  # (value, where it stands) -> what is written for it

_OURS = {
    *["self", "torch", "math", "operator", "getattr", "device", "inf", "nan", "pytree", "fx_pytree"]
}  # what generated code calls by name


def refuse(where: str, value: object, expected: str) -> Refused:
    """The refusal itself, to be raised."""
    return Refused(f"{where} is {shown(value)}; expected {expected}")


def record(
    required: Mapping[str, Rule], optional: Mapping[str, Rule] | None = None, dropped: Collection[str] = ()
) -> Rule:
    """An object of these fields and no others; those `dropped` may stand there and are not written again."""
    rules = {**required, **(optional or {})}

    def rule(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise refuse(where, value, "an object")
        for name in value:
            if name not in rules and name not in dropped:
                raise Refused(f"{where} has a field {shown(name)}, which is not known")
        if missing := [name for name in required if name not in value]:
            raise Refused(f"{where} has no field {missing[0]!r}")
        return {name: rules[name](inner, f"{where}.{name}") for name, inner in value.items() if name in rules}

    return rule


def union(arms: Mapping[str, Rule]) -> Rule:
    """An object of one field, which says what the value is."""

    def rule(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) != 1:
            raise refuse(where, value, "an object of one field")
        ((name, inner),) = value.items()
        if name not in arms:
            raise refuse(where, name, "one of " + ", ".join(arms))
        return {name: arms[name](inner, f"{where}.{name}")}

    return rule


def list_of(item: Rule, most: int = 100_000) -> Rule:
    """A list of values under one rule."""

    def rule(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise refuse(where, value, f"a list of at most {most:,}")
        return [item(inner, f"{where}[{index}]") for index, inner in enumerate(value)]

    return rule


def map_of(key: Rule, item: Rule) -> Rule:
    """An object of any number of fields, whose names are under a rule, too."""

    def rule(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise refuse(where, value, "an object")
        return {key(name, f"a name in {where}"): item(inner, f"{where}.{name}") for name, inner in value.items()}

    return rule


def maybe(inner: Rule) -> Rule:
    """A value or null."""
    return lambda value, where: None if value is None else inner(value, where)


def integer(low: int = -(1 << 63), high: int = (1 << 63) - 1) -> Rule:
    """A whole number within bounds."""

    def rule(value: Any, where: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise refuse(where, value, f"an integer from {low} to {high}")
        return value

    return rule


def boolean(value: Any, where: str) -> bool:
    """true or false."""
    if type(value) is not bool:
        raise refuse(where, value, "true or false")
    return value


def number(value: Any, where: str) -> float | str:
    """A real number; what JSON has no number for stands as a word."""
    if type(value) is float or (type(value) is int and abs(value) < 1 << 64):
        return float(value)
    if value in ("Infinity", "-Infinity", "NaN"):
        return str(value)
    raise refuse(where, value, "a number")


def one_of(*choices: object) -> Rule:
    """One of a few values, of its type, too."""

    def rule(value: Any, where: str) -> Any:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise refuse(where, value, ", ".join(map(repr, choices[:30])))
        return value

    return rule


def matching(pattern: str, expected: str) -> Rule:
    """A text that a regular expression describes whole."""
    compiled = re.compile(pattern, re.ASCII)

    def rule(value: Any, where: str) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise refuse(where, value, expected)
        return value

    return rule


def name(value: Any, where: str) -> str:
    """What generated code can call a value: an identifier, and no word that this code needs itself."""
    text: str = _identifier(value, where)
    if keyword.iskeyword(text) or text in _OURS or text.startswith("__"):
        raise refuse(where, value, "a name that means nothing yet")
    return text


_identifier = matching(r"[A-Za-z_]\w{0,199}", "an identifier of ASCII letters, digits and _")
