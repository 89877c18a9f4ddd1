"""Does a part of the data set, in whatever process it is called: reads samples, runs both models, measures errors.

    error(i) = ‖c(x_i) − r64(x_i)‖ / ‖r64(x_i)‖     own(i) = ‖r(x_i) − r64(x_i)‖ / ‖r64(x_i)‖

for each sample i and each output by itself. Samples of equal shapes are run together, as many as the batch has.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn

from fusekit.errors import FusekitError
from fusekit.files import scratch
from fusekit.model import computing_threads
from fusekit.on_data.source import Right, Source, right
from fusekit.on_data.verdict import SampleError
from fusekit.runtimes import runtime
from fusekit.runtimes.file import RunnableFile
from fusekit.sampling.data_set import DataSet, open_data_set
from fusekit.validation.tolerance import compare, is_float

Sample = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Chunk:
    """The samples from `start` to `stop` of the data set `data`, to be compared by a worker.

    `reference`: what is right. `candidate`: the ONNX file. `target`: the runtime that runs it. `batch`: how many
    samples are run together, at most. `threads`: to compute with; None: as many as there are now.
    """

    reference: nn.Module | Source
    candidate: Path
    data: Path
    start: int
    stop: int
    batch: int
    target: str
    threads: int | None = None

    @property
    def name(self) -> str:
        return f"{self.start}-{self.stop}"

    def ended(self, status: str, reason: str, number: int) -> "Found":
        """What became of it, if no worker could say."""
        return Found(problem=f"samples {self.start} to {self.stop - 1}: {reason}", tries=number)


@dataclass(frozen=True)
class Found:
    """What a chunk gave: an error for each sample and output; `skipped`: (sample, why) where the reference itself
    fails; `longest`: products in the longest sum; `problem`: why there is nothing at all."""

    errors: tuple[SampleError, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    longest: int = 1
    problem: str = ""
    tries: int = 1

    def tried(self, number: int) -> "Found":
        """The same, with the `number` of times that the chunk was begun."""
        return replace(self, tries=number)


def examine_here(chunk: Chunk, threads: int | None = None) -> Found:
    """`examine` for a pool: an error becomes a result. `threads`: as many as a cluster gave the worker."""
    try:
        return examine(replace(chunk, threads=chunk.threads or threads))
    except FusekitError as error:
        return Found(problem=str(error))


def examine(chunk: Chunk, progress: Callable[[int], None] = lambda done: None) -> Found:
    """Compare both models on the samples of a chunk. `progress`: called with the number of samples done. Raises
    FusekitError if a model or a sample cannot be read."""
    runs = runtime(chunk.target)
    with scratch() as room, computing_threads(chunk.threads or torch.get_num_threads()):
        candidate = runs.load(chunk.candidate)
        data = open_data_set(chunk.data, candidate.inputs)
        (example,) = data.samples(chunk.start, chunk.start + 1)
        comparing = _Comparing(data, candidate, right(chunk.reference, candidate, runs, example, room))
        size = _fixed_batch(candidate) or chunk.batch
        for start in range(chunk.start, chunk.stop, size):
            stop = min(start + size, chunk.stop)
            numbered = list(enumerate(data.samples(start, stop), start))
            for _, group in groupby(numbered, lambda each: [tuple(t.shape) for t in each[1].values()]):
                comparing.add(list(group), size if _fixed_batch(candidate) else 0)
            progress(stop - chunk.start)
        return Found(tuple(comparing.errors), tuple(comparing.skipped), tuple(data.notes), comparing.reference.longest)


class _Comparing:
    """Collects the errors of samples."""

    def __init__(self, data: DataSet, candidate: RunnableFile, reference: Right) -> None:
        self.data, self.candidate, self.reference = data, candidate, reference
        self.errors: list[SampleError] = []
        self.skipped: list[tuple[str, str]] = []

    def add(self, group: Sequence[tuple[int, Sample]], fixed: int) -> None:
        """Compare on samples of equal shapes. If one of a group fails, or outputs have no axis for the batch, each is
        taken by itself. `fixed`: the batch that the file insists on; 0: any."""
        count = len(group)
        filled = [sample for _, sample in group]
        filled += [filled[-1]] * (fixed - count if fixed else 0)
        inputs = self.reference.inputs({name: torch.cat([each[name] for each in filled]) for name in filled[0]})
        try:
            answer = self.reference.on(inputs)
        except FusekitError as error:
            if count == 1:
                self.skipped.append((self.data.name(group[0][0]), str(error)))
            else:
                self._one_by_one(group, fixed)
            return
        has_axis = all(own.dim() and own.shape[0] == len(filled) for _, own, _ in answer.outputs)
        if not has_axis and count > 1:
            if fixed:
                raise FusekitError("an output has no axis for the batch, so its samples cannot be told apart")
            self._one_by_one(group, fixed)
            return
        try:
            given = self.candidate.run(inputs, self.reference.names)
        except FusekitError as error:
            if count > 1:
                self._one_by_one(group, fixed)
            else:
                self._failed(group[0][0], f"the candidate fails where the reference runs: {error}")
            return
        if len(given) != len(answer.outputs):
            for number, _ in group:
                self._failed(number, f"{len(given)} outputs, the reference has {len(answer.outputs)}")
            return
        for place, (number, _) in enumerate(group):
            rows = slice(place, place + 1) if has_axis else slice(None)
            named = zip(answer.outputs, given, answer.noise, strict=True)
            for (name, own, exact), (_, ours), noise in named:
                ours, own, exact = (_rows(tensor, rows) for tensor in (ours, own, exact))
                self.errors.append(self._error(number, name, ours, own, exact, noise))

    def _one_by_one(self, group: Sequence[tuple[int, Sample]], fixed: int) -> None:
        for each in group:
            self.add([each], fixed)

    def _failed(self, number: int, reason: str) -> None:
        self.errors.append(SampleError(number, self.data.name(number), "", float("inf"), 0.0, reason))

    def _error(self, number: int, name: str, ours: Tensor, own: Tensor, exact: Tensor, noise: float) -> SampleError:
        found = compare(name, ours, own, exact, float("inf"), noise)
        classes = _classes(ours, own, exact) if is_float(own) and not own.is_complex() and not found.reason else None
        dtype = str(own.dtype).removeprefix("torch.")
        words = (self.data.name(number), name, found.error, found.reference_error, found.reason, dtype, classes)
        return SampleError(number, *words)


def _rows(tensor: Tensor, rows: slice) -> Tensor:
    return tensor[rows] if tensor.dim() else tensor


def _classes(ours: Tensor, own: Tensor, exact: Tensor) -> tuple[int, int, int] | None:
    """The places of the largest entries of one row of scores: of the candidate, the reference, the float64 run."""
    if own.dim() != 2 or own.shape[0] != 1 or own.shape[1] < 2:
        return None
    first, second, third = (int(each[0].argmax()) for each in (ours, own, exact))
    return first, second, third


def _fixed_batch(file: RunnableFile) -> int:
    """The batch that the file insists on; 0 if it takes any."""
    sizes = {port.shape[0] for port in file.inputs if port.shape}
    return next((size for size in sizes if isinstance(size, int)), 0)


def chunks(whole: Chunk, parts: int) -> Iterator[Chunk]:
    """The chunk in so many `parts`, each of whole batches."""
    count = whole.stop - whole.start
    size = max(1, -(-count // (parts * whole.batch))) * whole.batch
    for start in range(whole.start, whole.stop, size):
        yield replace(whole, start=start, stop=min(start + size, whole.stop))
