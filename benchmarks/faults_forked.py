"""Runs commands of fusekit in forked children, so that the death of one is seen, and measures them.

A child starts with everything imported, which takes most of the time of a short command. It is a process like any
other: its signals, limits and folder are its own.
"""

import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusekit.cli.main import main

RAISED = 70  # the exit code of a child whose work raised an exception
_ADDRESSES = 16 << 30  # bytes that a child may map beyond what it has: the machine must survive it
_STEP = 0.005


@dataclass(frozen=True)
class Ended:
    """How a child ended. `code`: its exit code, or -N for signal N. `late`: it was killed at its time limit. `grown`:
    the most memory it had, beyond what it had when it began, in bytes."""

    code: int
    out: str
    err: str
    seconds: float
    grown: int
    late: bool = False

    @property
    def refused(self) -> bool:
        """Whether it said one line, and exited with code 2."""
        one_line = self.err.startswith("error: ") and self.err.count("\n") == 1
        return self.code == 2 and one_line and not self.out


@dataclass(frozen=True)
class Signal:
    """A signal to send to the child, and after how many seconds."""

    number: int
    after: float


def command(words: Sequence[str], folder: Path, *, limit: float = 60, stop: Signal | None = None) -> Ended:
    """Run `fusekit WORDS` in `folder`."""

    def work() -> None:
        sys.argv = ["fusekit", *words]
        main()

    return forked(work, folder, limit=limit, stop=stop)


def here(words: Sequence[str]) -> None:
    """Run `fusekit WORDS` in this process: what it imports and builds once, the children need not."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGHUP)]
    sys.argv = ["fusekit", *words]
    with contextlib.suppress(SystemExit):
        main()
    for number, handler in before:
        signal.signal(number, handler)


def forked(work: Callable[[], None], folder: Path, *, limit: float = 60, stop: Signal | None = None) -> Ended:
    """Run `work` in a child whose current folder is `folder`. It is killed after `limit` seconds."""
    with tempfile.TemporaryDirectory() as room:
        out, err, before = (Path(room) / name for name in ("out", "err", "before"))
        started = time.perf_counter()
        child = os.fork()
        if child == 0:
            _be_child(work, folder, out, err, before)
        late, usage, status = _awaited(child, started, limit, stop)
        seconds = time.perf_counter() - started
        grown = max(0, usage.ru_maxrss * 1024 - int(before.read_text() or 0)) if before.exists() else 0
        texts = (path.read_text(errors="replace") if path.exists() else "" for path in (out, err))
        return Ended(os.waitstatus_to_exitcode(status), *texts, seconds, grown, late)


def _awaited(
    child: int, started: float, limit: float, stop: Signal | None
) -> tuple[bool, resource.struct_rusage, int]:
    late = False
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return late, usage, status
        passed = time.perf_counter() - started
        if stop is not None and passed >= stop.after:
            os.kill(child, stop.number)
            stop = None
        if passed > limit and not late:
            late = True
            os.kill(child, signal.SIGKILL)
        time.sleep(_STEP)


def _be_child(work: Callable[[], None], folder: Path, out: Path, err: Path, before: Path) -> None:
    """Run the work with its output in files, and end the process."""
    code = RAISED
    try:
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        before.write_text(str(_pages(1) * resource.getpagesize()))
        most = _pages(0) * resource.getpagesize() + _ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        os.chdir(folder)
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else RAISED
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _pages(field: int) -> int:
    """Pages of this process: 0: mapped, 1: in memory."""
    return int(Path("/proc/self/statm").read_text().split()[field])
