"""Finds where the results of two models part: the first value of both that differs by more than its tolerance.

Both models are cut at the same values, run up to the cut, and what crosses it is judged against the first model in
float64. Halving takes log2 of the number of common values. Each run holds one model and what crosses the cut.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fusekit.comparing.common_values import Pair, between, common_values, cut
from fusekit.comparing.halving import first_that_differs
from fusekit.comparing.matching import Matching, path_of
from fusekit.comparing.meaning import meanings
from fusekit.comparing.parting import Entry, Parting, Place
from fusekit.comparing.regions import Regions
from fusekit.comparing.rewrites import bisect_rewrites
from fusekit.comparing.runs import Run, run_of
from fusekit.comparing.side import Side, Source, name_of, open_sides
from fusekit.errors import FusekitError, told_as
from fusekit.grafting import inputs_for
from fusekit.model import Inputs, plain_modes
from fusekit.model.alone import alone
from fusekit.runtimes import runtime
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.runtimes.protocol import Runtime
from fusekit.validation.tolerance import OutputError, compare


@told_as(FusekitError, "looking for where the models part")
@alone()
@plain_modes()
def bisect(
    reference: Source,
    candidate: Source | None = None,
    example_inputs: object = None,
    *,
    tolerance: float | None = None,
    target: str = ONNX_RUNTIME.name,
    passes: Sequence[str] | None = None,
) -> Parting:
    """Where the results of a candidate part from those of a reference, found by halving.

    Args:
        reference: the model whose results are right: a module, an ONNX file, or an archive of torch.export.
        candidate: the model that differs, as `reference`. None: what `optimize` makes of the reference; then the
            rewrites are halved, and the first one after which the results differ is found. Nothing is timed there.
        example_inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments. If both models are
            files they may be left out; then they are drawn from what the first file declares.
        tolerance: bound on the relative error of every value; by default derived from the reference's own rounding
            error there.
        target: the runtime that runs files, and that rewrites are priced for.
        passes: the rewrites to use, where these are halved; all by default.

    Raises:
        FusekitError: a model cannot be read as one graph or does not run on the inputs, or the models have no values in
            common.
    """
    if candidate is None:
        return _of_rewrites(reference, example_inputs, tolerance, target, passes)
    running = runtime(target) if runtime(target).reads_files else ONNX_RUNTIME
    with open_sides(reference, candidate, example_inputs) as sides:
        inputs, names = _inputs(sides, example_inputs, running)
        pairs = _common(sides)
        for side in sides:
            if side.path is not None:
                side.graph.constants.clear()  # a file is read again, part by part
        found = _Bisection(sides, pairs, inputs, names, running, tolerance).run()
        return replace(found, names=(name_of(reference), name_of(candidate)))


def _common(sides: tuple[Side, Side]) -> list[Pair]:
    """The values in common. What was read of the weights for this is not kept."""
    matching = Matching(*sides, (meanings(sides[0]), meanings(sides[1])))
    return common_values(matching, Regions(matching))


def _of_rewrites(
    model: Source, example_inputs: object, tolerance: float | None, target: str, passes: Sequence[str] | None
) -> Parting:
    if not isinstance(model, nn.Module):
        raise FusekitError("rewrites are halved for modules only: give a second model to compare this file with")
    if example_inputs is None:
        raise FusekitError("example inputs are needed to see where results part")
    return bisect_rewrites(model, Inputs.of(example_inputs), tolerance, target, passes)


def _inputs(sides: tuple[Side, Side], example_inputs: object, running: Runtime) -> tuple[Inputs, list[str]]:
    """The inputs, and the name of each of their tensors."""
    module = next((side.module for side in sides if side.module is not None), None)
    if module is not None:
        if example_inputs is None:
            raise FusekitError("example inputs are needed to see where results part")
        inputs = Inputs.of(example_inputs)
        return inputs, inputs.names(module)
    assert sides[0].path is not None
    return inputs_for(running.load(sides[0].path), example_inputs)


@dataclass
class _Bisection:
    """Two models, the pairs of values that they have in common, and inputs."""

    sides: tuple[Side, Side]
    pairs: list[Pair]
    inputs: Inputs
    names: list[str]
    runtime: Runtime
    tolerance: float | None
    runs: int = 0
    seen: dict[int, tuple[OutputError, Entry | None]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ours, theirs = self.sides
        self.order = {a: place for place, (a, _) in enumerate(self.pairs)}
        self._reference: Run = run_of(ours, self.inputs, self.names, self.runtime)
        self._candidate: Run = run_of(theirs, self.inputs, self.names, self.runtime)

    def run(self) -> Parting:
        outputs = max((each for each, _ in self._judged(None)), key=_badness)
        told = ("", ""), outputs
        if outputs.ok:
            return Parting(*told, self.runs, len(self.pairs), notes=tuple(self.notes))
        if not self.pairs:
            raise FusekitError(
                f"the results differ (error {outputs.error:.1e}, tolerance {outputs.tolerance:.1e}), but the models "
                "have no values in common: nothing was matched by weights, names or place (`fusekit diff` shows both)"
            )
        count = len(self.pairs) + 1  # the outputs are the last value
        place = first_that_differs(count, self._differs)
        known = cut(self.sides[0], self.order, place - 1)
        before, after = self._between(place, known)
        value, entry = self.seen.get(place, (outputs, None))
        agreed = tuple(_place(self.sides[0], name) for name in known if self._is_read(before, name))
        steps = (self.runs, len(self.pairs))
        return Parting(*told, *steps, value, entry, before[0], after[0], agreed, None, "values", tuple(self.notes))

    def _between(self, place: int, known: list[str]) -> tuple[tuple[tuple[Place, ...], list[str]], ...]:
        """The operators of each side that compute a value from known ones."""
        ours, theirs = self.sides
        back = dict(self.pairs)
        a, b = self.pairs[place] if place < len(self.pairs) else (_output(ours), _output(theirs))
        found = between(ours, a, known), between(theirs, b, [back[name] for name in known])
        return tuple((tuple(_place(s, n) for n in names), names) for s, names in zip(self.sides, found, strict=True))

    def _is_read(self, before: tuple[tuple[Place, ...], list[str]], name: str) -> bool:
        return any(name in self.sides[0].boxes[reader].inputs for reader in before[1])

    def _differs(self, place: int) -> int | None:
        """The number of the first value that crosses the cut behind value `place` and differs."""
        names = cut(self.sides[0], self.order, place)
        if not names:
            return None
        for name, judged in zip(names, self._judged(names), strict=True):
            if not judged[0].ok:
                number = self.order[name]
                self.seen[number] = judged
                return number
        return None

    def _judged(self, names: list[str] | None) -> list[tuple[OutputError, Entry | None]]:
        """Run both models up to these values of the first (None: to the outputs), and judge each."""
        self.runs += 1
        partner = dict(self.pairs)
        answer = self._reference.answer(names)
        if answer.note:
            self.notes[answer.note] = None
        given = self._candidate.values(None if names is None else [partner[name] for name in names])
        if len(given) != len(answer.own):
            raise FusekitError(f"the models have {len(answer.own)} and {len(given)} outputs")
        found = []
        rows = zip(given, answer.own, answer.exact, answer.noise, strict=True)
        for place, (ours, theirs, exact, noise) in enumerate(rows):
            name = f"output {place}" if names is None else names[place]
            error = compare(name, ours, theirs, exact, self.tolerance, noise, answer.longest)
            found.append((error, None if error.ok else _entry(ours, theirs, exact)))
        return found


def _output(side: Side) -> str:
    return next(box.id for box in side.boxes.values() if box.operator == "output")


def _place(side: Side, name: str) -> Place:
    box = side.boxes[name]
    where = box.where if side.path is not None else path_of(side, name) or name
    return Place(box.operator.strip("_"), where, side.lines.get(name, ""))


def _entry(candidate: Tensor, reference: Tensor, exact: Tensor) -> Entry | None:
    """The entry that differs most; None where there is none to show."""
    if candidate.shape != exact.shape or not exact.numel() or candidate.is_complex():
        return None
    distance = (candidate.double() - exact.double()).abs().nan_to_num(math.inf, math.inf)
    index = tuple(int(each) for each in torch.unravel_index(distance.argmax(), exact.shape))
    return Entry(index, *(float(each[index]) for each in (exact, reference, candidate)))


def _badness(each: OutputError) -> float:
    return math.inf if math.isnan(each.error) else each.error / (each.tolerance or 1e-300)
