"""Temporary folders that are removed in any case.

The code that makes one removes it when it is done. A process that is asked to stop removes all of its folders
(`remove_all`). Folders of a process that was killed are removed by the next process that works in the same place: a
folder is locked as long as its owner runs, and the operating system releases the locks of dead processes.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fusekit.errors import FusekitError

PREFIX = "fusekit-"
_LOCK = ".owner"  # the lock file in each folder
_ATTEMPTS = 20
_alive: set[Path] = set()


@contextmanager
def owned_folder(parent: Path, prefix: str = f".{PREFIX}") -> Iterator[Path]:
    """A context manager: a new folder in `parent`, removed at the end in any case. Folders that dead processes left
    there are removed first.

    Raises OSError if no folder can be made.
    """
    yield from _work_folder(*_made(parent, prefix))


@contextmanager
def scratch() -> Iterator[Path]:
    """The same in the system's folder for temporary files. Raises FusekitError if no folder can be made."""
    try:
        made = _made(Path(tempfile.gettempdir()), PREFIX)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FusekitError(f"no temporary files can be made ({reason}); set TMPDIR to another folder") from error
    yield from _work_folder(*made)


def remove_all() -> None:
    """Remove all folders of this process. Called when the process is about to end."""
    for root in list(_alive):
        shutil.rmtree(root, ignore_errors=True)


def _made(parent: Path, prefix: str) -> tuple[Path, FileLock]:
    """A new folder and its lock. Before the lock is taken, another process may mistake the folder for that of a dead
    process and remove it; then another one is made. Raises OSError if that happens too often."""
    _sweep(parent, prefix)
    for _ in range(_ATTEMPTS):
        root = parent / f"{prefix}{secrets.token_hex(6)}"
        lock = FileLock(root / _LOCK)
        _alive.add(root)  # before the folder is made, because a signal may come at any time
        try:
            root.mkdir(mode=0o700)
            with suppress(Timeout, FileNotFoundError):
                lock.acquire(timeout=0)
                if (root / _LOCK).exists():
                    return root, lock
                lock.release()
        except BaseException:
            shutil.rmtree(root, ignore_errors=True)
            _alive.discard(root)
            raise
        _alive.discard(root)
    raise OSError(f"each new folder in {parent} is removed by another process")


def _work_folder(root: Path, lock: FileLock) -> Iterator[Path]:
    """A sub-folder to work in, without the lock file. The whole folder is removed when the block ends."""
    try:
        room = root / "work"
        room.mkdir()
        yield room
    finally:
        shutil.rmtree(root, ignore_errors=True)
        lock.release()
        _alive.discard(root)


def _sweep(parent: Path, prefix: str) -> None:
    """Remove the folders of dead processes. A folder without a lock file is not ours, or is being made just now: it is
    removed only if it is empty, which does no harm."""
    for root in parent.glob(f"{prefix}*"):
        with suppress(OSError, Timeout):
            if root in _alive or root.is_symlink() or not root.is_dir() or not _mine(root):
                continue
            if not (root / _LOCK).is_file():
                root.rmdir()
                continue
            lock = FileLock(root / _LOCK)
            lock.acquire(timeout=0)
            try:
                shutil.rmtree(root, ignore_errors=True)
            finally:
                lock.release()


def _mine(root: Path) -> bool:
    return not hasattr(os, "getuid") or root.stat().st_uid == os.getuid()
