"""A function that does something else for the threads that ask for it, and what it did for all others.

Functions of a module, methods of a class and entries of a table belong to the process. In the place of one of them
stands, while any thread has it changed,

    either(*args) = changed(*args)  in a thread that asked for it
                    plain(*args)    in every other

put in by the first such thread and taken out by the last, whatever ends it. Where somebody else has put something in
that place meanwhile, it is left to them: what they put back is then `either`, in which no thread is named any more.
"""

import builtins
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import get_ident
from typing import Any

Function = Callable[..., Any]

_TABLES = threading.RLock()  # held for a moment, while a function is put in or taken out; never while one runs


class PerThread:
    """One function of the process: `owner.name`, or `owner[name]` where the owner is a dict."""

    def __init__(self, owner: Any, name: Any) -> None:
        self._owner, self.name = owner, name
        self._threads: dict[int, list[Function]] = {}  # by thread, what it does there: the innermost use last
        self._plain: Any = None
        self._either: Any = None
        self._had_its_own = True

    @contextmanager
    def changed(self, make: Callable[[Function], Function]) -> Iterator[None]:
        """Within, in this thread: `make(plain)`, where `plain` is what the function did here before."""
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
        self._had_its_own = self.name in (self._owner if isinstance(self._owner, dict) else vars(self._owner))
        threads = self._threads

        @wraps(plain)
        def either(*args: Any, **kwargs: Any) -> Any:
            here = threads.get(get_ident())
            return (here[-1] if here else plain)(*args, **kwargs)

        self._either = either
        self._set(either)

    def _take_out(self) -> None:
        if self._either is None or self._current() is not self._either:
            return
        if self._had_its_own:
            self._set(self._plain)
        elif isinstance(self._owner, dict):
            del self._owner[self.name]
        else:
            delattr(self._owner, self.name)

    def _current(self) -> Any:
        if isinstance(self._owner, dict):  # a module's own variables may leave a name to the builtins
            return self._owner.get(self.name, getattr(builtins, str(self.name), None))
        return getattr(self._owner, self.name)

    def _set(self, function: Any) -> None:
        if isinstance(self._owner, dict):
            self._owner[self.name] = function
        else:
            setattr(self._owner, self.name, function)
