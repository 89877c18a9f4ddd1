"""Writes a module as a verified ONNX file. If a check fails, it writes no file.

    trace -> translate -> tidy -> write beside the target -> check -> run -> compare with the original -> move in place

Everything happens in a temporary folder beside the target, and the last step is a rename. So a reader of the target
sees the old file, or the new one complete and verified, but never a part of it. If an attempt fails, it is repeated
without the exporter's own optimizations, then with fixed sizes. The `Validation` says which sizes are free in the end.
"""

import importlib.metadata
import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, OutputKind
from torch.onnx._internal.exporter._errors import DispatchError
from torch.utils import _pytree as pytree

from fusekit.errors import CaptureError, ExportError, FusekitError, reason_of, told_as
from fusekit.files import beside, place
from fusekit.model import Freedom, Inputs, export_program, quiet
from fusekit.model.alone import alone
from fusekit.model.large import bytes_of, free_copies, is_large
from fusekit.model.patches import free_steps, operators_read_once, traced_here
from fusekit.model.spilled import spill
from fusekit.model.torch_notes import copy_notes, note_value, user_inputs, value_at
from fusekit.onnx_export.chunks import chunks_as_slices
from fusekit.onnx_export.names import tidy
from fusekit.onnx_export.streamed import write_streamed
from fusekit.onnx_export.translations import OPERATORS
from fusekit.runtimes.file import RunnableFile
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.runtimes.protocol import Runtime
from fusekit.validation import Reference, Validation, outputs_of
from fusekit.validation.judge import judge
from fusekit.validation.probes import GIVEN, QUIET, WIDE_RANGE
from fusekit.validation.verdict import ProbeResult

# Protocol buffers are limited to 2 GiB. Above this size, the weights are stored in a second file beside the model.
EXTERNAL_DATA_FROM = 1_800_000_000


OLDEST = 18  # the operator set that torch's exporter translates to

_COMMON = (torch.float32, torch.complex64, torch.bool, torch.int64)


def export_onnx(
    reference: Reference,
    optimized: nn.Module,
    path: str | Path,
    *,
    dynamic: bool = True,
    opset: int | None = None,
    tolerance: float | None = None,
    rewrites: Sequence[tuple[str, str]] = (),
    runtime: Runtime = ONNX_RUNTIME,
) -> Validation:
    """Write `optimized` to `path`, traced on the inputs of `reference` and verified against it.

    `rewrites` (name, where) are recorded in the file; `runtime` runs it.

    If the file is well-formed but computes something else, no file is moved into place and the `Validation` says so
    (`ok` False). Raises `CaptureError` if the module cannot be traced, `ExportError` if no well-formed file comes out.
    Whenever there is no new file, an old one is untouched.
    """
    if any(tensor.dtype is torch.bfloat16 for tensor in reference.inputs.tensors()):
        raise ExportError(f"{runtime.title} takes no bfloat16 inputs on the CPU: export model.float() on float inputs")
    check_opset(opset)
    metadata = {
        "fusekit_version": _version(),
        "fusekit_rewrites": json.dumps([{"rewrite": name, "where": where} for name, where in rewrites]),
    }
    with beside(path) as stage:
        verdict = _Exporter(reference, optimized, stage, opset, tolerance, metadata, runtime).run(dynamic)
        if verdict.ok:
            place(stage, path)
        return verdict


def export_plain(
    module: nn.Module, path: Path, example_inputs: object, *, dynamic: Freedom = False, opset: int | None = None
) -> Path:
    """Write a module as it is, without any check, and return the path. The file is for timing, not for users.

    Raises `ExportError` or `CaptureError` if torch's exporter fails."""
    program = export_program(module, Inputs.of(example_inputs), dynamic=dynamic)
    _take_reals(program)
    chunks_as_slices(program)
    _write(_translate(program, opset, True), path)
    del program
    free_copies(bytes_of(module))
    return path


