"""Groups of options: a command takes a dataclass as one parameter, and its fields become options of the command line.

    def inspect(model: Model, screen: Screen)     `fusekit inspect SOURCE --input ... --quiet ...`

So each option is defined once, in its group, even if several commands have it. Typer reads the signature of a function;
it gets one in which each group is replaced by its fields.
"""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints


def flatten(command: Callable[..., None]) -> Callable[..., None]:
    """A function that takes the fields of all groups as keyword arguments, builds the groups and calls the command.

    Args:
        command: a function. A parameter whose type is a dataclass is a group; its fields must have types that Typer
            knows. Raises ValueError if two groups have a field of the same name.
    """
    # not typing.get_type_hints: on Python 3.10 it hides what is annotated with a default of None behind Optional
    hints = inspect.get_annotations(command, eval_str=True)
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
    """A keyword-only parameter, because these may come in any order, with or without a default."""
    absent = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=absent, annotation=of_type)
