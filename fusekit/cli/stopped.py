"""Cleans up when a signal stops a command, for example because the terminal closes or a time limit is reached."""

import signal
from types import FrameType

from fusekit.files import remove_all


class Stopped(BaseException):
    """Raised in the main thread when a signal to stop arrives. Like KeyboardInterrupt it is not an `Exception`, so that
    code which catches all exceptions does not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.told = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
        self.code = 128 + number


def stop_cleanly() -> None:
    """Install handlers for SIGTERM, SIGHUP and SIGINT that remove this process's temporary files, then raise `Stopped`.
    A signal that is ignored already, as under `nohup`, stays ignored. (While Typer reads the arguments, it makes of
    Python's own KeyboardInterrupt an exit without a word.)"""
    for name in ("SIGTERM", "SIGHUP", "SIGINT"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)


def reason(problem: BaseException) -> BaseException:
    """Why a command ended with `problem`: the signal, if one came. A library may have swallowed its exception; what
    fails then is that the temporary folders are gone."""
    return _arrived[0] if _arrived else problem


_arrived: list[Stopped] = []


def _stop(number: int, frame: FrameType | None) -> None:
    remove_all()  # first, because a library may swallow the exception and go on
    _arrived.append(Stopped(number))
    raise _arrived[-1]
