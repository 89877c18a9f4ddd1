"""The whole comparison: the data set in parts, the parts in this process or in a pool, and one verdict."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
from torch import nn

from fusekit.batching.batch import TRIES
from fusekit.batching.cluster import on_cluster
from fusekit.batching.local import in_processes
from fusekit.errors import ExportError, FusekitError, told_as
from fusekit.files import staged
from fusekit.model import plain_modes
from fusekit.model.alone import alone
from fusekit.on_data.chunk import Chunk, Found, chunks, examine, examine_here
from fusekit.on_data.source import Source
from fusekit.on_data.verdict import OnData, furthest, judged
from fusekit.runtimes import runtime
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.sampling.data_set import DataSet, open_data_set

BATCH, WORST = 32, 5
_PARTS = 4  # for each worker, so that all end at about the same time


@told_as(FusekitError, "validating")
def validate_on_data(
    reference: nn.Module | Source | str | Path,
    candidate: str | Path,
    data: str | Path,
    *,
    batch: int = BATCH,
    worst: int = WORST,
    save: str | Path | None = None,
    tolerance: float | None = None,
    target: str = ONNX_RUNTIME.name,
    workers: int | None = None,
    client: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> OnData:
    """Compare an ONNX file with the reference on every sample of a data set, read a batch at a time. What stays in
    memory is a few numbers for each sample and output.

    Args:
        reference: the module that is right; or, in words, a `Source`, the source of one, or an ONNX file.
        candidate: the ONNX file.
        data: a folder of images or of .npy files, or a .npy, .npz or .parquet file (docs/validate.md).
        batch: how many samples are run together, at most.
        worst: how many of the samples that are furthest off are reported.
        save: a folder for these samples, `worst-1.npz` and so on, which `--input` takes; None: they are not kept.
        tolerance: a bound on the relative error of each sample, in place of the derived one.
        target: the name of the runtime that runs the file.
        workers: so many processes of one thread each; None: this process. The reference must be given in words.
        client: a `distributed.Client`, whose workers do it; they must see the same files.
        progress: called with (samples done, of how many).

    Returns:
        The OnData, with the distribution of errors.

    Raises:
        FusekitError: a model, the data set or a sample cannot be read.
    """
    started = time.perf_counter()
    source = Source(str(reference)) if isinstance(reference, str | Path) else reference
    for name, value in (("batch", batch), ("workers", workers)):
        if value is not None and value < 1:
            raise FusekitError(f"{name} must be at least 1, got {value}")
    if (workers is not None or client is not None) and isinstance(source, nn.Module):
        raise FusekitError(
            "other processes cannot take a module; give the reference in words, such as 'file.py:factory'"
        )
    source = source if isinstance(source, nn.Module) else source.placed()
    opened = open_data_set(data, runtime(target).load(candidate).inputs)
    folder = None if save is None else _made(Path(save))
    count = len(opened)
    whole = Chunk(source, Path(candidate).resolve(), Path(data).resolve(), 0, count, batch, target)
    found = []
    for each, done in _found(whole, workers, client, progress):
        if each.problem:
            raise FusekitError(each.problem)
        found.append(each)
        if progress is not None:
            progress(done, count)
    errors = sorted((e for each in found for e in each.errors), key=lambda e: e.number)
    errors = list(judged(errors, max(each.longest for each in found), tolerance))
    skipped = [pair for each in found for pair in each.skipped]
    furthest_off = furthest(errors, worst)
    if folder is not None:
        for rank, error in enumerate(furthest_off, 1):
            _save(opened, error.number, folder / f"worst-{rank}.npz")
    name = type(source).__name__ if isinstance(source, nn.Module) else Path(source.source).name
    notes = tuple(dict.fromkeys(note for each in found for note in each.notes))
    names = (name, Path(candidate).name, Path(data).name)
    seconds = round(time.perf_counter() - started, 1)
    return OnData(tuple(errors), tuple(skipped), count, names, furthest_off, seconds, notes)


def _found(
    whole: Chunk, workers: int | None, client: Any, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[Found, int]]:
    """What each part gave, and how many samples are done then."""
    if workers is None and client is None:
        with alone(), plain_modes():
            yield examine(whole, lambda done: progress(done, whole.stop) if progress else None), whole.stop
        return
    number = workers or max(1, len(client.nthreads()))
    parts = list(chunks(whole, number * _PARTS))
    if client is not None:
        ended = on_cluster(parts, client, TRIES, examine_here)
    else:
        ended = in_processes([replace(part, threads=1) for part in parts], number, TRIES, examine_here)
    done = 0
    for each in ended:
        done += len({error.number for error in each.errors}) + len(each.skipped)
        yield each, done


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"cannot write to {folder}: {error.strerror or error}") from error
    return folder


def _save(data: DataSet, number: int, path: Path) -> None:
    """The sample as a batch of one, its arrays by the names of the inputs."""
    (sample,) = data.samples(number, number + 1)
    with staged(path) as stage:
        numpy.savez(stage, **{name: tensor.numpy() for name, tensor in sample.items()})  # type: ignore[arg-type]
