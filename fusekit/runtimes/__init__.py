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
from typing import TYPE_CHECKING

from fusekit.errors import FusekitError, closest
from fusekit.extensions import Registry

if TYPE_CHECKING:
    from fusekit.runtimes.protocol import Runtime

__all__ = ["RUNTIMES", "available", "known", "runtime", "runtimes"]

_OURS = {
    "torch": "fusekit.runtimes.pytorch:PyTorch",
    "onnxruntime": "fusekit.runtimes.onnx_runtime:OnnxRuntime",
    "openvino": "fusekit.runtimes.open_vino:OpenVino",
}


def _accepted(name: str, value: object) -> Runtime:
    found: Runtime = import_module("fusekit.runtimes.accepted").accepted(name, value)  # it imports torch
    return found


RUNTIMES: Registry[Runtime] = Registry("fusekit.runtimes", "runtime", _accepted, taken=_OURS)  # of other packages


def known() -> tuple[str, ...]:
    """The names that `target` can have."""
    return (*_OURS, *RUNTIMES.names())


def runtime(name: str) -> Runtime:
    """The runtime of this `name`, ready to run. Raises FusekitError if there is none, if it cannot be loaded, or if a
    package that it needs is not installed."""
    if name not in (*known(), *RUNTIMES.broken):
        raise FusekitError(f"target must be one of {', '.join(known())}, got {name!r}{closest(str(name), known())}")
    found = _own(name) if name in _OURS else RUNTIMES.get(name)
    if missing := found.missing():
        raise FusekitError(missing)
    return found


def runtimes() -> list[Runtime]:
    """All runtimes whose class can be loaded, even if a package they need is not installed. A runtime that cannot be
    loaded gives a warning."""
    found = []
    for name in _OURS:
        try:
            found.append(_own(name))
        except FusekitError as error:
            warnings.warn(f"fusekit: {error}", stacklevel=2)
    return [*found, *RUNTIMES.all().values()]


def available() -> list[Runtime]:
    """The runtimes that are ready to run."""
    return [each for each in runtimes() if not each.missing()]


@cache
def _own(name: str) -> Runtime:
    """One of fusekit's own runtimes."""
    module, _, attribute = _OURS[name].partition(":")
    try:
        made: Runtime = getattr(import_module(module), attribute)()
    except Exception as error:  # the package of the runtime, which may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise FusekitError(f"the runtime {name!r} ({_OURS[name]}) cannot be loaded: {reason}") from error
    return made