def check_opset(opset: int | None) -> None:
    """Raises ExportError for an operator set that torch's exporter cannot write. It translates to `OLDEST`, and from
    there onnx converts to newer sets, not to older ones."""
    newest = onnx.defs.onnx_opset_version()
    if opset is not None and not (isinstance(opset, int) and OLDEST <= opset <= newest):
        raise ExportError(
            f"opset must be a number from {OLDEST} to {newest}, got {opset!r}; torch's exporter writes no other"
        )


class Untranslatable(ExportError):
    """torch.onnx has no translation of an operator. Other sizes or options do not help."""


@dataclass(frozen=True)
class _Exporter:
    """The export of one model to one file, in one or more attempts."""

    reference: Reference
    optimized: nn.Module
    path: Path
    opset: int | None
    tolerance: float | None
    metadata: dict[str, str]
    runtime: Runtime

    def run(self, dynamic: bool) -> Validation:
        """Try with all sizes free, then only the batch, then none. Returns the first verdict that is ok, or the last
        one.

        If the result on the given inputs is wrong, the sizes are not the reason, so no further attempt is made.
        """
        ladder: tuple[Freedom, ...] = (True, "batch", False) if dynamic else (False,)
        trouble = ""
        for freedom in ladder:
            try:
                verdict = self._written_and_judged(freedom)
            except (CaptureError, ExportError) as error:
                if freedom == ladder[-1] or isinstance(error, Untranslatable):
                    raise
                trouble = trouble or str(error)
                continue
            if verdict.ok or not _only_sizes_failed(verdict) or freedom == ladder[-1]:
                break
            trouble = trouble or verdict.failures[0]
        if trouble:
            note = ProbeResult("all sizes free", skipped=f"the file with free sizes failed ({trouble})")
            return replace(verdict, probes=(*verdict.probes, note))
        return verdict

    def _written_and_judged(self, freedom: Freedom) -> Validation:
        """Write and judge a file with the exporter's own optimizations; if it fails, one without them."""
        program = export_program(self.optimized, self.reference.inputs, dynamic=freedom)
        try:
            verdict = self._attempt(program, optimize=True)
        except Untranslatable:
            raise
        except ExportError:
            return self._attempt(program, optimize=False)
        hopeless = _only_sizes_failed(verdict) or [p.name for p in verdict.probes if not p.ok] == [QUIET]
        return verdict if verdict.ok or hopeless else self._attempt(program, optimize=False)

    def _attempt(self, program: ExportedProgram, *, optimize: bool) -> Validation:
        outputs = _output_names(program)
        _take_reals(program)
        chunks_as_slices(program)
        model = _translate(program, self.opset, optimize)
        shapes = {name: tuple(weight.shape) for name, weight in program.state_dict.items()}
        with told_as(ExportError, "tidying the exporter's program"):
            tidy(model, shapes, outputs, self.metadata)
        _write(model, self.path)
        spill(_weights(self.optimized, program), self.path.parent)
        inputs = self.reference.inputs
        try:
            file = _checked(self.path, inputs, inputs.names(self.optimized), self.runtime)
        except ExportError as error:
            raise ExportError(f"{error}{_advice(self.optimized, inputs)}") from error
        return judge(self.reference, file, self.tolerance)


def _translate(program: ExportedProgram, opset: int | None, optimize: bool) -> ir.Model:
    try:
        # with gradients enabled, torch would split a scan into its result and what it saves for the backward pass
        with alone(), torch.no_grad(), quiet(), traced_here(), free_steps(), operators_read_once():
            translated = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                optimize=optimize,
                opset_version=opset,
                custom_translation_table=OPERATORS,
            )
    except Exception as error:
        root = _root(error)
        kind = Untranslatable if isinstance(root, DispatchError) else ExportError
        raise kind(f"torch.onnx could not translate the program: {reason_of(root)}") from error
    if translated is None:
        raise ExportError("torch.onnx returned no program")
    model = translated.model
    if opset is not None and model.opset_imports.get("") != opset:
        raise ExportError(f"torch.onnx cannot write opset {opset}, it wrote {model.opset_imports.get('')}")
    return model


