"""A file appears whole or not at all: it is written beside its place and moved there at the end."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusekit.errors import ExportError
from fusekit.files.owned_folder import owned_folder


def destination(out: str | Path) -> Path:
    """The file that `out` names, through links: a link stays, and what it points to is replaced.

    ExportError if no file can stand there: no folder, a folder, a device, a link to itself, a file nobody may write."""
    path = Path(os.path.realpath(out))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror}") from error
    if not path.parent.is_dir():
        raise ExportError(f"cannot write {out}: there is no folder {path.parent}")
    if stat.S_ISDIR(mode):
        raise ExportError(f"cannot write {out}: it is a folder; expected the name of a file")
    if not stat.S_ISREG(mode):
        raise ExportError(f"cannot write {out}: it is no ordinary file, and cannot be replaced by one")
    if path.exists() and not os.access(path, os.W_OK):
        raise ExportError(f"cannot write {out}: it is write-protected")
    return path


@contextmanager
def beside(out: str | Path) -> Iterator[Path]:
    """A path to write to in place of `out`, in a folder next to it, so that a move stays within one file system. The
    name is kept, because a large ONNX model names the file beside it that holds its weights.

    ExportError where `out` cannot be written, also if the disk is full by the end of the block."""
    target = destination(out)
    try:
        with owned_folder(target.parent) as folder:
            yield folder / target.name
    except OSError as error:
        raise ExportError(f"cannot write {target.name}: {error.strerror or error}") from error


def place(stage: Path, out: str | Path) -> None:
    """Move what was written to `stage`, and the files beside it, to `out`: those first, since readers open the file
    itself. Each replaces at once what stood there and takes over its permissions."""
    target = destination(out)
    for file in sorted(stage.parent.iterdir(), key=lambda file: file == stage):
        old = target.parent / file.name
        if old.exists():
            file.chmod(stat.S_IMODE(old.stat().st_mode))
        os.replace(file, old)


@contextmanager
def staged(out: str | Path) -> Iterator[Path]:
    """A path to write to in place of `out`. What stands there when the block ends well replaces `out`."""
    with beside(out) as stage:
        yield stage
        place(stage, out)
