"""Whether a candidate computes what the reference computes, judged by the reference run in float64.

    error           = ‖candidate − r64‖ / ‖r64‖      worst over outputs and probes
    reference_error = ‖reference − r64‖ / ‖r64‖      at that same place
    ok              ⇔  error ≤ max(16 · reference_error, 32 · eps)  everywhere (compare.py says why)

The candidate is a module or an ONNX file. What the reference itself refuses to run is skipped; what it runs, the
candidate must run too.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusekit.errors import FusekitError
from fusekit.model.float64 import run_float64
from fusekit.model.inputs import Inputs
from fusekit.model.program import evaluation_copy, quiet, reason_of
from fusekit.runtimes.onnx_session import OnnxFile
from fusekit.validation.probes import GIVEN, QUIET, WIDE_RANGE, Probe, Size, guess_sizes, plan_probes
from fusekit.validation.tolerance import compare, compare_quiet, longest_sum, outputs_of, relative_error
from fusekit.validation.verdict import REFUSED, ProbeResult, Validation

Outputs = list[tuple[str, Tensor]]
Sizes = tuple[Sequence[Size], Sequence[Size]]

# The rounding error of a single number is a matter of luck: of an output this small, further draws are taken.
FEW_ELEMENTS = 4
DRAWS = (1 + 2**-5, 1 - 2**-6, 1 + 2**-7)


def validate(
    reference: nn.Module,
    candidate: nn.Module | str | Path,
    example_inputs: object,
    *,
    tolerance: float | None = None,
) -> Validation:
    """Compare a module or an ONNX file with the reference, both in eval mode; neither is changed.

    Probes: the given inputs, batches of 1 and 3, odd and even sizes where these are free, and a wide dynamic range.
    `tolerance`: a bound on the relative error in place of the one derived from the reference's own. It then holds for
    the quiet region of the wide range by itself too, where a convolution by FFT is less accurate than a direct one.
    Raises `FusekitError` where there is nothing to compare: the reference refuses the given inputs, or the file does
    not load. Anything the candidate gets wrong is in the result.
    """
    inputs = Inputs.of(example_inputs)
    names = inputs.names(reference)
    original = evaluation_copy(reference)
    if isinstance(candidate, nn.Module):
        copied = evaluation_copy(candidate)
        sizes: Sizes = guess_sizes(inputs)
        judge = _Judge(original, lambda probe: outputs_of(_run(copied, probe)), tolerance)
    else:
        file = OnnxFile(candidate)
        sizes = _free_sizes(file, inputs, names)
        judge = _Judge(original, lambda probe: file.run(probe, names), tolerance)
    results: list[ProbeResult] = []
    worked: dict[str, set[int]] = {name: set() for name in names}
    for probe in plan_probes(inputs, *sizes):
        for tried, result in judge.results(probe):
            results.append(result)
            if result.outputs and not result.failure:
                for index, axis in tried.varied:
                    worked[names[index]].add(axis)
    return Validation(tuple(results), {name: tuple(sorted(axes)) for name, axes in worked.items()})


class _Judge:
    """Runs reference and candidate on one probe after another and compares."""

    def __init__(self, original: nn.Module, run: Callable[[Inputs], Outputs], tolerance: float | None) -> None:
        self._original = original
        self._run = run
        self._tolerance = tolerance
        self._longest = longest_sum(original)

    def results(self, probe: Probe) -> Iterator[tuple[Probe, ProbeResult]]:
        """The result of this probe, or, where the reference refuses it, of those to try instead."""
        if probe.name == WIDE_RANGE and not any(_is_float(tensor) for tensor in probe.inputs.tensors()):
            yield probe, ProbeResult(probe.name, skipped="no floating input")
            return
        try:
            result = _run(self._original, probe.inputs)
        except Exception as error:
            if probe.name == GIVEN:
                raise FusekitError(f"the reference itself fails on the example inputs: {reason_of(error)}") from error
            yield probe, ProbeResult(probe.name, skipped=f"{REFUSED} ({reason_of(error)})")
            for smaller in probe.instead:
                yield from self.results(smaller)
            return
        reference = outputs_of(result)
        if probe.name == WIDE_RANGE and not all(bool(tensor.isfinite().all()) for _, tensor in reference):
            yield probe, ProbeResult(probe.name, skipped="overflows in the reference itself")
            return
        for judged in self._compared(probe, reference):
            yield probe, judged

    def _compared(self, probe: Probe, reference: Outputs) -> Iterator[ProbeResult]:
        try:
            candidate = self._run(probe.inputs)
        except Exception as error:
            said = str(error) if isinstance(error, FusekitError) else reason_of(error)
            yield ProbeResult(probe.name, failure=f"the candidate fails where the reference runs: {said}")
            return
        exact = outputs_of(run_float64(self._original, probe.inputs))
        if len(candidate) != len(reference):
            yield ProbeResult(probe.name, failure=f"{len(candidate)} outputs, the reference has {len(reference)}")
            return
        noise = self._noise(probe.inputs, reference)
        named = [
            (*ours, theirs, truth) for ours, (_, theirs), (_, truth) in zip(candidate, reference, exact, strict=True)
        ]
        pairs = zip(named, noise, strict=True)
        judged = (compare(*each, self._tolerance, own, self._longest) for each, own in pairs)
        yield ProbeResult(probe.name, tuple(judged))
        if probe.name == WIDE_RANGE and self._tolerance is not None:
            quiet = [compare_quiet(*each, self._tolerance) for each in named]
            if found := tuple(each for each in quiet if each is not None):
                yield ProbeResult(QUIET, found)

    def _noise(self, inputs: Inputs, reference: Outputs) -> list[float]:
        """The reference's own error on outputs too small to show it in one draw: the inputs scaled a little, thrice."""
        few = [_is_float(tensor) and tensor.numel() < FEW_ELEMENTS for _, tensor in reference]
        worst = [0.0] * len(reference)
        if self._tolerance is not None or not any(few):
            return worst
        for scale in DRAWS:
            scaled = inputs.replaced([t * scale if _is_float(t) else t for t in inputs.tensors()])
            own = outputs_of(_run(self._original, scaled))
            exact = outputs_of(run_float64(self._original, scaled))
            for index, small in enumerate(few):
                if small:
                    error = relative_error(own[index][1], own[index][1], exact[index][1])
                    worst[index] = max(worst[index], error)
        return worst


def _run(module: nn.Module, inputs: Inputs) -> Any:
    with torch.no_grad(), quiet():
        return inputs.cloned().call(module)


def _free_sizes(file: OnnxFile, inputs: Inputs, names: Sequence[str]) -> Sizes:
    """The sizes that the file leaves free: equal names change together, those on a first axis are batches."""
    places = file.assign(inputs, names)
    named: dict[str, list[tuple[int, int]]] = {}
    for value, axes in file.free_axes().items():
        for axis, dim in axes.items():
            named.setdefault(dim, []).append((places[value], axis))
    groups = [tuple(group) for group in named.values()]
    batches = [group for group in groups if any(axis == 0 for _, axis in group)]
    together = tuple(place for group in batches for place in group)
    return list(dict.fromkeys((together, *batches))) if batches else [], [g for g in groups if g not in batches]


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
