"""Folders for work in progress, which somebody removes in any case.

Whoever makes one removes it when done. A process that is asked to stop removes all of its own (`remove_all`). What a
process left that was killed outright is removed by the next one that works in the same place: a folder is locked as
long as its owner lives, and the system gives up the locks of the dead.
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
_LOCK = ".owner"  # in each folder: locked while its owner lives
_ATTEMPTS = 20
_alive: set[Path] = set()


@contextmanager
def owned_folder(parent: Path, prefix: str = f".{PREFIX}") -> Iterator[Path]:
    """A new folder in `parent`, removed at the end whatever happens; those of dead owners there are removed first.

    OSError where no folder can be made."""
    yield from _held(*_made(parent, prefix))


@contextmanager
def scratch() -> Iterator[Path]:
    """The same in the system's place for temporary files. FusekitError where no folder can be made."""
    try:
        made = _made(Path(tempfile.gettempdir()), PREFIX)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FusekitError(f"no temporary files can be made ({reason}); TMPDIR names another place for them") from error
    yield from _held(*made)


def remove_all() -> None:
    """Remove the folders of this process at once: it is about to end."""
    for root in list(_alive):
        shutil.rmtree(root, ignore_errors=True)


def _made(parent: Path, prefix: str) -> tuple[Path, FileLock]:
    """A new folder, and its lock. Between the two another process may take the folder for one of a dead owner and
    remove it: then another one is made."""
    _sweep(parent, prefix)
    for _ in range(_ATTEMPTS):
        root = parent / f"{prefix}{secrets.token_hex(6)}"
        lock = FileLock(root / _LOCK)
        _alive.add(root)  # before it is there: a signal may come at any time
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
    raise OSError(f"no folder in {parent} stays where it was made")


def _held(root: Path, lock: FileLock) -> Iterator[Path]:
    """A folder in it for whatever is to be made, without the lock beside it; removed when the block ends."""
    try:
        room = root / "work"
        room.mkdir()
        yield room
    finally:
        shutil.rmtree(root, ignore_errors=True)
        lock.release()
        _alive.discard(root)


def _sweep(parent: Path, prefix: str) -> None:
    """Remove what dead owners left. Folders without a lock are not ours, or are being made just now: only an empty one
    goes, for it is no loss to anyone."""
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
