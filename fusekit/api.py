"""The public functions `optimize`, `equalize`, `export` and `register`. `validate` is in `validation/judge.py`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from fusekit.errors import ExportError, FusekitError, called_as, told_as
from fusekit.extensions import Registered, Registry
from fusekit.files.staged import destination
from fusekit.grafting.meaning import FileReaders
from fusekit.ir.operators import OPERATORS
from fusekit.ir.spellings import Spelling
from fusekit.model import Inputs, plain_modes
from fusekit.model.alone import alone
from fusekit.model.given import model_of, path_of
from fusekit.model.preprocess import Preprocess
from fusekit.model.unwrapped import unwrapped
from fusekit.onnx_export import INTERLEAVED, between_real_ends
from fusekit.onnx_export.write_file import check_opset
from fusekit.optimizing import Export, Options, optimized
from fusekit.optimizing.laws import OTHERS
from fusekit.optimizing.race import BUDGET
from fusekit.rewriting import Progress, Rewrite
from fusekit.runtimes import RUNTIMES
from fusekit.runtimes.protocol import Runtime
from fusekit.validation import Reference, Validation

_EXPORT = "fusekit.export(model, 'model.onnx', (x,))"


@called_as("fusekit.optimize(model, (x,))")
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
    measure: bool | str = True,
    budget: float = BUDGET,
    preprocess: Preprocess | None = None,
) -> nn.Module:
    """A module that computes the same function as `model` in eval mode, with its linear layers folded.

    Args:
        model: any nn.Module. It is not changed.
        example_inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments. Optional. With them,
            shapes and dtypes are known, more can be captured and folded, and the result is compared with the model.
            Without them, the model's `example_input_array` is used if it has one (PyTorch Lightning).
        target: the runtime to optimize for: "torch", "onnxruntime", "openvino", or one that another package registers
            (`fusekit passes` lists them).
        passes: names or instances of the rewrites to use; all by default (`fusekit passes` lists them).
        strict: raise VerificationError where a rewrite fails its check, instead of rolling it back.
        progress: called with (stage, done, total).
        tolerance: bound on the relative error, checked on all probes of `validate`; on the probe of wide dynamic range,
            the small elements of the output are also checked by themselves. By default only the example inputs are
            checked, and the bound is derived from the model's own rounding error.
        measure: time the realizations (layouts, FFT) on the target, if example inputs give the sizes, and time the
            result against the model; what is slower is undone. With False, or with FUSEKIT_MEASURE=0 in the
            environment, nothing is timed: the formulas of `fusekit/rewriting/price.py` decide. They are conservative
            and give the same result every time. With "cached", nothing is timed either, but times that this machine has
            measured before are used: the same cache gives the same result.
        budget: seconds to spend on measurements that this machine has not made before.
        preprocess: what is done to an image before the model sees it. The result takes images as they come, and so do
            the example inputs; the preprocessing is folded into the model where that is exact.

    Returns:
        A module with a `.report`. Its parameters can be trained. Batch and spatial sizes that vary in the model may
        vary in it too.
    """
    started = time.perf_counter()
    model, wrapped = unwrapped(model_of(model, "to optimize"))
    model = _behind(preprocess, model)
    if example_inputs is None and preprocess is None:
        inputs = Inputs.declared(model)
    else:
        inputs = None if example_inputs is None else Inputs.of(example_inputs)
    options = Options.of(target, passes, strict, progress, tolerance, inputs is not None and measure, budget)
    result, pipeline = optimized(model, inputs, options)
    pipeline.notes += [wrapped] if wrapped else []
    if any(getattr(module, "training", False) for module in model.modules()):
        pipeline.notes.append("the model is in training mode; it was optimized as in eval mode (call model.eval())")
    result.report = pipeline.report(time.perf_counter() - started)  # type: ignore[assignment]
    return result


@called_as("fusekit.equalize(model, images)")
@told_as(FusekitError, "equalizing the model")
@alone()
@plain_modes()
def equalize(
    model: nn.Module,
    example_inputs: object,
    *,
    target: str = "onnxruntime",
    passes: Sequence[str | Rewrite] | None = None,
    strict: bool = False,
    progress: Progress | None = None,
    tolerance: float | None = None,
) -> nn.Module:
    """A module that computes the same function as `model` in eval mode, folded, with narrow ranges of channels: what
    to quantize to 8 bits.

    Where act(s x) = s act(x), output channel c of a layer is divided by s_c and input channel c of its readers is
    multiplied by s_c (Nagel et al., ICCV 2019):

        W'_oi = W_oi s_i / s_o,  b'_o = b_o / s_o;   W is [C_out, C_in, *window], b and s_o are [C_out], s_i is [C_in]

    log s_c is the mean of the logarithms of the channel's ranges: of the weights before it, of the activations, and,
    with a minus, of the weights behind it. Outputs of the network keep their scale. Realizations are not used.

    Args:
        model: any nn.Module. It is not changed.
        example_inputs: as for `optimize`, but needed. Ranges of activations are measured on them, so give real images.
        target, passes, strict, progress, tolerance: as for `optimize`. `passes=()` equalizes without folding.

    Returns:
        A module with a `.report`. Write it with `fusekit.export(module, path, x, optimize=False)`.

    Raises:
        FusekitError: `model` is no module, or an argument is wrong.
        VerificationError: with `strict`, if the result does not compute the same.
    """
    started = time.perf_counter()
    model, wrapped = unwrapped(model_of(model, "to equalize"))
    if example_inputs is None:
        raise FusekitError("equalize needs example inputs, such as a batch of real images; got None")
    options = Options.of(target, passes, strict, progress, tolerance, False, BUDGET).equalized
    result, pipeline = optimized(model, Inputs.of(example_inputs), options)
    pipeline.notes += [wrapped] if wrapped else []
    result.report = pipeline.report(time.perf_counter() - started)  # type: ignore[assignment]
    return result


@called_as(_EXPORT)
@told_as(ExportError, "exporting the model")
@alone()
@plain_modes()
def export(
    model: nn.Module,
    path: str | Path,
    example_inputs: object = None,
    *,
    optimize: bool = True,
    equalize: bool = False,
    dynamic: bool = True,
    opset: int | None = None,
    tolerance: float | None = None,
    passes: Sequence[str | Rewrite] | None = None,
    strict: bool = False,
    target: str = "onnxruntime",
    progress: Progress | None = None,
    measure: bool | str = True,
    budget: float = BUDGET,
    io: str = INTERLEAVED,
    preprocess: Preprocess | None = None,
) -> Validation:
    """Optimize for ONNX Runtime, write `path`, run it and compare it with `model` in float64.

    The file is written beside `path` and moved into place only if it passes onnx.checker, shape inference, a run in
    ONNX Runtime and the validation; otherwise an old file stays as it was.

    Args:
        model, example_inputs: as for `optimize`, but there must be inputs: given, or declared by the model.
        optimize: False exports the model as it is.
        equalize: also narrow the ranges of channels, as `equalize` does, for a file that will be quantized. The example
            inputs must then be real ones. `passes=()` equalizes without folding.
        dynamic: let batch and spatial sizes vary where the model allows it; the Validation says which of them do.
        opset: the ONNX opset version; by default the one that torch's exporter chooses.
        tolerance: bound on the relative error; by default derived from the model's own rounding error (`validate`).
        passes, strict, target, progress, measure, budget: as for `optimize`. The file is timed against an export of
            the model as it is.
        io: how the file's inputs and outputs represent a complex tensor of shape [*]. "interleaved": one real tensor
            [*, 2]; "planar": the real channels, then the imaginary ones, [N, 2C, *]; "pair": two tensors, NAME_re and
            NAME_im.
        preprocess: as for `optimize`. The file's input is then called `image`.

    Returns:
        The Validation, with the optimization's `.report`. If it is not `ok`, no file was written.

    Raises:
        ExportError: the file could not be written or did not pass its checks.
    """
    path = path_of(path, f"expected for instance {_EXPORT}")
    model = model_of(model, "to export", scripts=False)
    if dynamic not in (True, False):
        told = "dynamic must be True (all sizes vary that the model allows) or False (none)"
        raise ExportError(f"{told}, got {dynamic!r}; single axes cannot be chosen")
    check_opset(opset)
    destination(path)
    options = Options.of(
        target, passes if optimize else (), strict, progress, tolerance, measure if optimize else False, budget
    )
    if not options.runtime.reads_files:
        raise ExportError(f"{options.runtime.title} does not run ONNX files: choose a target that does")
    if equalize and not optimize:
        raise FusekitError("optimize=False exports the model as it is; to equalize without folding, give passes=()")
    options = options.equalized if equalize else options
    model = unwrapped(model)[0]
    inputs = Inputs.declared(model) if example_inputs is None and preprocess is None else Inputs.of(example_inputs)
    if inputs is None:
        raise FusekitError("export needs example inputs: a tensor, a tuple or a dict; the model declares none")
    model, inputs = between_real_ends(_behind(preprocess, model), inputs, io)
    return Export(Reference(model, inputs), path, options, dynamic, opset).run()


def _behind(preprocess: Preprocess | None, model: nn.Module) -> nn.Module:
    """The model, behind its preprocessing if there is any."""
    if preprocess is None:
        return model
    if not isinstance(preprocess, Preprocess):
        raise FusekitError(
            f"preprocess must be a fusekit.Preprocess, got {type(preprocess).__name__}; "
            "expected for instance fusekit.Preprocess(mean=0.5)"
        )
    return preprocess(model)


def register(extension: Rewrite | Runtime | Spelling | FileReaders, name: str | None = None) -> Registered:
    """Add a pass, a runtime or readers of operators to this process, as an entry point of a package would.

    Args:
        extension: an instance of `fusekit.rewriting.Rewrite`; an object with the attributes of
            `fusekit.runtimes.protocol.Runtime`; a `fusekit.ir.spellings.Spelling`, for operators of torch; or a
            `fusekit.grafting.meaning.FileReaders`, for operators of ONNX files.
        name: its name; by default the `name` that passes and runtimes have.

    Returns:
        A handle. Its `undo()` removes the extension; so does the end of a `with` block over it.

    Raises:
        FusekitError: it is none of these, something is missing in it, or its name is in use.
    """
    registry: Registry[Any] = OPERATORS
    if isinstance(extension, Rewrite):
        registry = OTHERS
    elif not isinstance(extension, Spelling | FileReaders):
        registry = RUNTIMES
        if not hasattr(extension, "reads_files"):
            told = "expected a pass (Rewrite), a runtime, a Spelling or FileReaders"
            raise FusekitError(f"{told}, got {type(extension).__name__}")
    known = name or getattr(extension, "name", None)
    if not isinstance(known, str):
        raise FusekitError("readers of operators have no name of their own: register(readers, name)")
    return registry.register(known, extension)
