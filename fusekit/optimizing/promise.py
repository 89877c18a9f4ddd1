"""What optimizing promises of the whole model: the same function, and never slower. What breaks it is undone.

Regions are checked one by one as they are rewritten; rounding adds up, and a layout that is faster alone may be slower
among others. So the whole result is compared with the model in float64, and raced against it on its runtime. A result
that does not hold is made again without its realizations; one that is slower, without the one that gained least, again
and again, then without all, and in the end it is the model itself.
"""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from fusekit.errors import ExportError, FusekitError, VerificationError
from fusekit.model.float64 import run_float64
from fusekit.model.inputs import Inputs
from fusekit.model.program import evaluation_copy, reason_of
from fusekit.onnx_export.plain_export import plain_export
from fusekit.onnx_export.write_file import export_onnx
from fusekit.optimizing.channels_last import NAME as CHANNELS_LAST
from fusekit.optimizing.pipeline import LOWERING, Pipeline, own_copy
from fusekit.optimizing.race import Clock, torch_call
from fusekit.passes import CHOOSE, STAGES
from fusekit.report import Event, Outcome, Report
from fusekit.rewriting.driver import Progress
from fusekit.rewriting.rewrite import Stage
from fusekit.runtimes.onnx_session import OnnxFile
from fusekit.runtimes.timing import Call
from fusekit.validation.judge import validate
from fusekit.validation.tolerance import compare, longest_sum, outputs_of
from fusekit.validation.verdict import Validation

NOISE = 0.03  # of the model's time: what two runs of the same program may differ by
_ONE_BY_ONE = 3  # realizations undone singly before all are
_HARMLESS = {"drop-identity", "fold-constants", "fold-affine"}  # less work in every runtime, whatever the shapes
_LAYOUTS = {"use-planar-conv", "use-planar-channels-last", "use-channels-last"}

_OWN, _PLAINER = "the whole model", "the model without realizations"

Place = tuple[str, str]


@dataclass(frozen=True)
class Options:
    """How to optimize: the words of `api.optimize`, understood."""

    target: str
    stages: Sequence[Stage]
    strict: bool = False
    progress: Progress | None = None
    tolerance: float | None = None
    clock: Clock | None = None
    relays: bool = False  # whether whole regions may be laid out with their channels last

    @property
    def plainer(self) -> "Options":
        """Without realizations."""
        return replace(self, stages=[stage for stage in self.stages if stage.name != CHOOSE], relays=False)

    def laid_out(self) -> "Options":
        """Where the model has its channels last already: without what would convert them."""
        stages = [replace(s, passes=tuple(p for p in s.passes if p.name not in _LAYOUTS)) for s in self.stages]
        return replace(self, stages=stages, relays=False)


def optimized(model: nn.Module, inputs: Inputs | None, options: Options) -> tuple[nn.Module, Pipeline]:
    """The optimized model and what was done; a plain copy, if nothing better keeps the promise."""
    result, pipeline, reason = _judged(model, inputs, options, frozenset())
    if reason:
        if options.strict:
            raise VerificationError(reason)
        pipeline.roll_back(f"{reason}; a plain copy is returned")
        return own_copy(model), pipeline
    if inputs is None or options.clock is None or options.target != "torch":
        return result, pipeline
    return _raced(model, inputs, options, result, pipeline)


def _raced(
    model: nn.Module, inputs: Inputs, options: Options, result: nn.Module, pipeline: Pipeline
) -> tuple[nn.Module, Pipeline]:
    """Undo realizations until the module is not slower than the model in PyTorch."""
    assert options.clock is not None
    vetoed: frozenset[Place] = frozenset()
    undone: list[Event] = []
    original = torch_call(evaluation_copy(model), inputs.cloned())
    while True:
        times = options.clock.compare(original, torch_call(result, inputs.cloned()))
        pipeline.times = times
        pipeline.events += undone
        if not _is_slower(times):
            return result, pipeline
        worst = _worst(pipeline.events, len(undone))
        if not worst:
            pipeline.roll_back(f"the result takes {_ratio(times)} the model's time; a plain copy is returned")
            return own_copy(model), pipeline
        undone = [*undone, *_rejected(worst, f"the whole model took {_ratio(times)} its time with it")]
        vetoed |= {(event.rewrite, event.where) for event in worst}
        result, pipeline, reason = _judged(model, inputs, options, vetoed)
        if reason:
            pipeline.roll_back(f"{reason}; a plain copy is returned")
            return own_copy(model), pipeline


