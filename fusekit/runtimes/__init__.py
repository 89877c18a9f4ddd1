"""The runtimes that run a network: how to load it there, time it and price it, and a cache of earlier measurements.

Knows PyTorch, ONNX Runtime and OpenVINO, one file each. Must not know what is optimized, or why.

A runtime is an object with the attributes and methods of `protocol.py`. Another package adds one by an entry point in
the group `fusekit.runtimes`: its name is the runtime's name, its value is "module:Class". The names are known without
importing the runtimes, because the command line needs them before it imports torch.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from fusekit.errors import FusekitError

if TYPE_CHECKING:
    from fusekit.runtimes.protocol import Runtime

__all__ = ["GROUP", "available", "known", "runtime", "runtimes"]

GROUP = "fusekit.runtimes"
_OURS = {
    "torch": "fusekit.runtimes.pytorch:PyTorch",
    "onnxruntime": "fusekit.runtimes.onnx_runtime:OnnxRuntime",
    "openvino": "fusekit.runtimes.open_vino:OpenVino",
}


@cache
def _entries() -> dict[str, EntryPoint]:
    """All runtimes by name, fusekit's own first. An entry point of another package cannot replace one of these."""
    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    ours = {name: EntryPoint(name, value, GROUP) for name, value in _OURS.items()}
    return {**others, **ours} if not others else {**ours, **{k: v for k, v in others.items() if k not in ours}}


def known() -> tuple[str, ...]:
    """The names that `target` can have."""
    return tuple(_entries())


def runtime(name: str) -> Runtime:
    """The runtime of this `name`, ready to run. Raises FusekitError if there is none, if it cannot be loaded, or if a
    package that it needs is not installed."""
    if name not in _entries():
        raise FusekitError(f"target must be one of {', '.join(known())}, got {name!r}")
    found = _loaded(name)
    if missing := found.missing():
        raise FusekitError(missing)
    return found


def runtimes() -> list[Runtime]:
    """All runtimes whose class can be loaded, even if a package they need is not installed. A runtime that cannot be
    loaded gives a warning."""
    found = []
    for name in known():
        try:
            found.append(_loaded(name))
        except FusekitError as error:
            warnings.warn(f"fusekit: {error}", stacklevel=2)
    return found


def available() -> list[Runtime]:
    """The runtimes that are ready to run."""
    return [each for each in runtimes() if not each.missing()]


@cache
def _loaded(name: str) -> Runtime:
    entry = _entries()[name]
    try:
        made: Runtime = getattr(import_module(entry.module), entry.attr)()
    except Exception as error:  # code of another package, which may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise FusekitError(f"the runtime {name!r} ({entry.value}) cannot be loaded: {reason}") from error
    return made
