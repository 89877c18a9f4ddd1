"""fusekit: an exact algebraic optimizer for convolutional networks.

    fast = fusekit.optimize(model)                              an nn.Module that computes the same, faster
    even = fusekit.equalize(model, images)                      the same function, ready to be quantized to int8
    result = fusekit.export(model, "model.onnx", (x,))          the same as ONNX, run and compared
    fusekit.validate(model, "model.onnx", (x,))                 compared again
    result = fusekit.optimize_onnx("model.onnx", "small.onnx")  a file of anybody's, folded, run and compared
    fusekit.validate_on_data(model, "model.onnx", "images")     on every sample of a data set
    fusekit.diff(model, "model.onnx")                           the operators and weights that differ
    fusekit.bisect(model, "model.onnx", (x,))                   the first operator after which results differ
    fusekit.batch("models.csv", "out")                          many of them, by many processes

The names below are looked up when first used: `fusekit --help` should not wait seconds for torch.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fusekit.version import __version__

# A clone without symlinks has no fusekit/passes; the laws then stand beside this package.
_here = Path(__file__).resolve().parent
if not (_here / "passes").is_dir() and (_here.parent / "passes").is_dir():
    __path__.append(str(_here.parent))

# No data leaves the machine. ONNX Runtime looks for this when it is imported, and begins a session of its telemetry if
# it is missing; a later `disable_telemetry_events` does not end it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from fusekit.api import equalize, export, optimize, register
    from fusekit.batching.batch import Batch, batch
    from fusekit.checkpoint.load import load
    from fusekit.comparing import Difference, Parting
    from fusekit.comparing.bisect import bisect
    from fusekit.comparing.diff import diff
    from fusekit.errors import (
        CaptureError,
        CheckpointError,
        ExportError,
        FusekitError,
        Inapplicable,
        VerificationError,
    )
    from fusekit.grafting.optimize_file import optimize_onnx
    from fusekit.model.preprocess import Preprocess
    from fusekit.on_data import OnData
    from fusekit.on_data.validate import validate_on_data
    from fusekit.report import Event, Outcome, Report
    from fusekit.validation import Validation, validate

__all__ = [
    "Batch",
    "CaptureError",
    "CheckpointError",
    "Difference",
    "Event",
    "ExportError",
    "FusekitError",
    "Inapplicable",
    "OnData",
    "Outcome",
    "Parting",
    "Preprocess",
    "Report",
    "Validation",
    "VerificationError",
    "__version__",
    "batch",
    "bisect",
    "diff",
    "equalize",
    "export",
    "load",
    "optimize",
    "optimize_onnx",
    "register",
    "validate",
    "validate_on_data",
]

_HOMES = {
    "api": ("equalize", "export", "optimize", "register"),
    "batching.batch": ("Batch", "batch"),
    "checkpoint.load": ("load",),
    "comparing": ("Difference", "Parting"),
    "comparing.bisect": ("bisect",),
    "comparing.diff": ("diff",),
    "errors": ("CaptureError", "CheckpointError", "ExportError", "FusekitError", "Inapplicable", "VerificationError"),
    "grafting.optimize_file": ("optimize_onnx",),
    "model.preprocess": ("Preprocess",),
    "on_data": ("OnData",),
    "on_data.validate": ("validate_on_data",),
    "report": ("Event", "Outcome", "Report"),
    "validation.judge": ("validate",),
    "validation.verdict": ("Validation",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'fusekit' has no attribute {name!r}")
    value = getattr(import_module(f"fusekit.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
