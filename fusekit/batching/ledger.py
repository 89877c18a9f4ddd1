"""What is done already: one line of JSON for each item that ended, appended as it ends.

A line that was cut off, by a kill or a full disk, is left out when the ledger is read. Of several lines for one item
the last one counts. One process at a time writes in a folder.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fusekit.batching.result import Result
from fusekit.errors import FusekitError

FILE = "ledger.jsonl"


class Ledger:
    """The ledger in a folder. Open it with `opened`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = {result.name: result for result in _read(path)}
        self._file = path.open("a+b")
        if _cut_off(path):
            self._file.write(b"\n")

    def add(self, result: Result) -> None:
        """Write one result, which is on disk when this returns. Raises FusekitError if it cannot be written."""
        line = json.dumps(result.to_dict(), ensure_ascii=False) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            told = f"cannot write {self.path}: {error.strerror or error}"
            raise FusekitError(f"{told}; what is written there so far is not lost") from error
        self.results[result.name] = result

    def close(self) -> None:
        try:
            self._file.close()
        except OSError:  # what was not written was told by `add`
            pass


@contextmanager
def opened(folder: Path) -> Iterator[Ledger]:
    """A context manager: the ledger of a folder, for this process alone. Raises FusekitError if another process has it,
    or if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        with lock.acquire(timeout=0):
            ledger = Ledger(folder / FILE)
            try:
                yield ledger
            finally:
                ledger.close()
    except Timeout:
        raise FusekitError(f"another batch is at work in {folder}; wait for it, or choose another folder") from None
    except OSError as error:
        raise FusekitError(f"cannot write in {folder}: {error.strerror or error}") from error


def _read(path: Path) -> Iterator[Result]:
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            try:
                yield Result.from_dict(json.loads(line))
            except (ValueError, TypeError, AttributeError):
                continue


def _cut_off(path: Path) -> bool:
    """Whether the last line has no end, so that the next one would be joined to it."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