def _take_reals(program: ExportedProgram) -> None:
    """Replace complex inputs [*] of the program by real ones [*, 2]. The exporter would do this anyway, but it cannot
    translate the sizes of a complex input."""
    for node in user_inputs(program):
        value = value_at(node)
        if not isinstance(value, Tensor) or not value.is_complex():
            continue
        with program.graph.inserting_after(node):
            joined = program.graph.call_function(torch.ops.aten.view_as_complex.default, (node,))
        node.replace_all_uses_with(joined, delete_user_cb=partial(operator.is_not, joined))
        copy_notes(node, joined)
        note_value(node, torch.view_as_real(value.resolve_conj()))
    program.graph_module.recompile()


def _output_names(program: ExportedProgram) -> list[str]:
    """The names that the validation gives to the outputs of the module, in flattened order; None is left out.

    An ONNX output is a tensor. A symbol becomes a tensor. The exporter cannot translate a constant, and its message
    does not say why, so this raises `ExportError` for one.
    """
    spec = program.call_spec.out_spec
    if spec is None:
        return []
    names = [name for name, _ in outputs_of(pytree.tree_unflatten(range(spec.num_leaves), spec))]
    kinds = [output.arg for output in program.graph_signature.output_specs if output.kind == OutputKind.USER_OUTPUT]
    for name, arg in zip(names, kinds, strict=True):
        if isinstance(arg, ConstantArgument) and arg.value is not None:
            raise ExportError(f"{name} is the constant {arg.value!r}, not a tensor: ONNX cannot return it")
    return [name for name, arg in zip(names, kinds, strict=True) if not isinstance(arg, ConstantArgument)]


def _weights(module: nn.Module, program: ExportedProgram) -> list[Tensor]:
    """Those of the module, and the program's own names for them."""
    named = (*program.state_dict.values(), *program.constants.values())
    return [*module.parameters(), *module.buffers(), *(value for value in named if isinstance(value, Tensor))]


def _root(error: BaseException) -> BaseException:
    """The first cause. The exporter wraps it in errors with general advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _write(model: ir.Model, path: Path) -> None:
    """Write one file; above the size limit of the format two, with the weights in `NAME.data` beside it.

    The model loses its weights: the rules of the exporter's optimizer remember the last graph that they have seen, and
    would keep them in memory until the next export."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    try:
        if size > EXTERNAL_DATA_FROM:
            ir.save(model, path, external_data=f"{path.name}.data")
        elif is_large(size):
            write_streamed(model, path)
        else:
            ir.save(model, path)
    except OSError:
        raise
    except Exception as error:
        raise ExportError(f"the ONNX file could not be written: {reason_of(error)}") from error
    for value in model.graph.initializers.values():
        value.const_value = None


def _checked(path: Path, inputs: Inputs, names: Sequence[str], runtime: Runtime) -> RunnableFile:
    """The file, loaded. Raises `ExportError` if ONNX's own checker and strict shape inference refuse it, or if it
    cannot be loaded and run."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        raise ExportError(f"the ONNX checker refuses the file: {reason_of(error)}") from error
    try:
        file = runtime.load(path)
        file.run(inputs, names)
    except FusekitError as error:
        raise ExportError(str(error)) from error
    return file


def _advice(module: nn.Module, inputs: Inputs) -> str:
    """Advice for the message if the model has a dtype that runtimes have few kernels for; otherwise empty."""
    tensors = (*inputs.tensors(), *module.parameters(), *module.buffers())
    rare = (t.dtype for t in tensors if t.dtype not in _COMMON)
    names = ", ".join(dict.fromkeys(str(dtype).removeprefix("torch.") for dtype in rare))
    return f"; runtimes have few kernels for {names}: export model.float() on float inputs" if names else ""


def _only_sizes_failed(verdict: Validation) -> bool:
    """True if the probes with the given inputs, the wide range and its quiet region pass, and only other sizes fail."""
    return all(probe.ok for probe in verdict.probes if probe.name in (GIVEN, WIDE_RANGE, QUIET))


def _version() -> str:
    try:
        return importlib.metadata.version("fusekit-fx")
    except importlib.metadata.PackageNotFoundError:  # a checkout that was never installed
        return "unknown"
