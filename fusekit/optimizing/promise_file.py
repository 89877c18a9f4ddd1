"""Keeps the promise for a file: it passes validation, and it is slower neither than an export of the model as it is,
nor than the file without realizations."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import nn

from fusekit.errors import ExportError, FusekitError, VerificationError
from fusekit.files import beside, place, scratch
from fusekit.model.large import bytes_of, is_large
from fusekit.model.own_copy import own_copy
from fusekit.onnx_export import export_onnx
from fusekit.onnx_export.plain_export import plain_export
from fusekit.optimizing.lower_complex import NAME as LOWERING
from fusekit.optimizing.options import Options
from fusekit.optimizing.promise import judged
from fusekit.optimizing.undo import HARMLESS, chosen, is_slower, least_gained, ratio, rejected
from fusekit.report import Event, Report
from fusekit.runtimes.file_size import file_size
from fusekit.runtimes.timing import Call
from fusekit.runtimes.turns import Turns
from fusekit.validation import Reference, Validation

_ORIGINAL = "original.onnx"
_OWN, _PLAINER = "an export of the model as it is", "the file without realizations"


@dataclass(frozen=True)
class Export:
    """The export of one model to one file. It calls `export_onnx` again and again until the file keeps the promise."""

    reference: Reference
    path: str | Path
    options: Options
    dynamic: bool = True
    opset: int | None = None
    turns: Turns = field(default_factory=Turns)

    def run(self) -> Validation:
        """Write the file and return the verdict on it. Attempts are written to a temporary folder; only a file that
        passes is moved to `path`."""
        with beside(self.path) as stage:
            verdict = replace(self, path=stage)._best()
            if verdict.ok:
                place(stage, self.path)
            return verdict

    def _best(self) -> Validation:
        """Write a file that passes validation; with a clock, one that is also not slower than the two other files."""
        verdict = self._write_valid(self.options)
        risky = [event for event in _applied(verdict) if event.rewrite not in HARMLESS]
        if not verdict.ok or self.options.races is None or not risky or not self.options.runtime.reads_files:
            return self._sized(verdict)
        with scratch() as room:
            with self.turns:
                own = self._own(room, verdict)
                verdict = self._raced(own, self._plainer(room, verdict), verdict)
            return self._sized(verdict, None if own is None else room / _ORIGINAL)

    def _sized(self, verdict: Validation, own: Path | None = None) -> Validation:
        """The verdict, its report with the size of the file. Operators of files are compared only with operators of
        files: with those of `own`, an export of the model as it is."""
        report = verdict.report
        if not verdict.ok or report is None or report.before is None or report.after is None:
            return verdict
        before, after = report.before, file_size(Path(self.path), report.after)
        if own is None:
            after = replace(after, operators=report.after.operators)
        else:
            before = file_size(own, before)
        return replace(verdict, report=replace(report, before=before, after=after))

    def _own(self, room: Path, verdict: Validation) -> Call | None:
        """An export of the model as it is, ready to be timed; None if it cannot be exported or run. A complex model
        rarely can, and to find that out takes 50 times as long with free sizes: it is tried with fixed ones first."""
        fixed = self.dynamic and any(event.rewrite == LOWERING for event in _applied(verdict))
        try:
            model, inputs, file = self.reference.model, self.reference.inputs, room / _ORIGINAL
            for free in (False, True) if fixed else (self.dynamic,):
                plain_export(model, file, inputs, dynamic=free, opset=self.opset, runtime=self.options.runtime)
            return self._call(file)
        except FusekitError:
            return None

    def _plainer(self, room: Path, verdict: Validation) -> Call | None:
        """The file without realizations, ready to be timed; None if there are no realizations, or no such file. A
        realization that is faster alone may be slower in the whole file, where the runtime chooses one layout for
        neighbours."""
        if not chosen(_applied(verdict)):
            return None
        try:
            there = replace(self, path=room / "plainer.onnx")
            return self._call(there.path) if there._written(*self._result(self.options.plainer)).ok else None
        except FusekitError:
            return None

    def _raced(self, own: Call | None, plainer: Call | None, verdict: Validation) -> Validation:
        """Undo realizations until the file is slower than neither of the two others."""
        assert self.options.races is not None
        undone: list[Event] = []
        options = self.options
        while verdict.ok:
            now = self._call(self.path)
            races = {
                whole: self.options.races.compare(other, now, loading=self._is_large)
                for whole, other in ((_OWN, own), (_PLAINER, plainer))
                if other is not None and (whole == _OWN or chosen(_applied(verdict)))
            }
            verdict = _with_events(verdict, undone, races.get(_OWN))
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
            undone += rejected(gone, f"with it, the file took {ratio(times)} as long as {whole}")
            verdict = self._write_valid(options)
        return verdict

    @property
    def _is_large(self) -> bool:
        return is_large(bytes_of(self.reference.model))

    def _call(self, path: str | Path) -> Call:
        load = partial(self._loaded, path)
        return self.turns.call(load) if self._is_large else load()

    def _loaded(self, path: str | Path) -> Call:
        return self.options.runtime.load(path, spinning=False).bound(self.reference.inputs, self.reference.names)

    def _write_valid(self, options: Options) -> Validation:
        """Write the file with realizations; if it fails validation, write it without them."""
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
        undone = rejected(chosen(report.events), f"with it, the whole model failed its check: {reason}")
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
            raise ExportError(f"{left[0]}; and with complex operators: {error}") from error
        return replace(verdict, report=report)


def _applied(verdict: Validation) -> tuple[Event, ...]:
    return verdict.report.applied if verdict.report is not None else ()


def _with_events(verdict: Validation, undone: Sequence[Event], times: tuple[float, float] | None) -> Validation:
    assert verdict.report is not None
    events = tuple(dict.fromkeys((*verdict.report.events, *undone)))
    return replace(verdict, report=replace(verdict.report, events=events, times=times))
