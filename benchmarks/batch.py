"""Batches on a real cluster of processes that fails in the middle: 200 checkpoints, a killed worker, a scheduler that
is lost, an item that cannot be done, a full disk; then 1 and 2 workers; then what the manager needs for 10,000 items.

    python -m benchmarks.batch FOLDER [--items 200] [--many 10000]

Needs `fusekit-fx[dask]`. Writes docs/benchmarks/batch.md and batch.csv.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import distributed
import torch

from benchmarks.record import WHERE, machine, write_csv
from fusekit.batching.batch import Batch, batch, carry_out
from fusekit.batching.fingerprint import digest
from fusekit.batching.item import Item
from fusekit.batching.result import Result
from fusekit.batching.work import Task
from fusekit.errors import FusekitError

CODE = """
import os, signal
import torch
from torch import nn

def net(width=8):
    return nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                         nn.Conv2d(width, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()).eval()

def poisoned():
    os.kill(os.getpid(), signal.SIGKILL)
"""
PORT = 28786
NO_MEASURE = {"OMP_NUM_THREADS": "1", "FUSEKIT_MEASURE": "0"}


@contextmanager
def scheduler() -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler in a process of its own."""
    words = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(PORT), "--no-dashboard"]
    with _process(words) as running:
        yield running


@contextmanager
def worker(number: int, folder: Path, limit: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A worker with one thread. `limit`: the largest file, in bytes, that it can write: what a full disk is to it."""
    words = ["distributed.cli.dask_worker", f"tcp://127.0.0.1:{PORT}", "--nthreads", "1", "--no-dashboard", "--name"]
    words += [str(number), "--local-directory", str(folder / f"worker{number}"), "--nanny"]
    with _process(words, limit) as running:
        yield running


@contextmanager
def _process(words: list[str], limit: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    def limited() -> None:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    running = subprocess.Popen(
        [sys.executable, "-m", *words],
        env=os.environ | NO_MEASURE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=limited,
    )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextmanager
def client(workers: int) -> Iterator[Any]:
    with distributed.Client(f"tcp://127.0.0.1:{PORT}", timeout=60, set_as_default=False) as found:
        found.wait_for_workers(workers, timeout=120)
        yield found


def checkpoints(folder: Path, count: int) -> list[dict[str, Any]]:
    """So many state dicts of a small network, as rows of a manifest."""
    (folder / "nets.py").write_text(CODE)
    build: dict[str, Any] = {}
    exec(CODE, build)
    rows = []
    for number in range(count):
        torch.manual_seed(number)
        torch.save(build["net"]().state_dict(), folder / f"{number:03}.pt")
        rows.append(row(f"{number:03}", weights=f"{number:03}.pt"))
    return rows


def row(name: str, factory: str = "net", **more: object) -> dict[str, Any]:
    return {"name": name, "source": f"nets.py:{factory}", "inputs": "1x3x16x16", **more}


def told(case: str, found: Batch, **more: Any) -> dict[str, Any]:
    """A line of the table."""
    statuses = Counter(result.status for result in found.results)
    tries = Counter(result.tries for result in found.results)
    reasons = sorted({result.reason for result in found.failures})
    return {
        "case": case,
        "items": len(found.results),
        "done before": found.done_before,
        **{status: statuses[status] for status in ("valid", "failed", "died", "waiting")},
        "begun again": sum(count for number, count in tries.items() if number > 1),
        "seconds": found.seconds,
        "reason": "; ".join(reasons)[:160],
        **more,
    }


def faults(folder: Path, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """200 items on two workers, one of them killed, then the scheduler; the same call goes on; then bad items."""
    out = folder / "out"
    quarter, half = len(rows) // 4, len(rows) // 2
    with scheduler() as first, worker(1, folder), worker(2, folder), client(2) as asking:
        pids = list(asking.run(os.getpid).values())
        killed = []

        def disturb(result: Result, done: int, total: int) -> None:
            if done == quarter and not killed:
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])
            if done == half and first.poll() is None:
                first.kill()

        started = time.perf_counter()
        try:
            found = batch(rows, out, client=asking, measure=False, root=folder, progress=disturb)
            yield told("a worker killed, the scheduler killed", found)
        except FusekitError as error:
            with (out / "ledger.jsonl").open() as ledger:
                done = sum(1 for _ in ledger)
            took = round(time.perf_counter() - started, 1)
            case = {"case": f"a worker killed after {quarter}, the scheduler after {half}", "items": len(rows)}
            yield {**case, "valid": done, "seconds": took, "reason": str(error)}
    files = {path.name: path.stat().st_mtime_ns for path in (out / "models").glob("*.onnx")}
    with scheduler(), worker(1, folder), worker(2, folder), client(2) as asking:
        found = batch(rows, out, client=asking, measure=False, root=folder)
        left = sum((out / "models" / name).stat().st_mtime_ns == time for name, time in files.items())
        yield told("the same call, with a new scheduler", found, left_as_they_were=left)
        more = [*rows, row("poisoned", "poisoned"), row("missing", weights="none.pt")]
        yield told(
            "an item that kills its worker, one without its file",
            batch(more, out, client=asking, measure=False, root=folder),
        )
        yield told("the same call again", batch(more, out, client=asking, measure=False, root=folder))
    few = rows[:20]
    with scheduler(), worker(1, folder, 2048), client(1) as asking:
        yield told(
            "a worker that can write no file above 2 KiB",
            batch(few, folder / "full", client=asking, measure=False, root=folder),
        )
    with scheduler(), worker(1, folder), client(1) as asking:
        yield told("the same call, with room", batch(few, folder / "full", client=asking, measure=False, root=folder))


def scaling(folder: Path, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same items on 1 and on 2 workers that have run an item before."""
    for workers in (1, 2):
        with scheduler(), worker(1, folder), client(1) as asking:
            if workers == 2:
                with worker(2, folder):
                    yield _scaled(folder, rows, workers, asking)
            else:
                yield _scaled(folder, rows, workers, asking)


def _scaled(folder: Path, rows: list[dict[str, Any]], workers: int, asking: Any) -> dict[str, Any]:
    asking.wait_for_workers(workers, timeout=120)
    warm = [row(f"warm{number}", arguments={"width": 4 + number}) for number in range(2 * workers)]
    batch(warm, folder / f"warm{workers}", client=asking, measure=False, root=folder)
    found = batch(rows, folder / f"scaled{workers}", client=asking, measure=False, root=folder)
    return told(f"{workers} worker{'s' * (workers > 1)}", found)


def bookkeeping(folder: Path, counts: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Items whose worker only writes two small files, so that what is left is the manager: fingerprints, ledger,
    results, summary; and the next call, which finds all done."""

    def pool(tasks: list[Task]) -> Iterator[Result]:
        for task in tasks:
            paths = (Path(task.item.output), task.folder / task.report)
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(task.item.name)
            yield replace(
                Result.waiting(task.item), status="valid", report=task.report, key=task.key, digest=digest(paths[0])
            )

    for count in counts:
        items = [Item.of(row(f"{number:05}", arguments={"width": number}), number + 1) for number in range(count)]
        template = Task(items[0], folder, folder / f"many{count}", None, measure=False)
        for case in ("all new", "all done before"):
            began = time.process_time()
            found = carry_out(items, template, pool)
            spent = 1e3 * (time.process_time() - began) / count
            yield told(f"manager, {case}", found, cpu_ms_per_item=round(spent, 3))


def write(rows: list[dict[str, Any]]) -> None:
    """The table as CSV and as Markdown."""
    write_csv(WHERE / "batch.csv", rows)
    columns = list(dict.fromkeys(name for each in rows for name in each))
    told_of = machine("torch", "onnxruntime", "dask", "distributed")
    lines = [f"# Batches\n\n{told_of}. Made by `python -m benchmarks.batch`.\n"]
    lines += [" | ".join(("", *columns, "")).strip(), " | ".join(("", *("---" for _ in columns), "")).strip()]
    lines += [" | ".join(("", *(str(each.get(name, "")) for name in columns), "")).strip() for each in rows]
    (WHERE / "batch.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--many", type=int, default=10000)
    words = parser.parse_args()
    folder = words.folder.resolve()
    folder.mkdir(parents=True)
    os.environ |= NO_MEASURE
    rows = checkpoints(folder, words.items)
    found: list[dict[str, Any]] = []
    many = (words.many // 100, words.many // 10, words.many)
    for part in (faults(folder, rows), scaling(folder, rows[: words.items // 4]), bookkeeping(folder, many)):
        for line in part:
            print(line, flush=True)
            found.append(line)
            write(found)


if __name__ == "__main__":
    main()
