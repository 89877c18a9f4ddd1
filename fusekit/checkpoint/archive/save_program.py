"""A program to a `.pt2` archive, on a disk that may be full."""

from io import RawIOBase
from pathlib import Path

import torch
from torch.export import ExportedProgram

from fusekit.files import staged


def save_program(program: ExportedProgram, out: Path) -> None:
    """Write the archive whole, or leave what stands there. ExportError where it cannot be written."""
    with staged(out) as stage, stage.open("wb", buffering=0) as file:
        patient = _Patient(file)
        torch.export.save(program, patient)  # type: ignore[arg-type]
        if patient.error is not None:
            raise patient.error


class _Patient:
    """What torch writes to. It keeps the first error for later: torch closes its archive in a destructor, where an
    error ends the whole process."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """All of the data, or nothing once a write has failed; what is missing is told by `error`."""
        left = memoryview(data)
        while left and self.error is None:
            try:
                left = left[self._file.write(left) or 0 :]
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""
