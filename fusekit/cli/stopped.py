"""A command that is told to stop leaves nothing behind: a terminal that closes, a scheduler whose time is up."""

import signal
from types import FrameType

from fusekit.files import remove_all


class Stopped(BaseException):
    """Raised where the main thread is when a signal to stop comes. Like KeyboardInterrupt it is no `Exception`, so that
    nobody on the way takes it for an error of theirs."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name
        self.code = 128 + number


def stop_cleanly() -> None:
    """From now on SIGTERM and SIGHUP remove what this process has begun to write, then raise `Stopped`. A signal that
    is ignored already, as under `nohup`, stays so."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    remove_all()  # at once: what follows may hang in a library that swallows the exception
    raise Stopped(number)
