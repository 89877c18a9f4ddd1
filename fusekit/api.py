"""The three verbs: optimize, export, validate."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from fusekit.compare import compare, outputs_of
from fusekit.driver import Progress
from fusekit.errors import ExportError, FusekitError, VerificationError
from fusekit.export import export_onnx
from fusekit.float64 import run_float64
from fusekit.inputs import Inputs
from fusekit.passes import CHOOSE, PASSES, STAGES
from fusekit.pipeline import Pipeline, own_copy
from fusekit.program import evaluation_copy, reason_of
from fusekit.report import Event, Outcome, Report
from fusekit.rewrite import Rewrite, Stage
from fusekit.validate import validate
from fusekit.validation import Validation

TARGETS = ("torch", "onnxruntime")


def optimize(
    model: nn.Module,
    example_inputs: object = None,
    *,
    target: str = "torch",
    passes: Sequence[str | Rewrite] | None = None,
    strict: bool = False,
    progress: Progress | None = None,
    tolerance: float | None = None,
) -> nn.Module:
    """A module that computes the same function as `model` in eval mode, with its linear layers folded.

    Args:
        model: any nn.Module; it is not touched.
        example_inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments. Optional: with them,
            shapes and dtypes are known, more can be captured and folded, and the result is compared with the model.
        target: "torch" or "onnxruntime", the runtime whose costs count.
        passes: names (`fusekit.passes.PASSES`) or instances of the rewrites to use; all by default.
        strict: raise VerificationError where a rewrite fails its check, instead of rolling it back.
        progress: called with (stage, done, total).
        tolerance: bound on the relative error on all probes of `validate`, the quiet region of a wide range included;
            by default the result is judged on the example inputs, by the model's own error.

    Returns:
        A module with `.report`, whose parameters train; batch and spatial sizes as free as the model's.
    """
    started = time.perf_counter()
    if not isinstance(model, nn.Module):
        raise FusekitError(f"expected an nn.Module to optimize, got {type(model).__name__}")
    if target not in TARGETS:
        raise FusekitError(f"target must be one of {', '.join(TARGETS)}, got {target!r}")
    inputs = None if example_inputs is None else Inputs.of(example_inputs)
    stages = select(passes)
    pipeline = Pipeline(stages, target, strict, progress)
    result = pipeline.run(own_copy(model), inputs)
    reason = _fault(model, result, inputs, tolerance)
    if reason and not strict and _chosen(pipeline.events):
        first, pipeline = pipeline, Pipeline(_without_choice(stages), target, strict, progress)
        result = pipeline.run(own_copy(model), inputs)
        pipeline.events += _rejected(first.events, reason)
        reason = _fault(model, result, inputs, tolerance)
    if reason:
        if strict:
            raise VerificationError(reason)
        pipeline.roll_back(f"{reason}; a plain copy is returned")
        result = own_copy(model)
    if any(module.training for module in model.modules()):
        pipeline.notes.append("the model is in training mode; it was optimized as in eval mode (call model.eval())")
    result.report = pipeline.report(time.perf_counter() - started)  # type: ignore[assignment]
    return result


def select(passes: Sequence[str | Rewrite] | None) -> list[Stage]:
    """The stages, with only the passes asked for, each in every stage it belongs to; an instance stands in for the pass
    of its name, or joins the last stage if it is new."""
    if passes is None:
        return list(STAGES)
    if isinstance(passes, str):
        passes = [passes]
    unknown = [p for p in passes if isinstance(p, str) and p not in PASSES]
    if unknown:
        raise FusekitError(f"no pass named {unknown[0]!r}; there are {', '.join(PASSES)}")
    chosen = {p if isinstance(p, str) else p.name: PASSES[p] if isinstance(p, str) else p for p in passes}
    stages = [Stage(s.name, tuple(chosen[p.name] for p in s.passes if p.name in chosen)) for s in STAGES]
    new = tuple(rewrite for name, rewrite in chosen.items() if name not in PASSES)
    return [*stages[:-1], replace(stages[-1], passes=(*stages[-1].passes, *new))]


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
) -> Validation:
    """Optimize for ONNX Runtime, write `path`, run it and compare it with `model` in float64.

    The file is written beside `path` and moved into place only if it passes onnx.checker, shape inference, a run in
    ONNX Runtime and the validation; otherwise an old file stays as it was.

    Args:
        model, example_inputs: as for `optimize`.
        optimize: False exports the model as it is.
        dynamic: leave batch and spatial sizes free where the model does; the Validation says which.
        opset: of ONNX; by default the newest that needs no conversion.
        tolerance: bound on the relative error, by default derived from the model's own (`validate`).
        passes, strict, target, progress: as for `optimize`.

    Returns:
        The Validation, with the optimization's `.report`. If it is not `ok`, no file was written.

    Raises:
        ExportError: the file could not be written or did not pass its checks.
    """
    inputs = Inputs.of(example_inputs)
    chosen = passes if optimize else ()
    optimized = _optimize(model, inputs, target=target, passes=chosen, strict=strict, progress=progress)
    report: Report = optimized.report  # type: ignore[assignment]

    def written() -> Validation:
        applied = [(event.rewrite, event.where) for event in report.applied]
        options = {"dynamic": dynamic, "opset": opset, "tolerance": tolerance, "rewrites": applied}
        return replace(export_onnx(model, optimized, path, inputs, **options), report=report)  # type: ignore[arg-type]

    if not _chosen(report.events) or strict:
        return written()
    try:
        judged = written()
        reason = "" if judged.ok else judged.failures[0]
    except ExportError as error:
        reason = str(error)
    if not reason:
        return judged
    plainer = [rewrite for stage in _without_choice(select(chosen)) for rewrite in stage.passes]
    rejected = tuple(_rejected(report.events, reason))
    optimized = _optimize(model, inputs, target=target, passes=plainer, strict=strict, progress=progress)
    report = optimized.report  # type: ignore[assignment]
    report = replace(report, events=(*report.events, *rejected))
    return written()


_optimize = optimize


def _chosen(events: Iterable[Event]) -> list[Event]:
    """Realizations applied: the same map computed in another way, with rounding errors of another kind."""
    names = {rewrite.name for stage in STAGES if stage.name == CHOOSE for rewrite in stage.passes}
    return [event for event in events if event.outcome is Outcome.APPLIED and event.rewrite in names]


def _without_choice(stages: Sequence[Stage]) -> list[Stage]:
    return [stage for stage in stages if stage.name != CHOOSE]


def _rejected(events: Iterable[Event], reason: str) -> list[Event]:
    said = f"the whole model did not hold with it: {reason}"
    return [replace(event, outcome=Outcome.REJECTED, reason=said) for event in _chosen(events)]


def _fault(model: nn.Module, result: nn.Module, inputs: Inputs | None, tolerance: float | None) -> str:
    """What is wrong with the whole result: its error on the example inputs against the model's own, both measured by a
    float64 run of the original; with a tolerance, on every probe. "" if nothing is, or without inputs."""
    if inputs is None:
        return ""
    original = evaluation_copy(model)
    reason = ""
    with torch.no_grad():
        reference = outputs_of(inputs.cloned().call(original))
        truth = outputs_of(run_float64(original, inputs))
        try:
            given = outputs_of(inputs.cloned().call(result if _keeps_nothing(result) else evaluation_copy(result)))
        except Exception as error:
            given, reason = [], f"the result fails on the example inputs: {reason_of(error)}"
    if not reason and len(given) != len(reference):
        reason = f"the result has {len(given)} outputs, the model {len(reference)}"
    for (name, ours), (_, theirs), (_, exact) in zip(given, reference, truth, strict=False):
        judged = compare(name, ours, theirs, exact, None)
        if not judged.ok:
            reason = (
                f"output {name or 0} is off by {judged.error:.1e}, the model itself by {judged.reference_error:.1e}"
            )
    if reason or tolerance is None:
        return reason
    failures = validate(model, result, inputs, tolerance=tolerance).failures
    return failures[0] if failures else ""


def _keeps_nothing(module: nn.Module) -> bool:
    """Whether all its modules are of kinds known to leave no trace of a call in themselves (in eval mode)."""
    return all(type(m).__module__.startswith(("torch.nn.", "torch.fx.", "fusekit.")) for m in module.modules())
