"""One thread at a time traces, exports and measures.

torch's tracers keep what they are at in variables of the process: whether a trace runs, which functions it has wrapped,
which dispatch mode is the innermost. Two traces at once mix theirs up, and leave them so. Whoever traces holds this
lock, and whoever optimizes, exports or validates holds it from end to end: their parts trace again and again, each is
the interpreter's own work, of which no two threads do more than one, and what is timed is timed undisturbed by others
that optimize. It is re-entrant, and nothing is waited for while it is held but the machine, so that nobody who waits
for it holds what its holder needs. A callback (`progress`) is called within: it must not wait for another thread that
optimizes.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()


@contextmanager
def alone() -> Iterator[None]:
    """Within: no other thread is within. Also a decorator."""
    with _LOCK:
        yield
