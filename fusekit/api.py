"""What people call: optimize and export (validate stands in `validation/judge.py`)."""

import time
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from fusekit.errors import ExportError, FusekitError, told_as
from fusekit.model import Inputs, plain_modes
from fusekit.model.alone import alone
from fusekit.model.unwrapped import unwrapped
from fusekit.onnx_export import INTERLEAVED, between_real_ends
from fusekit.optimizing import Export, Options, optimized
from fusekit.optimizing.race import BUDGET
from fusekit.rewriting import Progress, Rewrite
from fusekit.validation import Reference, Validation


@told_as(FusekitError, "optimizing the model")
@alone()
@plain_modes()
def optimize(
    model: nn.Module,
    example_inputs: object = None,
    *,
    target: str = "torch",
    passes: Sequence[str | Rewrite] | None = None,
    strict: bool = False,
    progress: Progress | None = None,
    tolerance: float | None = None,
    measure: bool = True,
    budget: float = BUDGET,
) -> nn.Module:
    """A module that computes the same function as `model` in eval mode, with its linear layers folded.

    Args:
        model: any nn.Module; it is not touched.
        example_inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments. Optional: with them,
            shapes and dtypes are known, more can be captured and folded, and the result is compared with the model.
        target: the runtime whose costs count: "torch", "onnxruntime", "openvino", or one that another package brings
            (`fusekit passes` lists them).
        passes: names (`fusekit.passes.PASSES`) or instances of the rewrites to use; all by default.
        strict: raise VerificationError where a rewrite fails its check, instead of rolling it back.
        progress: called with (stage, done, total).
        tolerance: bound on the relative error on all probes of `validate`, the quiet region of a wide range included;
            by default the result is judged on the example inputs, by the model's own error.
        measure: time realizations (layouts, FFT) on the target where example inputs give the sizes, and the result
            against the model; what is slower is undone. False, or FUSEKIT_MEASURE=0 in the environment: the formulas of
            `fusekit/rewriting/price.py` decide alone, conservatively, and always alike.
        budget: seconds for measuring what has not been measured on this machine before.

    Returns:
        A module with `.report`, whose parameters train; batch and spatial sizes as free as the model's.
    """
    started = time.perf_counter()
    if not isinstance(model, nn.Module):
        raise FusekitError(f"expected an nn.Module to optimize, got {type(model).__name__}")
    model, wrapped = unwrapped(model)
    inputs = None if example_inputs is None else Inputs.of(example_inputs)
    options = Options.of(target, passes, strict, progress, tolerance, measure and inputs is not None, budget)
    result, pipeline = optimized(model, inputs, options)
    pipeline.notes += [wrapped] if wrapped else []
    if any(getattr(module, "training", False) for module in model.modules()):
        pipeline.notes.append("the model is in training mode; it was optimized as in eval mode (call model.eval())")
    result.report = pipeline.report(time.perf_counter() - started)  # type: ignore[assignment]
    return result


@told_as(ExportError, "exporting the model")
@alone()
@plain_modes()
def export(
    model: nn.Module,
    path: str | Path,
    example_inputs: object,
    *,
    optimize: bool = True,
    dynamic: bool = True,
    opset: int | None = None,
    tolerance: float | None = None,
    passes: Sequence[str | Rewrite] | None = None,
    strict: bool = False,
    target: str = "onnxruntime",
    progress: Progress | None = None,
    measure: bool = True,
    budget: float = BUDGET,
    io: str = INTERLEAVED,
) -> Validation:
    """Optimize for ONNX Runtime, write `path`, run it and compare it with `model` in float64.

    The file is written beside `path` and moved into place only if it passes onnx.checker, shape inference, a run in
    ONNX Runtime and the validation; otherwise an old file stays as it was.

    Args:
        model, example_inputs: as for `optimize`.
        optimize: False exports the model as it is.
        dynamic: leave batch and spatial sizes free where the model does; the Validation says which.
        opset: of ONNX; by default torch's exporter's own.
        tolerance: bound on the relative error, by default derived from the model's own (`validate`).
        passes, strict, target, progress, measure, budget: as for `optimize`; the file is timed against the model's own
            export.
        io: what stands for a complex tensor [*] at the ends of the file. "interleaved": [*, 2]; "planar": the real
            channels, then the imaginary ones, [N, 2C, *]; "pair": two tensors, NAME_re and NAME_im.

    Returns:
        The Validation, with the optimization's `.report`. If it is not `ok`, no file was written.

    Raises:
        ExportError: the file could not be written or did not pass its checks.
    """
    options = Options.of(target, passes if optimize else (), strict, progress, tolerance, measure and optimize, budget)
    model, inputs = between_real_ends(unwrapped(model)[0], Inputs.of(example_inputs), io)
    return Export(Reference(model, inputs), path, options, dynamic, opset).run()
