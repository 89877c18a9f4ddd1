"""Does one item, in whatever process it is called: load, optimize, export, validate, report.

Whatever goes wrong becomes a result. Only what ends the process is not seen here; those who started it see that.
"""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fusekit import api
from fusekit.batching.cores import own_cores
from fusekit.batching.fingerprint import Fingerprint, code_of, digest, fingerprint
from fusekit.batching.item import Item
from fusekit.batching.result import DIFFERS, FAILED, VALID, Result, measured
from fusekit.checkpoint.factory import importable, is_factory_name
from fusekit.checkpoint.load import load
from fusekit.errors import FusekitError, reason_of
from fusekit.grafting import optimize_onnx
from fusekit.model import computing_threads
from fusekit.model.preprocess import Preprocess
from fusekit.optimizing.options import CACHED, NO_MEASURE
from fusekit.runtimes import runtime
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.sampling.draw import draw, draw_for_file, try_out
from fusekit.sampling.grammar import parse_inputs
from fusekit.validation import Validation

_imported: dict[Path, str] = {}  # files whose code this process has run, with the digests they had then


@dataclass(frozen=True)
class Task:
    """An item as a worker gets it.

    Args:
        item: with absolute paths.
        root: the folder in which modules of the user are looked for.
        folder: where the reports go.
        print: the fingerprint that the item had when the batch began; None if it could not be computed.
        threads: to compute with; None: as many as the worker has been given.
        measure: whether realizations may be timed.
        crowded: why no worker may time anything, in words; "" if a worker that is alone on its cores may.
    """

    item: Item
    root: Path
    folder: Path
    print: Fingerprint | None
    threads: int | None = 1
    measure: bool = True
    crowded: str = ""

    @property
    def key(self) -> str:
        return "" if self.print is None else self.print.key

    @property
    def report(self) -> str:
        """The page of the item, relative to the folder."""
        return f"reports/{self.item.name}.html"

    @property
    def name(self) -> str:
        return self.item.name

    def ended(self, status: str, reason: str, number: int) -> Result:
        """What became of it, if no worker could say."""
        return replace(Result.waiting(self.item), status=status, reason=reason, tries=number, key=self.key)

    def fingerprint(self) -> Fingerprint:
        """What the item's file depends on, as things stand now."""
        return fingerprint(self.item, self.root, {"threads": self.threads, "measure": self.measure})


def work(task: Task, threads: int | None = None) -> Result:
    """The result of an item. `threads`: how many the worker was given, for a task that leaves that open. Raises
    nothing but what is meant to end the process."""
    started = time.perf_counter()
    number = task.threads or threads or torch.get_num_threads()
    result = replace(
        Result.waiting(task.item),
        key=task.key,
        threads=number,
        tries=1,
        worker=f"{platform.node()}:{os.getpid()}",
    )
    try:
        with importable(task.root), computing_threads(number), _choosing(task, number) as (measure, choice):
            result = replace(result, choice=choice)
            result = replace(result, **_done(task, measure))
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) if isinstance(error, FusekitError) else reason_of(error)
        result = replace(result, status=FAILED, reason=reason)
    return replace(result, seconds=round(time.perf_counter() - started, 3))


def _done(task: Task, measure: bool | str) -> dict[str, Any]:
    """Do the item. Returns the fields of its result."""
    _as_it_was(task)
    output = Path(task.item.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    verdict = _verdict(task.item, output, measure)
    page = task.folder / task.report
    page.parent.mkdir(parents=True, exist_ok=True)
    verdict.to_html(page, name=task.item.name)
    told = {**measured(verdict), "report": task.report}
    if not verdict.ok:
        first, *others = verdict.failures or ("nothing could be compared",)
        return {**told, "status": DIFFERS, "reason": f"{first}{f' (and {len(others)} more)' if others else ''}"}
    return {**told, "status": VALID, "digest": digest(output)}


def _verdict(item: Item, output: Path, measure: bool | str) -> Validation:
    words = dict(item.options or {})
    seed = words.pop("seed", 0)
    samples = parse_inputs(item.inputs)
    if item.is_file:
        target = words.get("target", ONNX_RUNTIME.name)
        inputs = draw_for_file(samples, runtime(target).load(item.source), seed) if samples else None
        return optimize_onnx(item.source, output, inputs, measure=measure, **words)
    front = words.pop("preprocess", None)
    model = load(
        item.source, factory=item.factory or None, weights=item.weights or None, arguments=item.arguments or None
    )
    if front is not None:
        model = Preprocess(**front)(model)
    example = draw(samples, model, seed)
    try_out(model, example)
    return api.export(model, output, example, measure=measure, **words)


def _as_it_was(task: Task) -> None:
    """Raises FusekitError if the item is no longer what it was when the batch began, or is another one here: other
    versions, another file of the same name, code that has changed since this process ran it."""
    found = task.fingerprint()
    if task.print is not None and (other := task.print.differs(found)):
        raise FusekitError(f"the worker does not have what the batch was begun with: {other}")
    for text in (task.item.source, task.item.factory):
        code = code_of(text, task.root) if is_factory_name(text) else None
        if code is not None and _imported.setdefault(code, digest(code)) != digest(code):
            raise FusekitError(f"{code} has changed since this worker ran it: restart the worker")


@contextmanager
def _choosing(task: Task, threads: int) -> Iterator[tuple[bool | str, str]]:
    """A context manager: the argument `measure`, and in words how realizations are chosen and why."""
    if not task.measure or os.environ.get(NO_MEASURE, "1") == "0":
        yield False, "by price: measuring is off"
    elif task.crowded:
        yield CACHED, f"by the cache, else by price: {task.crowded}"
    else:
        with own_cores(threads) as cores:
            if cores:
                yield True, f"measured, alone on core{'s' * (len(cores) > 1)} {', '.join(map(str, cores))}"
            else:
                yield CACHED, "by the cache, else by price: the worker is not alone on its cores"
