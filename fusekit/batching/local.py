"""Workers that are processes of this machine: one executor of the standard library for each.

A pool of one process tells which item ended it, and takes no other item with it. Each process is a fresh interpreter
(`spawn`), since torch's threads do not survive a fork. It ends with whoever started it, however that ends.
"""

import multiprocessing.util
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from fusekit.batching.job import EndedT, JobT
from fusekit.batching.result import DIED, FAILED
from fusekit.errors import reason_of
from fusekit.files import remove_all

_PATIENCE = 5.0  # seconds for a process to end by itself


def in_processes(tasks: Iterable[JobT], workers: int, tries: int, doing: Callable[[JobT], EndedT]) -> Iterator[EndedT]:
    """The results of the tasks as they end, computed by so many `workers` at once.

    A task whose process dies is begun again in a new one, at most `tries` times in all. `doing`: what is done with a
    task, a function that can be pickled. When the iterator is closed, the processes are ended.
    """
    waiting = deque((task, 1) for task in tasks)
    free = [_Lane() for _ in range(min(workers, len(waiting)))]
    lanes = list(free)
    running: dict[Future[EndedT], tuple[_Lane, JobT, int]] = {}
    try:
        while waiting or running:
            while waiting and free:
                (task, number), lane = waiting.popleft(), free.pop()
                running[lane.begin(doing, task)] = lane, task, number
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                lane, task, number = running.pop(future)
                free.append(lane)
                error = future.exception()
                if error is None:
                    yield future.result().tried(number)
                elif not isinstance(error, BrokenProcessPool):
                    yield task.ended(FAILED, reason_of(error), number)
                else:
                    lane.renew()
                    if number < tries:
                        waiting.append((task, number + 1))
                    else:
                        yield task.ended(DIED, f"its worker died, {number} time{'s' * (number > 1)}", number)
        for lane in lanes:
            lane.dismiss()
    finally:
        for lane in lanes:
            lane.close()
        for lane in lanes:
            lane.join()


@dataclass
class _Lane:
    """One process, started with its first task, and a line to it. When the line is cut, the process ends."""

    _executor: ProcessPoolExecutor | None = None
    _line: Any = None
    _pid: int | None = None

    def begin(self, doing: Callable[[JobT], EndedT], task: JobT) -> Future[EndedT]:
        try:
            return self._started().submit(doing, task)
        except BrokenProcessPool:  # it died while it had nothing to do
            self.renew()
            return self._started().submit(doing, task)

    def _started(self) -> ProcessPoolExecutor:
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._line, end = context.Pipe()
            self._executor = ProcessPoolExecutor(1, context, _begin, (end,))
        return self._executor

    def renew(self) -> None:
        """Leave the process, which has died, to be replaced by another one."""
        self.close()
        self.join()
        self._executor = None

    def dismiss(self) -> None:
        """Let the process, which has nothing to do, end by itself."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None

    def close(self) -> None:
        """Cut the line."""
        if self._executor is not None:
            try:
                self._pid = self._line.recv() if self._line.poll() else None
            except (OSError, EOFError):  # it died before it could tell
                self._pid = None
            self._line.close()

    def join(self) -> None:
        """Wait until the process has ended, and make it end if that takes too long."""
        if self._executor is None:
            return
        last = threading.Timer(_PATIENCE, self._kill)
        last.daemon = True
        last.start()
        self._executor.shutdown(wait=True, cancel_futures=True)
        last.cancel()

    def _kill(self) -> None:
        if self._pid is not None:
            try:
                os.kill(self._pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            except OSError:
                pass


def _begin(line: Connection) -> None:
    """Called first in each process: it ends when its line is cut, and does not answer to the terminal's signals."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: _end(128 + number))
    try:
        line.send(os.getpid())
    except OSError:
        _end(1)
    threading.Thread(target=_watch, args=(line,), daemon=True).start()


def _watch(line: Connection) -> None:
    try:
        line.recv()
    except (EOFError, OSError):
        pass
    _end(1)


def _end(code: int) -> None:
    remove_all()
    # tqdm makes semaphores, and a helper of the standard library complains of those that are not given back.
    getattr(multiprocessing.util, "_run_finalizers", lambda _: None)(0)
    os._exit(code)
