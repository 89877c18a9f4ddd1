"""What the standard operators mean, one family a file: the only files that know their attributes and versions.

A reader answers None for whatever it is not sure of. Another package adds readers as `FileReaders`.
"""

from dataclasses import replace

from fusekit.grafting.meaning import Called, FileReaders, Linear, Reader
from fusekit.grafting.operators import (
    activations,
    arithmetic,
    convolutions,
    normalizations,
    parts,
    rearranged,
    resized,
    windows,
)
from fusekit.ir.operators import Table, guarded, takes

READERS: dict[str, Reader] = {
    **arithmetic.READERS,
    **activations.READERS,
    **convolutions.READERS,
    **normalizations.READERS,
    **parts.READERS,
    **rearranged.READERS,
    **resized.READERS,
    **windows.READERS,
}


def _add(name: str, value: FileReaders) -> FileReaders:
    """Put the readers of another package into the table. ValueError if it has one for an operator already."""
    taken = [operator for operator in value.readers if operator in READERS]
    if taken:
        raise ValueError(f"there is a reader of {', '.join(taken)} already")
    guards = {operator: guarded(name, reader, (Linear, Called)) for operator, reader in value.readers.items()}
    READERS.update(guards)
    return replace(value, readers=guards)


def _remove(value: FileReaders) -> None:
    for operator in value.readers:
        READERS.pop(operator, None)


takes(FileReaders, Table(_add, _remove))

__all__ = ["READERS"]
