"""The errors that fusekit raises, one class for each kind. `FusekitError` is the base class of all of them."""

from collections.abc import Iterator
from contextlib import contextmanager


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
