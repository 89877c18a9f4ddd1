"""The promise kept for a file: it holds, and is slower neither than the model's own export nor than the file without
realizations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from fusekit.errors import ExportError, FusekitError, VerificationError
from fusekit.files import beside, place, scratch
from fusekit.model.own_copy import own_copy
from fusekit.onnx_export import export_onnx
from fusekit.onnx_export.plain_export import plain_export
from fusekit.optimizing.lower_complex import NAME as LOWERING
from fusekit.optimizing.options import Options
from fusekit.optimizing.promise import judged
from fusekit.optimizing.undo import HARMLESS, chosen, is_slower, least_gained, ratio, rejected
from fusekit.report import Event, Report
from fusekit.runtimes.timing import Call
from fusekit.validation import Reference, Validation

_OWN, _PLAINER = "the whole model", "the model without realizations"


@dataclass(frozen=True)
class Export:
    """One model on its way to one file: `export_onnx` and its options, as often as the promise asks for it."""

    reference: Reference
    path: str | Path
    options: Options
    dynamic: bool = True
    opset: int | None = None

    def run(self) -> Validation:
        """The verdict on the file, which takes its place if it holds and not before: others are tried on the way."""
        with beside(self.path) as stage:
            verdict = replace(self, path=stage)._best()
            if verdict.ok:
                place(stage, self.path)
            return verdict

    def _best(self) -> Validation:
        """A file that holds; with a clock, one that is slower neither than the model's own export nor than the file
        without realizations."""
        verdict = self._held(self.options)
        risky = [event for event in _applied(verdict) if event.rewrite not in HARMLESS]
        if not verdict.ok or self.options.clock is None or not risky or not self.options.runtime.reads_files:
            return verdict
        with scratch() as room:
            own, plainer = self._own(room), self._plainer(room, verdict)
            return self._raced(own, plainer, verdict)

    def _own(self, room: Path) -> Call | None:
        """The model's own export; None where there is none."""
        try:
            model, inputs, file = self.reference.model, self.reference.inputs, room / "original.onnx"
            free, opset, runtime = self.dynamic, self.opset, self.options.runtime
            return self._call(plain_export(model, file, inputs, dynamic=free, opset=opset, runtime=runtime))
        except FusekitError:
            return None

    def _plainer(self, room: Path, verdict: Validation) -> Call | None:
        """The file without realizations, if there are any: what is faster alone may be slower among others, whose
        layout it shares in the runtime."""
        if not chosen(_applied(verdict)):
            return None
        try:
            there = replace(self, path=room / "plainer.onnx")
            return self._call(there.path) if there._written(*self._result(self.options.plainer)).ok else None
        except FusekitError:
            return None

    def _raced(self, own: Call | None, plainer: Call | None, verdict: Validation) -> Validation:
        """Undo realizations until the file is slower than neither."""
        assert self.options.clock is not None
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
            lost = [(whole, times) for whole, times in races.items() if is_slower(times)]
            if not lost:
                return verdict
            gone = least_gained(_applied(verdict), len(undone))
            if gone:
                options = options.without(gone)
            elif options.stages:
                gone = tuple(event for event in _applied(verdict) if event.rewrite not in HARMLESS)
                options = options.harmless
            if not gone:
                return verdict
            whole, times = lost[0]
            undone += rejected(gone, f"{whole} took {ratio(times)} its time with it")
            verdict = self._held(options)
        return verdict

    def _call(self, path: str | Path) -> Call:
        return self.options.runtime.load(path, spinning=False).bound(self.reference.inputs, self.reference.names)

    def _held(self, options: Options) -> Validation:
        """The first file that holds: with realizations, else without."""
        result, report = self._result(options)
        if not chosen(report.events) or options.strict:
            return self._written(result, report)
        try:
            verdict = self._written(result, report)
            if verdict.ok:
                return verdict
            reason = verdict.failures[0]
        except ExportError as error:
            reason = str(error)
        undone = rejected(chosen(report.events), f"the whole model did not hold with it: {reason}")
        result, report = self._result(options.plainer)
        return self._written(result, replace(report, events=(*report.events, *undone)))

    def _result(self, options: Options) -> tuple[nn.Module, Report]:
        result, pipeline, reason = judged(self.reference.model, self.reference, options)
        if reason:
            if options.strict:
                raise VerificationError(reason)
            pipeline.roll_back(f"{reason}; a plain copy is exported")
            result = own_copy(self.reference.model)
        return result, pipeline.report()

    def _written(self, result: nn.Module, report: Report) -> Validation:
        applied = [(event.rewrite, event.where) for event in report.applied]
        try:
            verdict = export_onnx(
                self.reference,
                result,
                self.path,
                dynamic=self.dynamic,
                opset=self.opset,
                tolerance=self.options.tolerance,
                rewrites=applied,
                runtime=self.options.runtime,
            )
        except ExportError as error:
            left = [event.reason for event in report.refused if event.rewrite == LOWERING]
            if not left:
                raise
            raise ExportError(f"{left[0]}; and as it is: {error}") from error
        return replace(verdict, report=report)


def _applied(verdict: Validation) -> tuple[Event, ...]:
    return verdict.report.applied if verdict.report is not None else ()


def _told(verdict: Validation, undone: Sequence[Event], times: tuple[float, float] | None) -> Validation:
    assert verdict.report is not None
    events = tuple(dict.fromkeys((*verdict.report.events, *undone)))
    return replace(verdict, report=replace(verdict.report, events=events, times=times))
