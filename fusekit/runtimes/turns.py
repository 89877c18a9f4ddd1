"""Large files that are timed against each other take turns in memory.

A session of a runtime holds the weights of its file. Three of them beside the model would take four times its memory.
"""

from collections.abc import Callable
from functools import partial

from fusekit.runtimes.timing import Call

Load = Callable[[], Call]


class Turns:
    """Calls that load what they run when they are called. Only one of them is loaded at a time, and none after the
    block of the context manager."""

    def __init__(self) -> None:
        self._turn: Load | None = None
        self._call: Call | None = None

    def __enter__(self) -> "Turns":
        return self

    def __exit__(self, *_: object) -> None:
        self._call = self._turn = None

    def call(self, load: Load) -> Call:
        """A call that runs what `load` returns."""
        return partial(self._run, load)

    def _run(self, load: Load) -> object:
        if self._call is None or self._turn is not load:
            self._call = None  # is freed before the next one is loaded
            self._call, self._turn = load(), load
        return self._call()
