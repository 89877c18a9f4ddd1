"""The errors that fusekit raises, one class for each kind. `FusekitError` is the base class of all of them."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class FusekitError(Exception):
    """Base class of the errors that fusekit raises on purpose. A message says what was expected and what was found."""


class CaptureError(FusekitError):
    """The model could not be turned into a graph, neither as a whole nor one sub-module at a time."""


class Inapplicable(FusekitError):
    """A law does not hold here. A pass raises this to say no; the driver reports a refusal with this reason."""


class VerificationError(FusekitError):
    """A rewrite changed the function by more than its tolerance. Raised only with `strict=True`; by default the
    rewrite is rolled back instead."""


class ExportError(FusekitError):
    """A file could not be written, or did not pass its checks. No partial file is left on disk."""


class CheckpointError(FusekitError):
    """A checkpoint could not be loaded: it is missing, damaged, of an unknown kind, or its keys or shapes do not fit
    the model."""


def closest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: "; did you mean 'fold-affine'?", or "" if nothing is like it. Upper
    case, and `_` for `-`, make no difference."""
    plain = {name.lower().replace("_", "-"): name for name in known}
    found = get_close_matches(word.lower().replace("_", "-"), plain, n=1)
    return f"; did you mean {plain[found[0]]!r}?" if found else ""


def called_as(example: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for a public function: a call with missing or unknown arguments raises a FusekitError that shows an
    `example` of a call, in place of Python's TypeError."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                unknown = next((name for name in kwargs if name not in signature.parameters), "")
                hint = f"; expected for instance {example}"
                if unknown:
                    hint = closest(unknown, signature.parameters)
                    hint = hint or f"; its arguments are {', '.join(signature.parameters)}"
                raise FusekitError(f"{function.__name__}() {error}{hint}") from error
            return function(*args, **kwargs)

        return called

    return decorate


_REASON_LENGTH = 300


def reason_of(error: BaseException) -> str:
    """The class of an error and the first non-empty line of its text, cut to at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= _REASON_LENGTH else text[: _REASON_LENGTH - 3] + "..."


@contextmanager
def told_as(kind: type[FusekitError], doing: str) -> Iterator[None]:
    """A context manager, or a decorator, that converts exceptions of torch, ONNX or the model to an error of this kind.

    Args:
        kind: the class of the error to raise. The original exception becomes its cause.
        doing: what was being done, as the subject of the sentence "... failed: REASON".

    A FusekitError passes through unchanged.
    """
    try:
        yield
    except FusekitError:
        raise
    except RecursionError as error:
        raise kind(f"{doing} went beyond Python's recursion limit: raise it with sys.setrecursionlimit") from error
    except Exception as error:
        raise kind(f"{doing} failed: {reason_of(error)}") from error
