"""The file that torch.onnx.export alone writes. Our files are timed against it."""

from pathlib import Path

from torch import nn

from fusekit.errors import FusekitError
from fusekit.model import Freedom, Inputs
from fusekit.onnx_export.write_file import Untranslatable, export_plain
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.runtimes.protocol import Runtime


def plain_export(
    model: nn.Module,
    path: Path,
    inputs: Inputs,
    *,
    dynamic: bool = True,
    opset: int | None = None,
    runtime: Runtime = ONNX_RUNTIME,
) -> Path:
    """Write the model with torch.onnx.export alone and return `path`.

    With `dynamic`, the sizes that torch.export leaves free are free. If that cannot be translated or does not run, only
    the batch is free; if that fails too, all sizes are fixed. Raises FusekitError if no attempt works.
    """
    ladder: tuple[Freedom, ...] = (True, "batch", False) if dynamic else (False,)
    for freedom in ladder:
        try:
            export_plain(model, path, inputs, dynamic=freedom, opset=opset)
            runtime.load(path).run(inputs, inputs.names(model))
            return path
        except FusekitError as error:
            if freedom == ladder[-1] or isinstance(error, Untranslatable):
                raise
    raise AssertionError("the ladder ends with a return or a raise")
