"""Operators whose meaning another package brings.

An extension is an object of one of several kinds. The kind for graphs of torch is a `Spelling`; the room that reads
files adds its own.

What is accepted is in the tables at once. A reader that fails when it is asked is left out from then on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from fusekit.errors import FusekitError, reason_of
from fusekit.extensions import Registry
from fusekit.ir.reading import Reading
from fusekit.ir.spellings import SPELLINGS, Spelling


@dataclass(frozen=True)
class Table:
    """How extensions of one kind are put into a table (`add` takes the name and the object, and returns what it put
    there) and taken out again (`remove`)."""

    add: Callable[[str, Any], Any]
    remove: Callable[[Any], None]


_TABLES: dict[type, Table] = {}


def _table_of(value: object) -> Table | None:
    return next((table for kind, table in _TABLES.items() if isinstance(value, kind)), None)


def _accepted(name: str, value: object) -> object:
    table = _table_of(value)
    if table is None:
        kinds = " or ".join(kind.__name__ for kind in _TABLES)
        raise FusekitError(f"expected a {kinds}, got {type(value).__name__}")
    return table.add(name, value)


def _released(value: object) -> None:
    table = _table_of(value)
    assert table is not None
    table.remove(value)


OPERATORS: Registry[object] = Registry("fusekit.operators", "reader of operators", _accepted, release=_released)


def takes(kind: type, table: Table) -> None:
    """From now on, an extension may be an object of this kind; it goes into this table."""
    _TABLES[kind] = table


def guarded(name: str, reader: Callable[..., Any], kinds: tuple[type, ...]) -> Callable[..., Any]:
    """The reader of an extension. If it raises, or answers with something that is of none of the `kinds` and not None,
    the extension is left out, and the answer is None: the operator stays what it is."""

    @wraps(reader)
    def asked(*arguments: Any) -> Any:
        try:
            found = reader(*arguments)
        except Exception as error:
            OPERATORS.leave_out(name, f"it failed ({reason_of(error)})")
            return None
        if found is not None and not isinstance(found, kinds):
            OPERATORS.leave_out(name, f"it answered with a {type(found).__name__}")
            return None
        return found

    return asked


def _add(name: str, spelling: Spelling) -> Spelling:
    """Put a spelling of another package into the table. ValueError if the table has an answer already."""
    readers = {operator: guarded(name, reader, (Reading,)) for operator, reader in spelling.read.items()}
    callers = {layer: guarded(name, caller, (tuple,)) for layer, caller in spelling.called.items()}
    made = replace(spelling, read=readers, called=callers)
    SPELLINGS.add(made)
    return made


takes(Spelling, Table(_add, SPELLINGS.remove))
