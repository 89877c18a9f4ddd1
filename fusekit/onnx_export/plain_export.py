"""The file that torch.onnx.export alone writes: what every file of ours is measured against."""

from pathlib import Path

from torch import nn

from fusekit.errors import FusekitError
from fusekit.model import Freedom, Inputs, evaluation_copy
from fusekit.onnx_export.write_file import export_plain
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
    """torch.onnx.export alone; free in what torch.export leaves free, or fixed where that does not translate or
    does not run."""
    ladder: tuple[Freedom, ...] = (True, "batch", False) if dynamic else (False,)
    for freedom in ladder:
        try:
            export_plain(evaluation_copy(model), path, inputs, dynamic=freedom, opset=opset)
            runtime.load(path).run(inputs, inputs.names(model))
            return path
        except FusekitError:
            if freedom == ladder[-1]:
                raise
    raise AssertionError("the ladder ends with a return or a raise")
