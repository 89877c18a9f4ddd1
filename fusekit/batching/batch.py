"""A whole batch: what is done already is left, workers do the rest, and every result is written as it comes."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fusekit.batching.cluster import crowded, on_cluster
from fusekit.batching.cores import usable
from fusekit.batching.fingerprint import digest, versions
from fusekit.batching.item import Item
from fusekit.batching.ledger import Ledger, opened
from fusekit.batching.local import in_processes
from fusekit.batching.manifest import read_manifest
from fusekit.batching.result import Result
from fusekit.batching.summary import PAGE, write_summary
from fusekit.batching.work import Task, work
from fusekit.errors import CheckpointError, FusekitError

TRIES = 3
Said = Callable[[Result, int, int], None]
Pool = Callable[[list[Task]], Iterator[Result]]


@dataclass(frozen=True)
class Batch:
    """What became of all items of a batch.

    Args:
        results: one for each item, in the order of the manifest.
        folder: with `summary.csv`, `summary.parquet`, `index.html`, the `reports`, and what is needed to go on.
        done_before: how many items were left as they were, because they had been done before.
        seconds: how long it took.
        notes: messages for the user.
    """

    results: tuple[Result, ...]
    folder: Path
    done_before: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all items are valid."""
        return all(result.ok for result in self.results)

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that are not valid."""
        return tuple(result for result in self.results if not result.ok)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {
            "ok": self.ok,
            "folder": str(self.folder),
            "done_before": self.done_before,
            "seconds": self.seconds,
            "notes": list(self.notes),
            "results": [result.to_dict() for result in self.results],
        }

    def __rich__(self) -> Group:
        counts = Counter(result.status for result in self.results)
        told = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        before = f"; {self.done_before} done before" if self.done_before else ""
        parts: list[Text | Table] = [Text(f"fusekit: {note}", style="bold yellow") for note in self.notes]
        style = "bold green" if self.ok else "bold red"
        parts.append(Text(f"{len(self.results)} items in {self.seconds:.0f} s: {told}{before}", style=style))
        if self.failures:
            table = Table(box=None, pad_edge=False, show_header=False)
            for result in self.failures[:_MOST_SHOWN]:
                table.add_row(result.name, Text(result.status, style="red"), Text(result.reason))
            parts.append(table)
        if len(self.failures) > _MOST_SHOWN:
            parts.append(Text(f"and {len(self.failures) - _MOST_SHOWN} more"))
        return Group(*parts, Text(f"see {self.folder / PAGE}"))


_MOST_SHOWN = 20


def batch(
    manifest: str | Path | Iterable[Mapping[str, Any]],
    folder: str | Path,
    *,
    client: Any = None,
    workers: int | None = None,
    threads: int | None = None,
    measure: bool = True,
    tries: int = TRIES,
    root: str | Path | None = None,
    progress: Said | None = None,
) -> Batch:
    """Export and validate many models, each as by `fusekit.export` or, for an ONNX file, `fusekit.optimize_onnx`.

    One failure does not stop the others. What is done is written to `folder` at once: the same call does the rest after
    an interruption, and again only what failed, or whose files, options or versions have changed.

    Args:
        manifest: a .csv, .jsonl or .yaml file, or its rows as mappings; the columns are name, source, factory,
            arguments, weights, inputs, output and options (docs/batch.md).
        folder: for the results, and for models without an `output`.
        client: a `distributed.Client`, whose cluster does the work; None: processes of this machine.
        workers: how many processes; by default as many as the cores give each its `threads`.
        threads: that each worker computes with; by default 1, and on a cluster as many as its worker was given.
        measure: time realizations, as `export` does, where a worker is alone on its cores; elsewhere times in the cache
            decide, or the price. The `choice` of each result says which. With False, the price decides.
        tries: how often an item is begun, at most, if its worker dies. A cluster has a setting of its own for that.
        root: the folder that paths in the manifest start from, and in which modules are looked for; by default that of
            the manifest, or the current one.
        progress: called with (result, how many are done, of how many) after each item.

    Returns:
        The Batch, with a result for each item.

    Raises:
        FusekitError: the manifest is wrong (then nothing was begun), nothing can be written to the folder, or the
            scheduler is lost.
    """
    items = read_manifest(manifest)
    start = Path(root) if root is not None else Path(manifest).parent if isinstance(manifest, str | Path) else Path()
    for name, value in (("workers", workers), ("threads", threads), ("tries", tries)):
        if value is not None and value < 1:
            raise FusekitError(f"{name} must be at least 1, got {value}")
    if client is not None:
        why = crowded(client, threads) if measure else ""

        def pool(tasks: list[Task]) -> Iterator[Result]:
            return on_cluster(tasks, client, tries, work)
    else:
        threads = threads or 1
        cores = len(usable())
        number = workers or max(1, cores // threads)
        why = _crowded(number, threads, cores)

        def pool(tasks: list[Task]) -> Iterator[Result]:
            return in_processes(tasks, number, tries, work)

    place = Path(folder).resolve()
    template = Task(items[0], start.resolve(), place, None, threads, measure, why)
    return carry_out(items, template, pool, progress)


def carry_out(items: list[Item], template: Task, pool: Pool, progress: Said | None = None) -> Batch:
    """Do all items. `template`: a task with what they have in common. `pool`: gives the results of tasks as they end.

    When it is stopped, by an exception of any kind, the summary of what has been done is written first.
    """
    started = time.perf_counter()
    with opened(template.folder) as ledger:
        tasks = [_task(item, template) for item in items]
        todo = [task for task in tasks if not _done(task, ledger)]
        done = len(tasks) - len(todo)
        names = {task.item.name for task in todo}
        results = {
            task.item.name: Result.waiting(task.item) if task.item.name in names else ledger.results[task.item.name]
            for task in tasks
        }
        finished = done
        try:
            with closing(pool(todo)) as ended:  # type: ignore[type-var]
                for result in ended:
                    ledger.add(result)
                    results[result.name] = result
                    finished += 1
                    if progress is not None:
                        progress(result, finished, len(tasks))
        finally:
            ordered = tuple(results.values())
            notes = write_summary(ordered, template.folder, tuple(versions().items()))
        return Batch(ordered, template.folder, done, round(time.perf_counter() - started, 1), tuple(notes))


def _task(item: Item, template: Task) -> Task:
    """The task of an item. If a file that it reads is missing, it has no fingerprint, and the worker says why."""
    task = replace(template, item=item.placed(template.root, template.folder))
    try:
        return replace(task, print=task.fingerprint())
    except CheckpointError:
        return task


def _done(task: Task, ledger: Ledger) -> bool:
    """Whether the file of the item, and its report, are there and what they would become again."""
    before = ledger.results.get(task.item.name)
    if before is None or not before.ok or not task.key or before.key != task.key:
        return False
    output = Path(task.item.output)
    if before.output != task.item.output or not (task.folder / before.report).exists():
        return False
    return output.exists() and digest(output) == before.digest


def _crowded(workers: int, threads: int, cores: int) -> str:
    if workers * threads <= cores:
        return ""
    return f"{workers} workers of {threads} thread{'s' * (threads > 1)} share {cores} core{'s' * (cores > 1)}"
