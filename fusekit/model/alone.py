"""A lock for the whole process: only one thread at a time traces, exports or measures.

torch's tracers keep their state in global variables: whether a trace is running, which functions are wrapped, which
dispatch mode is the innermost. Two traces at the same time would mix up this state and leave it broken. So every trace
holds this lock, and `optimize`, `export` and `validate` hold it from beginning to end. That costs little: their work is
almost all Python, which two threads cannot run faster than one, and a timing is not disturbed by another optimization.

The lock is re-entrant. While fusekit holds it, it waits for no other lock or thread, so no deadlock can arise. The one
exception is a callback (`progress`): it is called with the lock held, so it must not wait for another thread that
optimizes.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock: no other thread runs such a block meanwhile. A context manager, or a decorator."""
    with _LOCK:
        yield
