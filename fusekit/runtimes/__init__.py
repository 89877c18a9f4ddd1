"""What runs a network: how it is built there, timed, priced, and what was measured of it before.

Knows PyTorch, ONNX Runtime and OpenVINO, a file each. Must not know what is optimized, or why.

A runtime is an object (`protocol.py` says what it answers). Those below are ours; a package brings another by an entry
point in the group `fusekit.runtimes`, whose name is the runtime's and whose value is "module:Class". Their names are
known without importing any of them: the command line asks for them before torch is there.
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
    """All runtimes by name; ours stand first, and nobody else's takes the name of one of them."""
    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    ours = {name: EntryPoint(name, value, GROUP) for name, value in _OURS.items()}
    return {**others, **ours} if not others else {**ours, **{k: v for k, v in others.items() if k not in ours}}


def known() -> tuple[str, ...]:
    """The names that `target` can have."""
    return tuple(_entries())


def runtime(name: str) -> Runtime:
    """The runtime of this name, ready to run. FusekitError if there is none, if it cannot be loaded, or if what it
    stands on is not installed."""
    if name not in _entries():
        raise FusekitError(f"target must be one of {', '.join(known())}, got {name!r}")
    found = _loaded(name)
    if missing := found.missing():
        raise FusekitError(missing)
    return found


def runtimes() -> list[Runtime]:
    """All that can be loaded, installed or not; of one that cannot a warning tells."""
    found = []
    for name in known():
        try:
            found.append(_loaded(name))
        except FusekitError as error:
            warnings.warn(f"fusekit: {error}", stacklevel=2)
    return found


def available() -> list[Runtime]:
    """Those that are ready to run."""
    return [each for each in runtimes() if not each.missing()]


@cache
def _loaded(name: str) -> Runtime:
    entry = _entries()[name]
    try:
        made: Runtime = getattr(import_module(entry.module), entry.attr)()
    except Exception as error:  # another package's: whatever it raises must not take ours along
        reason = f"{type(error).__name__}: {error}"
        raise FusekitError(f"the runtime {name!r} ({entry.value}) cannot be loaded: {reason}") from error
    return made
