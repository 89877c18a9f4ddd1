"""Groups of options: a command takes a dataclass as one parameter, and the command line sees its fields.

    def inspect(model: Model, screen: Screen)     `fusekit inspect SOURCE --input ... --quiet ...`

So each option is said once, in its group, whatever number of commands take it. Typer reads the signature of a function;
it is given one in which the fields stand in the place of the group.
"""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints


def flatten(command: Callable[..., None]) -> Callable[..., None]:
    """The command that takes the fields of its groups one by one, by keyword, and makes the groups of them.

    Args:
        command: a function. A parameter whose type is a dataclass is a group; the fields of a group have types that
            Typer knows. A name that stands in two groups is an error of the command (ValueError).
    """
    hints = get_type_hints(command, include_extras=True)
    hints.pop("return", None)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint) and isinstance(hint, type)}
    taken: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            of_type = get_type_hints(groups[name], include_extras=True)
            taken += [_keyword(f.name, of_type[f.name], f.default) for f in fields(groups[name])]
        else:
            taken.append(_keyword(name, hints[name], parameter.default))

    def called(**words: Any) -> None:
        for name, group in groups.items():
            words[name] = group(**{field.name: words.pop(field.name) for field in fields(group)})
        command(**words)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in taken}
    called.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
    return called


def _keyword(name: str, of_type: Any, default: Any) -> inspect.Parameter:
    """By keyword, because a field without a default may then stand behind one that has it."""
    absent = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=absent, annotation=of_type)
