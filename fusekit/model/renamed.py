"""A function in whose code some names of Python's own types mean something else when they are called.

`int(n)` makes an exact int of whatever it is given, so a traced number cannot answer for itself; and `int` cannot be
another for everybody, as it is a type that is asked for, too. A copy of the function is made that looks up its global
names in a view of the same globals: it and the functions of the user's that it calls find another `int` there.

Only where the name is called and nothing else: `isinstance(n, int)` and `dtype=int` need the type. Python marks calls
at the lookup from 3.11 on; before, no function is renamed.
"""

import dis
import sys
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from fusekit.model.copies import globals_read, is_own_code

_MARKED = sys.version_info >= (3, 11)


class Renaming:
    """Copies of functions to whose calls of the names in `changed` other functions answer."""

    def __init__(self, changed: Mapping[str, Any]) -> None:
        self.changed = changed
        self._made: dict[FunctionType, FunctionType | None] = {}

    def of(self, function: Any) -> FunctionType | None:
        """The function with its names changed; None where there are none to change, or where it is not the user's."""
        if (
            not _MARKED
            or not isinstance(function, FunctionType)
            or not is_own_code(function.__globals__.get("__name__", ""))
        ):
            return None
        if function not in self._made:
            self._made[function] = None  # what calls itself needs no more than the rest of it does
            self._made[function] = self._copy(function)
        return self._made[function]

    def attributes_of(self, root: nn.Module) -> None:
        """Functions kept as attributes of a module's parts are their copies from now on: it is one's own copy."""
        for module in root.modules():
            kept = {name: self.of(value) for name, value in vars(module).items()}
            vars(module).update({name: copied for name, copied in kept.items() if copied is not None})

    def _copy(self, function: FunctionType) -> FunctionType | None:
        code = function.__code__
        own = {name for name in self.changed if name not in function.__globals__ and _is_only_called(code, name)}
        read = globals_read(code)
        others = any(self.of(function.__globals__.get(name)) for name in read)
        if _stores_globals(code) or (not others and not own.intersection(read)):
            return None
        names = _Names(function.__globals__, {name: self.changed[name] for name in own}, self)
        made = FunctionType(code, names, function.__name__, function.__defaults__, function.__closure__)
        made.__kwdefaults__ = function.__kwdefaults__
        made.__qualname__, made.__module__, made.__doc__ = function.__qualname__, function.__module__, function.__doc__
        vars(made).update(vars(function))
        return made


class _Names(dict[str, Any]):
    """The global names of a function, of which some mean something else; the rest as they are at the time."""

    def __init__(self, plain: dict[str, Any], changed: dict[str, Any], renaming: Renaming) -> None:
        super().__init__({name: value for name, value in plain.items() if name[:2] == "__"})  # Python looks inside
        self._plain, self._changed, self._renaming = plain, changed, renaming

    def __getitem__(self, name: str) -> Any:
        if name in self._changed:
            return self._changed[name]
        value = self._plain[name]
        return self._renaming.of(value) or value

    def __contains__(self, name: object) -> bool:
        return name in self._plain

    def __setitem__(self, name: str, value: Any) -> None:
        self._plain[name] = value


def _stores_globals(code: CodeType) -> bool:
    """Whether the code assigns to global names: Python stores them without asking the view."""
    own = any(each.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") for each in dis.get_instructions(code))
    return own or any(_stores_globals(inner) for inner in code.co_consts if isinstance(inner, CodeType))


def _is_only_called(code: CodeType, name: str) -> bool:
    """Whether the code, and what is defined in it, does nothing with the name but call it."""
    for each in dis.get_instructions(code):
        if each.argval == name and each.opname.startswith(("LOAD_", "STORE_", "DELETE_")):
            called = each.opname == "LOAD_GLOBAL" and each.arg is not None and each.arg & 1
            if not called and each.opname not in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_CONST"):
                return False
    return all(_is_only_called(inner, name) for inner in code.co_consts if isinstance(inner, CodeType))
