"""Arrays in archives and columns in tables, read in pieces: their readers would read them whole."""

import math
import zipfile
from functools import lru_cache
from typing import Any

import numpy


class Member:
    """An array in an archive, read in pieces: numpy itself would read it whole. To go back is to begin again."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._stream = archive.open(name)
        header = {(1, 0): numpy.lib.format.read_array_header_1_0, (2, 0): numpy.lib.format.read_array_header_2_0}
        version = numpy.lib.format.read_magic(self._stream)
        if version not in header:
            raise ValueError(f"{name}: unknown version {version}")
        self._shape, by_columns, self._dtype = header[version](self._stream)
        if self._dtype.hasobject or self._dtype.kind not in "biufc":
            raise ValueError(f"{name} holds {self._dtype}; expected numbers")
        if not self._shape or (by_columns and len(self._shape) > 1):
            raise ValueError(f"{name} is stored by columns or has no axes; expected samples on its first axis")
        self._begin = self._stream.tell()
        self._row = math.prod(self._shape[1:]) * self._dtype.itemsize

    def __len__(self) -> int:
        return int(self._shape[0])

    def __getitem__(self, rows: slice) -> Any:
        start, stop, _ = rows.indices(len(self))
        self._stream.seek(self._begin + start * self._row)
        content = self._stream.read((stop - start) * self._row)
        return numpy.frombuffer(content, self._dtype).reshape(stop - start, *self._shape[1:])


class Table:
    """A table of which one group of rows, the last one read, is held in memory."""

    def __init__(self, file: Any) -> None:
        self.file = file
        counts = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        self.starts = [0, *numpy.cumsum(counts).tolist()]
        self.group = lru_cache(maxsize=1)(file.read_row_group)

    def rows(self, name: str, start: int, stop: int) -> list[Any]:
        found: list[Any] = []
        for number, (low, high) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
            if low < stop and start < high:
                piece = self.group(number).column(name)
                found += piece.slice(max(start - low, 0), min(stop, high) - max(start, low)).to_pylist()
        return found


class Cells:
    """A column of a table: numbers, or lists of numbers, also of lists."""

    def __init__(self, table: Table, name: str) -> None:
        self._table, self._name = table, name

    def __len__(self) -> int:
        return int(self._table.starts[-1])

    def __getitem__(self, rows: slice) -> list[Any]:
        start, stop, _ = rows.indices(len(self))
        return [numpy.asarray(cell) for cell in self._table.rows(self._name, start, stop)]
