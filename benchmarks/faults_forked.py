"""Runs commands of fusekit in forked children, so that the death of one is seen, and measures them.

A child starts with everything imported, which takes most of the time of a short command. It is a process like any
other: its signals, limits and folder are its own.
"""

import contextlib
import os
import resource
import signal
import sys
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
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    sys.argv = ["fusekit", *words]
    with contextlib.suppress(SystemExit):
        main()
    for number, handler in before:
        signal.signal(number, handler)


def forked(work: Callable[[], None], folder: Path, *, limit: float = 60, stop: Signal | None = None) -> Ended:
    """Run `work` in a child whose current folder is `folder`. It is killed after `limit` seconds."""
    pipes = [os.pipe() for _ in range(3)]  # what it writes to stdout and stderr, and the memory with which it begins
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        _be_child(work, folder, [write for _, write in pipes])
    for read, write in pipes:
        os.close(write)
        os.set_blocking(read, False)
    texts = [bytearray() for _ in pipes]
    late = False
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        for (read, _), text in zip(pipes, texts, strict=True):
            text += _available(read)
        if ended:
            break
        passed = time.perf_counter() - started
        if stop is not None and passed >= stop.after:
            os.kill(child, stop.number)
            stop = None
        if passed > limit and not late:
            late = True
            os.kill(child, signal.SIGKILL)
        time.sleep(_STEP)
    for read, _ in pipes:
        os.close(read)
    out, err, before = (text.decode(errors="replace") for text in texts)
    grown = max(0, usage.ru_maxrss * 1024 - int(before or 0))
    return Ended(os.waitstatus_to_exitcode(status), out, err, time.perf_counter() - started, grown, late)


def _available(pipe: int) -> bytes:
    found = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(pipe, 1 << 16):
            found += piece
    return found


def _be_child(work: Callable[[], None], folder: Path, pipes: list[int]) -> None:
    """Run the work with its output in pipes, and end the process."""
    code = RAISED
    try:
        out, err, before = pipes
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.write(before, str(_pages(1) * resource.getpagesize()).encode())
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