def _judged(
    model: nn.Module, inputs: Inputs | None, options: Options, vetoed: frozenset[Place]
) -> tuple[nn.Module, Pipeline, str]:
    """The result of the passes and what is wrong with it; without realizations, if it holds only so."""
    last = options.target == "torch" and inputs is not None and inputs.are_channels_last
    options = options.laid_out() if last else options
    pipeline = _pipeline(options, vetoed)
    result = pipeline.run(own_copy(model), inputs)
    reason = _fault(model, result, inputs, options.tolerance)
    if reason and not options.strict and chosen(pipeline.events):
        first, pipeline = pipeline, _pipeline(options.plainer, vetoed)
        result = pipeline.run(own_copy(model), inputs)
        pipeline.events += _rejected(chosen(first.events), f"the whole model did not hold with it: {reason}")
        reason = _fault(model, result, inputs, options.tolerance)
    # whoever brings channels last keeps them: the weights, too, would else be laid out anew at each call
    return result.to(memory_format=torch.channels_last) if last else result, pipeline, reason  # type: ignore[call-overload]


def _pipeline(options: Options, vetoed: frozenset[Place]) -> Pipeline:
    clock = options.clock
    return Pipeline(options.stages, options.target, options.strict, options.progress, clock, vetoed, options.relays)


@dataclass(frozen=True)
class Export:
    """One model on its way to one file: `export_onnx` and its options, as often as the promise asks for it."""

    model: nn.Module
    path: str | Path
    inputs: Inputs
    options: Options
    dynamic: bool = True
    opset: int | None = None

    def run(self) -> Validation:
        """The verdict on the file; with a clock, on one that is slower neither than the model's own export nor than
        the file without realizations."""
        verdict = self._held(self.options, ())
        risky = [event for event in _applied(verdict) if event.rewrite not in _HARMLESS]
        if not verdict.ok or self.options.clock is None or not risky or self.options.target != "onnxruntime":
            return verdict
        with tempfile.TemporaryDirectory(prefix="fusekit-") as room:
            own, plainer = self._own(Path(room)), self._plainer(Path(room), verdict)
            return self._raced(own, plainer, verdict)

    def _own(self, room: Path) -> Call | None:
        """The model's own export; None where there is none."""
        try:
            file = room / "original.onnx"
            return self._call(plain_export(self.model, file, self.inputs, dynamic=self.dynamic, opset=self.opset))
        except FusekitError:
            return None

    def _plainer(self, room: Path, verdict: Validation) -> Call | None:
        """The file without realizations, if there are any: what is faster alone may be slower among others, whose
        layout it shares in the runtime."""
        if not chosen(_applied(verdict)):
            return None
        try:
            there = replace(self, path=room / "plainer.onnx")
            return self._call(there.path) if there._written(*self._result(self.options.plainer, ())).ok else None
        except FusekitError:
            return None

    def _raced(self, own: Call | None, plainer: Call | None, verdict: Validation) -> Validation:
        """Undo realizations until the file is slower than neither."""
        assert self.options.clock is not None
        vetoed: frozenset[Place] = frozenset()
        undone: list[Event] = []
        options = self.options
        while verdict.ok:
            now = self._call(self.path)
            races = {
                whole: self.options.clock.compare(other, now)
                for whole, other in ((_OWN, own), (_PLAINER, plainer))
                if other is not None and (whole == _OWN or chosen(_applied(verdict)))
            }
            verdict = _told(verdict, undone, races.get(_OWN))
            lost = [(whole, times) for whole, times in races.items() if _is_slower(times)]
            if not lost:
                return verdict
            worst = _worst(_applied(verdict), len(undone))
            if worst:
                vetoed |= {(event.rewrite, event.where) for event in worst}
            elif options.stages:
                worst = tuple(event for event in _applied(verdict) if event.rewrite not in _HARMLESS)
                options = replace(options, stages=_harmless(options.stages), relays=False)
            if not worst:
                return verdict
            whole, times = lost[0]
            undone += _rejected(worst, f"{whole} took {_ratio(times)} its time with it")
            verdict = self._held(options, vetoed)
        return verdict

    def _call(self, path: str | Path) -> Call:
        return OnnxFile(path, spinning=False).bound(self.inputs, self.inputs.names(self.model))

    def _held(self, options: Options, vetoed: Iterable[Place]) -> Validation:
        """The first file that holds: with realizations, else without."""
        result, report = self._result(options, vetoed)
        if not chosen(report.events) or options.strict:
            return self._written(result, report)
        try:
            judged = self._written(result, report)
            reason = "" if judged.ok else judged.failures[0]
        except ExportError as error:
            judged, reason = None, str(error)
        if judged is not None and not reason:
            return judged
        rejected = _rejected(chosen(report.events), f"the whole model did not hold with it: {reason}")
        result, report = self._result(options.plainer, vetoed)
        return self._written(result, replace(report, events=(*report.events, *rejected)))

    def _result(self, options: Options, vetoed: Iterable[Place]) -> tuple[nn.Module, Report]:
        result, pipeline, reason = _judged(self.model, self.inputs, options, frozenset(vetoed))
        if reason:
            if options.strict:
                raise VerificationError(reason)
            pipeline.roll_back(f"{reason}; a plain copy is exported")
            result = own_copy(self.model)
        return result, pipeline.report()

    def _written(self, result: nn.Module, report: Report) -> Validation:
        applied = [(event.rewrite, event.where) for event in report.applied]
        try:
            verdict = export_onnx(
                self.model,
                result,
                self.path,
                self.inputs,
                dynamic=self.dynamic,
                opset=self.opset,
                tolerance=self.options.tolerance,
                rewrites=applied,
            )
        except ExportError as error:
            left = [event.reason for event in report.refused if event.rewrite == LOWERING]
            if not left:
                raise
            raise ExportError(f"{left[0]}; and as it is: {error}") from error
        return replace(verdict, report=report)


