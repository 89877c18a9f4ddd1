"""The results of a batch as files: a table as CSV and as Parquet, and a page that links to all reports."""

import csv
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

from fusekit.batching.result import Result
from fusekit.files import staged
from fusekit.page.index import Index, IndexRow, write_index
from fusekit.report import Measure

CSV, PARQUET, PAGE = "summary.csv", "summary.parquet", "index.html"
COLUMNS = tuple(field.name for field in fields(Result))
_KINDS = {str: "string", int: "int64", float: "float64"}


def write_summary(results: Sequence[Result], folder: Path, facts: Sequence[tuple[str, str]] = ()) -> list[str]:
    """Write all files of the summary, each whole or not at all. `facts`: (name, value) of the circumstances. Returns
    notes for the user. Raises ExportError if a file cannot be written."""
    _write_csv(results, folder / CSV)
    write_index(_index(results, facts), folder / PAGE)
    return _write_parquet(results, folder / PARQUET)


def _write_csv(results: Sequence[Result], path: Path) -> None:
    with staged(path) as stage, stage.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        writer.writerows(result.to_dict() for result in results)


def _write_parquet(results: Sequence[Result], path: Path) -> list[str]:
    try:
        arrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError:
        return [f"{path.name} was not written, because pyarrow is missing: pip install 'fusekit-fx[batch]'"]
    hints = get_type_hints(Result)
    kinds = {name: next(iter(get_args(hints[name])), hints[name]) for name in COLUMNS}  # of `int | None` the int
    schema = arrow.schema([(name, getattr(arrow, _KINDS[kind])()) for name, kind in kinds.items()])
    table = arrow.Table.from_pylist([result.to_dict() for result in results], schema=schema)
    with staged(path) as stage:
        parquet.write_table(table, stage)
    return []


def _index(results: Sequence[Result], facts: Sequence[tuple[str, str]]) -> Index:
    return Index("A batch of models", tuple(map(_row, results)), tuple(facts))


def _row(result: Result) -> IndexRow:
    size = Measure("file", None, result.bytes, "B")
    operators = Measure("operators", result.operators_before, result.operators_after)
    return IndexRow(
        name=result.name,
        link=result.report,
        status=result.status,
        ok=result.ok,
        error=result.error,
        operators=_change(operators),
        speedup=result.speedup,
        bytes=result.bytes,
        size="" if result.bytes is None else size.spelled(size.after),
        seconds=result.seconds,
        note=result.reason or result.choice,
    )


def _change(measure: Measure) -> str:
    if measure.before is None or measure.after is None:
        return ""
    return f"{measure.spelled(measure.before)} → {measure.spelled(measure.after)}"
