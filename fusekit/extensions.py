"""What other packages bring: passes, runtimes and readers of operators. All of it is found and loaded here.

    [project.entry-points."fusekit.passes"]
    fold-twice = "their_package.passes:FoldTwice"

An entry point names what a package brings; it is imported when it is first needed. What is broken is named once, in one
warning of one line, and left out. A script registers the same things without a package (`fusekit.register`).

Knows entry points and names. Must not know what a pass, a runtime or a reader is: whoever owns a registry checks them.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from fusekit.errors import FusekitError, reason_of

__all__ = ["GROUPS", "NO_EXTENSIONS", "Registered", "Registry"]

GROUPS = ("fusekit.passes", "fusekit.runtimes", "fusekit.operators")
NO_EXTENSIONS = "FUSEKIT_EXTENSIONS"  # environment variable; if it is 0, no entry point of another package is loaded

T = TypeVar("T")


@dataclass(frozen=True)
class _Entry:
    """One entry point: its value, "module:attribute", and the package that it belongs to, "name version"."""

    value: str
    package: str


class Registered(AbstractContextManager["Registered"]):
    """Something that was registered in this process. `undo` takes it out again; so does the end of a `with` block."""

    def __init__(self, undo: Callable[[], None]) -> None:
        self._undo: Callable[[], None] | None = undo

    def undo(self) -> None:
        """Take it out again. A second call does nothing."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def __exit__(self, *_: object) -> None:
        self.undo()


class Registry(Generic[T]):
    """The extensions of one group, by name.

    Args:
        group: the group of entry points, such as "fusekit.passes".
        noun: what one of them is called in messages, such as "pass".
        accept: takes the name and the object that the entry point names (an object, or a class), and returns the
            extension, ready to use. Raises an exception that says what is wrong with it.
        taken: the names that only fusekit itself may use.
        release: undoes what `accept` did besides returning.
    """

    def __init__(
        self,
        group: str,
        noun: str,
        accept: Callable[[str, object], T],
        taken: Collection[str] = (),
        release: Callable[[T], None] | None = None,
    ) -> None:
        self.group, self.noun, self.taken = group, noun, taken
        self._accept, self._release = accept, release
        self._lock = threading.RLock()  # an extension may ask for others while it is imported
        self._entries: dict[str, _Entry] | None = None
        self._loaded: dict[str, T] = {}
        self._loading: set[str] = set()
        self._registered: dict[str, T] = {}
        self.broken: dict[str, str] = {}  # one line for each extension that failed
        self.shadowed: list[str] = []  # one line for each whose name is in use

    def names(self) -> tuple[str, ...]:
        """The names of all extensions that are not known to be broken. Nothing is imported."""
        return tuple(name for name in (*self._found(), *self._registered) if name not in self.broken)

    def package(self, name: str) -> str:
        """The package that brings it, "name version"; "this process" if a script registered it."""
        return "this process" if name in self._registered else self._found()[name].package

    def left_out(self) -> list[str]:
        """One line for each extension that is left out, as far as they have been loaded."""
        return [*self.shadowed, *self.broken.values()]

    def get(self, name: str) -> T:
        """The extension of this name. Raises FusekitError, in one line, if it cannot be loaded."""
        with self._lock:
            if name in self._registered:
                return self._registered[name]
            if name in self._loaded:
                return self._loaded[name]
            entry = self._found()[name]
            if name not in self.broken:
                self._loading.add(name)
                try:
                    self._loaded[name] = self._accept(name, _imported(entry.value))
                    return self._loaded[name]
                except (Exception, SystemExit) as error:  # code of another package, which may raise anything
                    self.broken[name] = self._line(name, entry, _told(error))
                finally:
                    self._loading.discard(name)
            raise FusekitError(self.broken[name])

    def all(self) -> dict[str, T]:
        """All extensions by name, loaded. What is broken is left out; the first time, with a warning."""
        with self._lock:
            found: dict[str, T] = {}
            for name in (*self._found(), *self._registered):
                if name in self._loading or (name in self.broken and name not in self._registered):
                    continue
                try:
                    found[name] = self.get(name)
                except FusekitError as error:
                    warnings.warn(f"fusekit: {error}", stacklevel=2)
            return found

    def register(self, name: str, value: object) -> Registered:
        """Add an extension to this process. Raises FusekitError if it is none, or if its name is in use."""
        with self._lock:
            if name in self.taken or name in self.names():
                raise FusekitError(f"there is a {self.noun} of the name {name!r} already: choose another one")
            try:
                made = self._accept(name, value)
            except (Exception, SystemExit) as error:
                raise FusekitError(f"the {self.noun} {name!r} cannot be registered: {_told(error)}") from error
            self._registered[name] = made
            return Registered(lambda: self._take_out(name))

    def leave_out(self, name: str, reason: str) -> None:
        """From now on this extension counts as broken, because it failed when it was used."""
        with self._lock:
            if name in self._registered:
                line = f"the {self.noun} {name!r} of this process is left out: {reason}"
                self._take_out(name)
            else:
                line = self._line(name, self._found()[name], reason)
                if name in self._loaded and self._release is not None:
                    self._release(self._loaded[name])
                self._loaded.pop(name, None)
            self.broken[name] = line
        warnings.warn(f"fusekit: {line}", stacklevel=2)

    def forget(self) -> None:
        """Look for entry points again at the next question. What scripts registered stays."""
        with self._lock:
            for value in self._loaded.values():
                if self._release is not None:
                    self._release(value)
            self._loaded.clear()
            self.broken.clear()
            self.shadowed.clear()
            self._entries = None

    def _found(self) -> dict[str, _Entry]:
        with self._lock:
            if self._entries is None:
                self._entries = {}
                for name, entry in self._discovered():
                    other = "fusekit" if name in self.taken else getattr(self._entries.get(name), "package", "")
                    if other:
                        line = self._line(name, entry, f"{other} has a {self.noun} of this name")
                        self.shadowed.append(line)
                        warnings.warn(f"fusekit: {line}", stacklevel=2)
                    else:
                        self._entries[name] = entry
            return self._entries

    def _discovered(self) -> Iterator[tuple[str, _Entry]]:
        """The entry points of other packages, in an order that does not depend on where they are installed."""
        if os.environ.get(NO_EXTENSIONS, "1") == "0":
            return
        try:
            points = [(str(point.name), _Entry(str(point.value), _package(point))) for point in _points(self.group)]
        except Exception as error:  # metadata of some package that cannot be read
            warnings.warn(f"fusekit: no {self.noun} of other packages is used: {reason_of(error)}", stacklevel=2)
            return
        yield from sorted(points, key=lambda point: (point[0], point[1].package))

    def _line(self, name: str, entry: _Entry, reason: str) -> str:
        return f"the {self.noun} {name!r} of {entry.package} ({entry.value}) is left out: {reason}"

    def _take_out(self, name: str) -> None:
        with self._lock:
            value = self._registered.pop(name, None)
            if value is not None and self._release is not None:
                self._release(value)


def _points(group: str) -> list[EntryPoint]:
    return list(entry_points(group=group))


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown package"


def _imported(value: str) -> object:
    """The object of an entry point's value, "module:attribute.attribute"."""
    module, _, path = value.partition(":")
    found: object = import_module(module.strip())
    for name in filter(None, path.strip().split(".")):
        found = getattr(found, name)
    return found


def _told(error: BaseException) -> str:
    """What went wrong, in one line: fusekit's own words as they are, others with their class."""
    own = isinstance(error, FusekitError)
    return " ".join(str(error).split()) if own and str(error) else reason_of(error)
