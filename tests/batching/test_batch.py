"""Whole batches: in this process, by processes that die, on a Dask cluster; and going on after an interruption."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

import fusekit
from fusekit.batching.cluster import connected, crowded, on_cluster
from fusekit.batching.result import Result
from fusekit.batching.work import Task
from fusekit.errors import FusekitError
from tests.support.batch_room import CODE, done, here, models, row, written
from tests.support.cli_room import run

__all__ = ["models"]  # a fixture: pytest finds it by its name in this module


def statuses(batch: fusekit.Batch) -> dict[str, str]:
    return {result.name: result.status for result in batch.results}


def counted(seen: list[str], *, stop_after: int = 99) -> Any:
    """A pool that notes what it does, and is interrupted after some items."""

    def pool(tasks: list[Task]) -> Iterator[Result]:
        for number, task in enumerate(tasks):
            if number == stop_after:
                raise KeyboardInterrupt
            seen.append(task.item.name)
            yield written(task)

    return pool


def test_one_failure_does_not_stop_the_rest(models: Path) -> None:
    rows = [row("first"), row("bad", "bad"), row("no-weights", weights="none.pt"), row("last", arguments="width=5")]
    batch = done(rows, models)
    assert statuses(batch) == {"first": "valid", "bad": "failed", "no-weights": "failed", "last": "valid"}
    reasons = {result.name: result.reason for result in batch.failures}
    assert reasons["bad"].endswith("raised ValueError: no such preset") and "none.pt" in reasons["no-weights"]
    assert not batch.ok
    first = batch.results[0]
    onnx.checker.check_model(first.output)
    assert (
        first.operators_after is not None and first.error is not None and first.choice == "by price: measuring is off"
    )
    assert (models / "out" / first.report).read_text().startswith("<!doctype html>")
    page = (models / "out" / "index.html").read_text()
    assert 'href="reports/first.html"' in page and "no such preset" in page
    with (models / "out" / "summary.csv").open() as file:
        assert [line["status"] for line in csv.DictReader(file)] == list(statuses(batch).values())


def test_the_summary_as_parquet(models: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    batch = done([row("a"), row("bad", "bad")], models)
    assert parquet.read_table(models / "out" / "summary.parquet").to_pylist() == [r.to_dict() for r in batch.results]


def test_what_is_done_is_left(models: Path) -> None:
    rows = [row("a"), row("bad", "bad")]
    done(rows, models)
    before = (models / "out/models/a.onnx").stat().st_mtime_ns
    seen: list[str] = []
    again = done([*rows, row("new", arguments="width=6")], models, counted(seen))
    assert seen == ["bad", "new"] and again.done_before == 1
    assert (models / "out/models/a.onnx").stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["code", "options", "file", "report", "output"])
def test_what_has_changed_is_done_again(change: str, models: Path) -> None:
    done([row("a"), row("b", options="seed=3")], models, counted([]))
    cells = row("a")
    if change == "code":
        (models / "nets.py").write_text(f"{CODE}\n# another line")
    elif change == "options":
        cells["options"] = "seed=1"
    elif change == "file":
        (models / "out/models/a.onnx").write_bytes(b"damaged")
    elif change == "report":
        (models / "out/reports/a.html").unlink()
    else:
        cells["output"] = "elsewhere.onnx"
    seen: list[str] = []
    done([cells, row("b", options="seed=3")], models, counted(seen))
    assert seen == (["a", "b"] if change == "code" else ["a"])


def test_an_interruption_leaves_what_is_done(models: Path) -> None:
    rows = [row(name) for name in "abc"]
    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        done(rows, models, counted(seen, stop_after=1))
    with (models / "out/summary.csv").open() as file:
        assert [line["status"] for line in csv.DictReader(file)] == ["valid", "waiting", "waiting"]
    assert statuses(done(rows, models, counted(seen))) == dict.fromkeys("abc", "valid")
    assert seen == ["a", "b", "c"]


def test_a_line_that_was_cut_off_is_done_again(models: Path) -> None:
    rows = [row(name) for name in "ab"]
    done(rows, models, counted([]))
    ledger = models / "out/ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-40])
    seen: list[str] = []
    done(rows, models, counted(seen))
    assert seen == ["b"]
    done(rows, models, counted(seen))
    assert seen == ["b"]


def test_one_batch_at_a_time_in_a_folder(models: Path) -> None:
    def pool(tasks: list[Task]) -> Iterator[Result]:
        with pytest.raises(FusekitError, match="another batch is at work in"):
            done([row("a")], models)
        return counted([])(tasks)  # type: ignore[no-any-return]

    assert done([row("a")], models, pool).ok


def test_a_worker_that_has_something_else_says_so(models: Path) -> None:
    def pool(tasks: list[Task]) -> Iterator[Result]:
        (models / "nets.py").write_text("# nothing")
        return here(tasks)

    (result,) = done([row("a")], models, pool).results
    assert result.status == "failed" and "the worker does not have what the batch was begun with: code" in result.reason


def test_processes_and_the_command_line(models: Path) -> None:
    """One worker is killed in the middle of its first item; that item is begun again."""
    rows = [row("a"), row("once", "deadly_once", arguments={"mark": str(models / "mark")}), row("bad", "bad")]
    (models / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("batch", str(models / "m.jsonl"), str(models / "out"), "--workers", "1", "--no-measure")
    told = run(*words, "--json")
    assert told.code == 1, told
    results = {each["name"]: each for each in json.loads(told.stdout)["results"]}
    assert {name: (each["status"], each["tries"]) for name, each in results.items()} == {
        "a": ("valid", 1),
        "once": ("valid", 2),
        "bad": ("failed", 1),
    }
    assert results["a"]["worker"] != results["once"]["worker"] and results["a"]["threads"] == 1
    assert told.stderr.splitlines()[-1].startswith("error: 1 of 3 items are not valid; see ")
    (models / "m.jsonl").write_text(json.dumps(rows[0]))
    assert run(*words).code == 0


def test_a_bad_manifest_on_the_command_line(models: Path) -> None:
    (models / "m.csv").write_text("source,inputs\nnets:Net,1x3xabc\n")
    told = run("batch", str(models / "m.csv"), str(models / "out"))
    assert (told.code, told.stdout) == (2, "")
    assert told.stderr.startswith("error: m.csv, row 1 (line 2), column inputs: '1x3xabc'")
    assert told.stderr.count("\n") == 1 and not (models / "out").exists()


def fake(task: Task, threads: int | None) -> Result:
    if task.item.name == "bad":
        raise RuntimeError("poisoned")
    return Result(task.item.name, status="valid", threads=threads, worker=str(os.getpid()))


def test_on_a_cluster(models: Path) -> None:
    distributed = pytest.importorskip("distributed")
    pytest.importorskip("dask")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        connected(cluster.scheduler_address) as client,
    ):
        batch = done([row("a"), row("bad")], models, lambda tasks: on_cluster(tasks, client, 3, fake))
        assert statuses(batch) == {"a": "valid", "bad": "failed"}
        assert batch.results[0].threads == 1 and batch.results[1].reason == "RuntimeError: poisoned"
        assert crowded(client, None) == "" and "have 4096 threads" in crowded(client, 4096)
        assert fusekit.batch([row("real")], models / "out", client=client, root=models).ok


def test_no_scheduler(models: Path) -> None:
    pytest.importorskip("distributed")
    with (
        pytest.raises(FusekitError, match="there is no Dask scheduler at tcp://127.0.0.1:9"),
        connected("tcp://127.0.0.1:9", 0.2),
    ):
        pass
