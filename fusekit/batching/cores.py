"""Cores that a worker has for itself, so that it may time things on them.

Each core of a machine is a file that is locked by whoever uses the core: the operating system frees it when its holder
dies. Whoever has got its cores runs on no others. This concerns only workers of batches of one user; what else runs on
the machine is not known.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


def usable() -> tuple[int, ...]:
    """The numbers of the cores that this thread may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@contextmanager
def own_cores(count: int, folder: Path | None = None) -> Iterator[tuple[int, ...]]:
    """A context manager: the numbers of `count` cores on which this thread, and those that it starts, run alone; () if
    so many are not free. `folder`: where the locks are."""
    before = usable()
    with ExitStack() as held:
        cores = _held(count, folder or _folder(), before, held)
        try:
            _run_on(cores or before)
            yield cores
        finally:
            _run_on(before)


def _held(count: int, folder: Path, among: tuple[int, ...], held: ExitStack) -> tuple[int, ...]:
    """`count` of these cores, locked until the stack ends; () if so many are not free: then none is locked."""
    found: list[int] = []
    with ExitStack() as tried:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.is_symlink():  # somebody else's doing
                return ()
            for core in among:
                if len(found) == count:
                    break
                lock = FileLock(folder / f"{core}.lock")
                with suppress(Timeout):
                    lock.acquire(timeout=0)
                    tried.callback(lock.release)
                    found.append(core)
        except OSError:  # no locks can be made here, so nothing is known
            return ()
        if len(found) < count:
            return ()
        held.push(tried.pop_all())
    return tuple(found)


def _folder() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"fusekit-cores-{user}"


def _run_on(cores: tuple[int, ...]) -> None:
    if hasattr(os, "sched_setaffinity") and set(cores) != set(usable()):
        with suppress(OSError):  # a sandbox may forbid it
            os.sched_setaffinity(0, cores)
