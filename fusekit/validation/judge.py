"""Decides whether a candidate computes the same as the reference, by comparing both with the reference in float64.

    error           = ‖candidate − r64‖ / ‖r64‖      worst over outputs and probes
    reference_error = ‖reference − r64‖ / ‖r64‖      for the same output and probe
    ok              ⇔  error ≤ max(16 · reference_error, 32 · eps)  for all of them (tolerance.py says why)

The candidate is a module or an ONNX file. Inputs that the reference itself cannot run are skipped. On all others the
candidate must run too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from fusekit.errors import FusekitError, called_as, reason_of, told_as
from fusekit.model import Inputs, plain_modes
from fusekit.model.alone import alone
from fusekit.model.given import path_of
from fusekit.runtimes import runtime as runtime_called
from fusekit.runtimes.file import RunnableFile
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.validation.probes import QUIET, WIDE_RANGE, Probe, Size, guess_sizes, plan_probes
from fusekit.validation.reference import Answer, Reference, run
from fusekit.validation.tolerance import OutputError, Outputs, compare, compare_quiet, is_float
from fusekit.validation.verdict import REFUSED, ProbeResult, Validation

_CALL = "fusekit.validate(model, 'model.onnx', (x,))"
Sizes = tuple[Sequence[Size], Sequence[Size]]


@called_as(_CALL)
@told_as(FusekitError, "validating")
@alone()
@plain_modes()
def validate(
    reference: nn.Module,
    candidate: nn.Module | str | Path,
    example_inputs: object,
    *,
    tolerance: float | None = None,
    target: str = ONNX_RUNTIME.name,
) -> Validation:
    """Compare a module or an ONNX file with the reference, both in eval mode. Neither is changed.

    They are compared on the given inputs, on batches of 1 and 3, on odd and even sizes where sizes may vary, and on
    inputs of wide dynamic range.

    Args:
        reference: the module whose results are right.
        candidate: a module, or the path of an ONNX file.
        example_inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments.
        tolerance: a bound on the relative error, in place of the one derived from the reference's own error. It is then
            also applied to the small elements of the outputs for the wide dynamic range, by themselves: a convolution
            by FFT is less accurate there than a direct one.
        target: the name of the runtime that runs the file.

    Returns:
        The Validation. It contains everything that is wrong with the candidate.

    Raises:
        FusekitError: nothing could be compared: the reference fails on the given inputs, the file cannot be loaded, or
            the runtime is unknown.
    """
    compared, runtime = Reference(reference, example_inputs), runtime_called(target)
    if isinstance(candidate, nn.Module):
        return judge(compared, candidate, tolerance)
    return judge(compared, runtime.load(path_of(candidate, f"expected for instance {_CALL}")), tolerance)


def judge(
    reference: Reference,
    candidate: nn.Module | RunnableFile,
    tolerance: float | None = None,
) -> Validation:
    """The same as `validate`, with a Reference that may have been used before and keeps its results."""
    inputs, names = reference.inputs, reference.names
    if isinstance(candidate, nn.Module):
        sizes: Sizes = guess_sizes(inputs)
        judging = _Judge(reference, partial(run, candidate), tolerance)
    else:
        sizes = free_sizes(candidate, inputs, names)
        judging = _Judge(reference, lambda probe: candidate.run(probe, names), tolerance)
    results: list[ProbeResult] = []
    worked: dict[str, set[int]] = {name: set() for name in names}
    for probe in plan_probes(inputs, *sizes):
        for tried, result in judging.results(probe):
            results.append(result)
            if result.outputs and not result.failure:
                for index, axis in tried.varied:
                    worked[names[index]].add(axis)
    return Validation(tuple(results), {name: tuple(sorted(axes)) for name, axes in worked.items()})


def fault(reference: Reference, result: nn.Module, tolerance: float | None = None) -> str:
    """What is wrong with a module, in one sentence; "" if nothing is.

    It is compared on the given inputs, with a bound derived from the reference's own error. If a tolerance is given, it
    is also compared on all probes with this bound. Raises FusekitError if the reference fails on the given inputs.
    """
    answer = reference.given
    try:
        given = run(result, reference.inputs)
    except Exception as error:
        return f"the result fails on the example inputs: {reason_of(error)}"
    if len(given) != len(answer.own):
        return f"the result has {len(given)} outputs, the model {len(answer.own)}"
    wrong = [each for each in _compared(reference, answer, given) if not each.ok]
    if wrong:
        worst = wrong[-1]
        return f"output {worst.name} is off by {worst.error:.1e}, the model itself by {worst.reference_error:.1e}"
    failures = () if tolerance is None else judge(reference, result, tolerance).failures
    return failures[0] if failures else ""


@dataclass(frozen=True)
class _Judge:
    """Runs a candidate on one probe after another and compares it with the reference."""

    reference: Reference
    run: Callable[[Inputs], Outputs]
    tolerance: float | None

    def results(self, probe: Probe) -> Iterator[tuple[Probe, ProbeResult]]:
        """The result of this probe; if the reference cannot run it, those of the probes to try instead."""
        if probe.name == WIDE_RANGE and not any(map(is_float, probe.inputs.tensors())):
            yield probe, ProbeResult(probe.name, skipped="no floating input")
            return
        answer = self.reference.on(probe)
        if answer.refusal:
            yield probe, ProbeResult(probe.name, skipped=f"{REFUSED} ({answer.refusal})")
            for smaller in probe.instead:
                yield from self.results(smaller)
            return
        if probe.name == WIDE_RANGE and not all(bool(tensor.isfinite().all()) for _, tensor in answer.own):
            yield probe, ProbeResult(probe.name, skipped="overflows in the reference itself")
            return
        for judged in self._judged(probe, answer):
            yield probe, judged

    def _judged(self, probe: Probe, answer: Answer) -> Iterator[ProbeResult]:
        try:
            candidate = self.run(probe.inputs)
        except Exception as error:
            said = str(error) if isinstance(error, FusekitError) else reason_of(error)
            yield ProbeResult(probe.name, failure=f"the candidate fails where the reference runs: {said}")
            return
        if len(candidate) != len(answer.own):
            yield ProbeResult(probe.name, failure=f"{len(candidate)} outputs, the reference has {len(answer.own)}")
            return
        noise = answer.noise if self.tolerance is None else ()
        yield ProbeResult(probe.name, tuple(_compared(self.reference, answer, candidate, self.tolerance, noise)))
        if probe.name == WIDE_RANGE and self.tolerance is not None:
            quiet = [compare_quiet(*each, self.tolerance) for each in _named(answer, candidate)]
            if found := tuple(each for each in quiet if each is not None):
                yield ProbeResult(QUIET, found)


def _compared(
    reference: Reference,
    answer: Answer,
    candidate: Outputs,
    tolerance: float | None = None,
    noise: Sequence[float] = (),
) -> Iterator[OutputError]:
    """The error of each output of a candidate."""
    for named, own in zip(_named(answer, candidate), noise or [0.0] * len(candidate), strict=True):
        yield compare(*named, tolerance, own, reference.longest_sum)


def _named(answer: Answer, candidate: Outputs) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """For each output: its name, the candidate's value, the reference's value, and the exact (float64) value."""
    for (name, ours), (_, theirs), (_, truth) in zip(candidate, answer.own, answer.exact, strict=True):
        yield name, ours, theirs, truth


def free_sizes(file: RunnableFile, inputs: Inputs, names: Sequence[str]) -> Sizes:
    """The sizes that may vary in the file, as (batches, others). Sizes with equal names change together; those on a
    first axis are batches."""
    places = file.assign(inputs, names)
    named: dict[str, list[tuple[int, int]]] = {}
    for value, axes in file.free_axes().items():
        for axis, dim in axes.items():
            named.setdefault(dim, []).append((places[value], axis))
    groups = [tuple(group) for group in named.values()]
    batches = [group for group in groups if any(axis == 0 for _, axis in group)]
    together = tuple(place for group in batches for place in group)
    return list(dict.fromkeys((together, *batches))) if batches else [], [g for g in groups if g not in batches]
