"""What can go wrong, one class each. A caller who catches `FusekitError` catches them all and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager


class FusekitError(Exception):
    """Every error fusekit raises on purpose. The message names what was expected and what came."""


class CaptureError(FusekitError):
    """The model could not be turned into a graph: neither whole nor sub-module by sub-module."""


class Inapplicable(FusekitError):
    """A law does not hold here. The only way a law says no; the driver turns it into a refusal with this reason."""


class VerificationError(FusekitError):
    """A rewrite changed the function beyond its tolerance (raised only with `strict=True`; else it is rolled back)."""


class ExportError(FusekitError):
    """A file could not be written, or did not pass its checks; nothing was left behind."""


class CheckpointError(FusekitError):
    """The source could not be loaded: missing, damaged, of another kind, or with other keys or shapes."""


_REASON_LENGTH = 300


def reason_of(error: BaseException) -> str:
    """The first line of an error that says something, with its kind, short enough for a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= _REASON_LENGTH else text[: _REASON_LENGTH - 3] + "..."


@contextmanager
def told_as(kind: type[FusekitError], doing: str) -> Iterator[None]:
    """Within: what torch, ONNX or the model itself raises becomes an error of this kind, in one sentence, and is its
    cause. Also a decorator."""
    try:
        yield
    except FusekitError:
        raise
    except RecursionError as error:
        raise kind(f"{doing} went beyond Python's recursion limit: raise it with sys.setrecursionlimit") from error
    except Exception as error:
        raise kind(f"{doing} failed: {reason_of(error)}") from error
