"""Patches a function for some threads only; all other threads still get the original.

Functions of a module, methods of a class and entries of a table are global. While any thread has one of them changed,
it is replaced by

    either(*args) = changed(*args)  in a thread that changed it
                    plain(*args)    in every other thread

The first such thread installs `either`, the last one restores the original, also after an exception. If other code has
replaced the function meanwhile, nothing is restored. That code may put `either` back later; this does no harm, because
by then it calls `plain` in every thread.
"""

import builtins
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import get_ident
from typing import Any

Function = Callable[..., Any]

_TABLES = threading.RLock()  # held only while a function is installed or restored, never while one runs


class PerThread:
    """One global function: `owner.name` (also a class method), or `owner[name]` if the owner is a dict."""

    def __init__(self, owner: Any, name: Any) -> None:
        self._owner, self.name = owner, name
        self._threads: dict[int, list[Function]] = {}  # by thread, the changed functions: the innermost use last
        self._plain: Any = None
        self._either: Any = None
        self._stood: Any = None  # the original entry in the owner's own dict; None if the owner only inherits it

    @contextmanager
    def changed(self, make: Callable[[Function], Function]) -> Iterator[None]:
        """A context manager: in this thread the function is `make(plain)`, where `plain` is what it was here before."""
        thread = get_ident()
        depth = len(self._threads.get(thread, ()))
        try:
            with _TABLES:
                if self._current() is not self._either or self._either is None:
                    self._put_in()
                here = self._threads.setdefault(thread, [])
                here.append(make(here[-1] if here else self._plain))
            yield
        finally:
            with _TABLES:
                here = self._threads.get(thread, [])
                del here[depth:]
                if not here:
                    self._threads.pop(thread, None)
                if not self._threads:
                    self._take_out()

    def _put_in(self) -> None:
        self._plain = plain = self._current()
        self._stood = (self._owner if isinstance(self._owner, dict) else vars(self._owner)).get(self.name)
        threads = self._threads

        @wraps(plain)
        def either(*args: Any, **kwargs: Any) -> Any:
            here = threads.get(get_ident())
            return (here[-1] if here else plain)(*args, **kwargs)

        self._either = either
        # a class method is already bound to its class in `plain`
        self._set(staticmethod(either) if isinstance(self._stood, classmethod) else either)

    def _take_out(self) -> None:
        if self._either is None or self._current() is not self._either:
            return
        if self._stood is not None:
            self._set(self._stood)
        elif isinstance(self._owner, dict):
            del self._owner[self.name]
        else:
            delattr(self._owner, self.name)

    def _current(self) -> Any:
        if isinstance(self._owner, dict):  # the globals of a module: a name not in them may be a builtin
            return self._owner.get(self.name, getattr(builtins, str(self.name), None))
        return getattr(self._owner, self.name)

    def _set(self, function: Any) -> None:
        if isinstance(self._owner, dict):
            self._owner[self.name] = function
        else:
            setattr(self._owner, self.name, function)
