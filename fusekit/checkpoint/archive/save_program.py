"""Writes a program to a `.pt2` archive. A full disk gives an error, not a crash of the process."""

from io import RawIOBase
from pathlib import Path

import torch
from torch.export import ExportedProgram

from fusekit.files import staged


def save_program(program: ExportedProgram, out: Path) -> None:
    """Write the archive. If that fails, an old file at `out` stays unchanged. Raises ExportError if it cannot be
    written."""
    with staged(out) as stage, stage.open("wb", buffering=0) as file:
        patient = _Patient(file)
        torch.export.save(program, patient)  # type: ignore[arg-type]
        if patient.error is not None:
            raise patient.error


class _Patient:
    """The file object that torch writes to. It stores the first error and raises nothing, because torch closes its
    archive in a C++ destructor, where an exception would end the process."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of the data; write nothing more after the first error, which is kept in `error`. Always returns the
        length of the data."""
        left = memoryview(data)
        while left and self.error is None:
            try:
                left = left[self._file.write(left) or 0 :]
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Does nothing, because nothing is buffered."""
