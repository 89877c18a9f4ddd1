"""An ONNX file to an optimized one: read, fold, graft, judge, race; then it takes its place, or a copy of the original.

The stages of passes, their prices and the float64 check of each region are those that models of PyTorch go through;
realizations are left to the runtime, which has the whole file before it. The result is judged against the original
file, and raced against it. What does not hold, or is not better, is made again with only what cannot be worse; and in
the end it is the original.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import onnx
from onnx import version_converter

from fusekit.errors import ExportError, FusekitError, VerificationError, called_as, reason_of, told_as
from fusekit.files import beside, place, scratch
from fusekit.grafting.emitters import has_form
from fusekit.grafting.graft import graft, is_the_same
from fusekit.grafting.importing import SPELLING, import_file
from fusekit.grafting.inputs import inputs_for, sizes_of
from fusekit.grafting.model_file import OLDEST, ModelFile
from fusekit.grafting.yardstick import Yardstick
from fusekit.ir.spellings import SPELLINGS
from fusekit.ir.survey import survey
from fusekit.model import plain_modes
from fusekit.model.alone import alone
from fusekit.model.given import path_of
from fusekit.optimizing import Options
from fusekit.optimizing.circumstances import laws, machine
from fusekit.optimizing.race import BUDGET
from fusekit.optimizing.undo import HARMLESS, NOISE, is_slower, ratio, rejected
from fusekit.report import Drawing, Event, Outcome, Report, Totals
from fusekit.rewriting import Driver, Progress, Rewrite
from fusekit.runtimes import runtime
from fusekit.runtimes.file_size import file_size, numbers_of, operators_of
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.validation import Validation
from fusekit.version import __version__

_CALL = "fusekit.optimize_onnx('model.onnx', 'small.onnx')"
_ROUNDS = 5  # what a file says of shapes may tell more once it has been folded


@called_as(_CALL)
@told_as(FusekitError, "optimizing the file")
@alone()
@plain_modes()
def optimize_onnx(
    path: str | Path,
    out: str | Path,
    example_inputs: object = None,
    dynamic: bool | None = None,
    *,
    opset: int | None = None,
    tolerance: float | None = None,
    passes: Sequence[str | Rewrite] | None = None,
    strict: bool = False,
    target: str = ONNX_RUNTIME.name,
    progress: Progress | None = None,
    measure: bool | str = True,
    budget: float = BUDGET,
) -> Validation:
    """Fold the linear layers of the ONNX file at `path` and write the result to `out`, run and compared with it.

    Nodes that do not change come out as they went in, whatever they are; names of inputs and outputs stay. If nothing
    can be gained `out` is a copy.

    Args:
        path: the file, with its external data beside it, if it has any.
        out: where the result is to stand. It appears whole or not at all.
        example_inputs: a tensor, a tuple in the order of the file or a dict by its names; by default drawn from what
            the file declares.
        dynamic: whether the result is compared at other sizes than the example's too, where the file leaves them free;
            None: yes.
        opset: convert the file to this version of the operators first (by onnx's converter).
        tolerance: bound on the relative error, by default derived from what rounding does to the original.
        passes, strict, target, progress, measure, budget: as for `optimize`; `target` must read files, and the result
            is timed against the original there.

    Returns:
        The Validation against the original file, with `.report`.

    Raises:
        CheckpointError: the file is no whole and lawful ONNX model.
        FusekitError: the runtime cannot load it, or it does not run on the inputs.
        VerificationError: with `strict`, if a rewrite fails its check.
    """
    started = time.perf_counter()
    path, out = (path_of(each, f"expected for instance {_CALL}") for each in (path, out))
    options = Options.of(target, passes, strict, progress, tolerance, measure, budget)
    if not options.runtime.reads_files:
        raise FusekitError(f"target must be a runtime that reads files, such as onnxruntime, got {target!r}")
    file = ModelFile.read(path)
    file = file if opset is None else converted(file, opset)
    with beside(out) as stage, scratch() as room:
        verdict = _Optimization(file, Path(path), stage, options, dynamic is not False, room).run(example_inputs)
        if verdict.ok:
            place(stage, out)
        assert verdict.report is not None
        return replace(verdict, report=replace(verdict.report, seconds=time.perf_counter() - started))


@told_as(FusekitError, "validating")
@alone()
@plain_modes()
def validate_onnx(
    reference: str | Path,
    candidate: str | Path,
    example_inputs: object = None,
    *,
    tolerance: float | None = None,
    target: str = ONNX_RUNTIME.name,
) -> Validation:
    """Compare the ONNX file `candidate` with the file `reference`, as `optimize_onnx` does; neither is changed.

    Args:
        reference: the file that says what is right.
        candidate: a file with the same inputs and outputs.
        example_inputs, tolerance: as for `optimize_onnx`.
        target: the runtime that runs both, by name.

    Raises FusekitError or CheckpointError where there is nothing to compare.
    """
    file, found = ModelFile.read(reference), runtime(target)
    ModelFile.read(candidate)
    original = found.load(reference)
    inputs, names = inputs_for(original, example_inputs)
    with scratch() as room:
        yardstick = Yardstick(file, original, inputs, names, found, room)
        verdict = yardstick.judge(Path(candidate), tolerance)
        return replace(verdict, report=Report(notes=yardstick.how, target=target))


def converted(file: ModelFile, opset: int) -> ModelFile:
    """The model in another version of the operators. ExportError if onnx has no such version, or cannot convert it."""
    newest = onnx.defs.onnx_opset_version()
    if not (isinstance(opset, int) and OLDEST <= opset <= newest):
        raise ExportError(f"opset must be a number from {OLDEST} to {newest}, got {opset!r}")
    if file.opset == opset:
        return file
    if file.external():
        raise ExportError("a model with external data cannot be converted to another opset")
    try:
        return ModelFile(file.path, version_converter.convert_version(file.proto, opset), made=True)
    except Exception as error:
        why = reason_of(error).rpartition(" failed: ")[2]
        raise ExportError(f"onnx cannot convert {file.path.name} from opset {file.opset} to {opset}: {why}") from error


StandsFor = dict[str, tuple[str, ...]] | None


def folded(
    file: ModelFile, options: Options, sizes: dict[str, tuple[int, ...]]
) -> tuple[ModelFile, list[Event], StandsFor]:
    """The model rewritten until nothing changes any more, what was done, and what its values stand for: the same `file`
    if nothing was. Nothing is in opsets whose operators meant something else. To be called while `SPELLING` is
    known."""
    if file.opset < OLDEST:
        reason = f"opset {file.opset} is older than {OLDEST}: convert it first"
        return file, [Event("read", "model", Outcome.REFUSED, reason=reason)], None
    done: list[Event] = []
    stands_for: StandsFor = None
    left_out: set[str] = set()
    for _ in range(_ROUNDS):
        imported = import_file(file, sizes, stands_for)
        written = partial(has_form, opset=file.opset)
        words = (imported.graph, options.runtime.rates, options.strict, options.progress)
        driver = Driver(*words, has_form=written, guests=options.guests, left_out=left_out)
        events = driver.run(stage for stage in options.stages if not stage.contest)  # realizations: the runtime's
        applied = [event for event in (*done, *events) if event.outcome is Outcome.APPLIED]
        proto = graft(imported, applied, __version__)
        if is_the_same(proto, file.proto):
            return file, [*done, *events], stands_for
        file, stands_for = ModelFile(file.path, proto, made=True), imported.stands_for
        done += [event for event in events if event.outcome is not Outcome.REFUSED]
    return file, done, stands_for


@dataclass
class _Optimization:
    """One file on its way: `file`, read from `path` (and converted), to `stage`; `sizes`: whether others than the
    example's count."""

    file: ModelFile
    path: Path
    stage: Path
    options: Options
    sizes: bool
    room: Path
    undone: list[Event] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def run(self, example_inputs: object) -> Validation:
        original = self.options.runtime.load(self.path)
        inputs, names = inputs_for(original, example_inputs)
        self.yardstick = Yardstick(self.file, original, inputs, names, self.options.runtime, self.room)
        self.example = sizes_of(inputs, names)
        with SPELLINGS.extended(SPELLING):
            self.before, self.drawing = _surveyed(self.file, self.example)
            self.before = file_size(self.path, self.before)
            return self._tried(self.options) or self._tried(self.options.harmless) or self._as_it_was(())

    def _tried(self, options: Options) -> Validation | None:
        """The verdict on the result of these passes; None if it does not hold or is not better, and why is noted."""
        applied: list[Event] = []
        try:
            result, events, stands_for = folded(self.file, options, self.example)
            if result is self.file:
                return self._as_it_was(events)
            applied = [event for event in events if event.outcome is Outcome.APPLIED]
            size, drawing = _surveyed(result, self.example, stands_for)  # now: `write` moves its weights elsewhere
            self._clear()
            self.file.write(result.proto, self.stage)
            result = replace(result, path=self.stage)  # weights that moved out lie beside it
            if self.file.passes_checker:
                onnx.checker.check_model(str(self.stage), full_check=True)
            verdict = self.yardstick.judge(self.stage, options.tolerance, sizes=self.sizes)
        except VerificationError:
            raise
        except Exception as error:  # of whatever kind: the original is not lost by it
            self._undo(applied, f"the result does not stand: {reason_of(error)}")
            return None
        if not verdict.ok:
            self._undo(applied, f"the whole model did not hold: {(*verdict.failures, 'nothing compared')[0]}")
            return None
        times = self._raced()
        if reason := self._not_better(applied, times, len(result.graph.node)):
            self._undo(applied, reason, wrong=False)
            return None
        return replace(verdict, report=self._report(events, file_size(self.stage, size), drawing, times))

    def _undo(self, applied: Sequence[Event], reason: str, *, wrong: bool = True) -> None:
        if self.options.strict and wrong:
            raise VerificationError(reason)
        self.undone += rejected(applied, reason) or [Event("model", "model", Outcome.REJECTED, reason=reason)]

    def _raced(self) -> tuple[float, float] | None:
        """Milliseconds of the original and of the result."""
        if self.options.races is None:
            return None
        load = partial(self.options.runtime.load, spinning=False)
        before, after = (load(p).bound(self.yardstick.inputs, self.yardstick.names) for p in (self.path, self.stage))
        return self.options.races.compare(before, after)

    def _not_better(self, applied: Sequence[Event], times: tuple[float, float] | None, nodes: int) -> str:
        """Why the result is not worth having; "" if it is."""
        risky = [event for event in applied if event.rewrite not in HARMLESS]
        if times is not None and risky and is_slower(times):
            return f"the result takes {ratio(times)} the time of the original"
        fewer = nodes < len(self.file.graph.node)
        faster = times is not None and times[1] < (1 - NOISE) * times[0]
        cheaper = times is None and bool(applied)
        return "" if fewer or faster or cheaper else "it has no fewer operators, and is not clearly faster"

    def _as_it_was(self, events: Sequence[Event]) -> Validation:
        """A copy of the original, or of what was made of it in another opset."""
        self._clear()
        self.file.write_as_it_is(self.stage)
        self.notes.append("nothing was gained: the result is a copy of the original")
        verdict = self.yardstick.judge(self.stage, self.options.tolerance, sizes=self.sizes)
        kept = [event for event in events if event.outcome is not Outcome.APPLIED]
        return replace(verdict, report=self._report(kept, file_size(self.stage, self.before), self.drawing, None))

    def _clear(self) -> None:
        """Nothing of an earlier attempt is left beside the file."""
        for left in self.stage.parent.iterdir():
            left.unlink()

    def _report(
        self, events: Sequence[Event], after: Totals, drawing: Drawing, times: tuple[float, float] | None
    ) -> Report:
        told = (*events, *(event for event in self.undone if event not in events))
        runtime = self.options.runtime
        return Report(
            told,
            self.before,
            after,
            "reading the file",
            (*self.yardstick.how, *self.notes),
            runtime.name,
            times=times,
            drawings=(self.drawing, drawing),
            laws=laws(self.options),
            machine=machine(runtime),
        )


def _surveyed(
    file: ModelFile, sizes: dict[str, tuple[int, ...]], stands_for: StandsFor = None
) -> tuple[Totals, Drawing]:
    """The size of a model: its nodes, the floats that it stores, its multiply-accumulates; and a drawing of it."""
    size, drawing = survey(import_file(file, sizes, stands_for).graph)
    return Totals(operators_of(file.graph), numbers_of(file.graph), size.macs), drawing
