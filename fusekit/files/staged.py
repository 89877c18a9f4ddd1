"""Writes a file so that it appears complete or not at all: it is written next to its destination, then moved there."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusekit.errors import ExportError
from fusekit.files.owned_folder import owned_folder


def destination(out: str | Path) -> Path:
    """The path of the file to write for `out`. Links are followed, so a link stays and the file it points to is
    replaced.

    Raises ExportError if no file can be written there: the folder is missing, or the path is a folder, a device, a link
    to itself, or a write-protected file.
    """
    path = Path(os.path.realpath(out))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror}") from error
    if not path.parent.is_dir():
        raise ExportError(f"cannot write {out}: there is no folder {path.parent}: make it first")
    if stat.S_ISDIR(mode):
        raise ExportError(f"cannot write {out}: it is a folder; expected the name of a file")
    if not stat.S_ISREG(mode):
        raise ExportError(f"cannot write {out}: it is no ordinary file, and cannot be replaced by one")
    if path.exists() and not os.access(path, os.W_OK):
        raise ExportError(f"cannot write {out}: it is write-protected")
    return path


@contextmanager
def beside(out: str | Path) -> Iterator[Path]:
    """A context manager: a path to write to instead of `out`, in a temporary folder next to it, so that the final move
    stays within one file system. The file name is the same, because a large ONNX model refers by name to the file with
    its weights.

    Raises ExportError if `out` cannot be written, also if the disk becomes full during the block.
    """
    target = destination(out)
    try:
        with owned_folder(target.parent) as folder:
            yield folder / target.name
    except OSError as error:
        raise ExportError(f"cannot write {target.name}: {error.strerror or error}; choose another place") from error


def place(stage: Path, out: str | Path) -> None:
    """Move the file `stage` to `out`, after all other files in its folder, because readers open the file `out` first.
    Each file replaces the old one atomically and takes over its permissions."""
    target = destination(out)
    for file in sorted(stage.parent.iterdir(), key=lambda file: file == stage):
        old = target.parent / file.name
        if old.exists():
            file.chmod(stat.S_IMODE(old.stat().st_mode))
        os.replace(file, old)


@contextmanager
def staged(out: str | Path) -> Iterator[Path]:
    """A context manager: a path to write to instead of `out`. If the block ends without an exception, the file replaces
    `out`."""
    with beside(out) as stage:
        yield stage
        place(stage, out)