def chosen(events: Iterable[Event]) -> tuple[Event, ...]:
    """Realizations applied: the same map computed in another way, with rounding errors of another kind."""
    names = {rewrite.name for stage in STAGES if stage.name == CHOOSE for rewrite in stage.passes} | {CHANNELS_LAST}
    return tuple(event for event in events if event.outcome is Outcome.APPLIED and event.rewrite in names)


def _worst(events: Iterable[Event], undone: int) -> tuple[Event, ...]:
    """The realization that gained least; all that are left, once several have been undone in vain."""
    left = chosen(events)
    if undone >= _ONE_BY_ONE:
        return left
    return tuple(sorted(left, key=lambda event: event.times[1] / event.times[0] if event.times else 1.0)[-1:])


def _harmless(stages: Sequence[Stage]) -> list[Stage]:
    kept = (replace(s, passes=tuple(p for p in s.passes if p.name in _HARMLESS)) for s in stages)
    return [stage for stage in kept if stage.passes]


def _is_slower(times: tuple[float, float]) -> bool:
    return times[1] > (1 + NOISE) * times[0]


def _ratio(times: tuple[float, float]) -> str:
    return f"{times[1] / times[0]:.2f} times"


def _applied(verdict: Validation) -> tuple[Event, ...]:
    return verdict.report.applied if verdict.report is not None else ()


def _told(verdict: Validation, undone: Sequence[Event], times: tuple[float, float] | None) -> Validation:
    assert verdict.report is not None
    events = tuple(dict.fromkeys((*verdict.report.events, *undone)))
    return replace(verdict, report=replace(verdict.report, events=events, times=times))


def _rejected(events: Iterable[Event], reason: str) -> list[Event]:
    return [replace(event, outcome=Outcome.REJECTED, reason=reason) for event in events]


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
        judged = compare(name, ours, theirs, exact, longest=longest_sum(model))
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
