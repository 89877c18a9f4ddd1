"""Reads a manifest: CSV with a header, JSON lines, or a YAML list. Every mistake names the row and the column.

source,weights,inputs,output            models.csv
nets:Net,a.pt,1x3x32x32,out/a.onnx

{"source": "nets:Net", "weights": "a.pt", "inputs": ["1x3x32x32"], "options": {"opset": 18}}        models.jsonl
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from fusekit.batching.item import BadCell, Item
from fusekit.errors import FusekitError, reason_of

_YAML = (".yaml", ".yml")
_JSON = (".jsonl", ".ndjson")


def read_manifest(manifest: str | Path | Iterable[Mapping[str, Any]]) -> list[Item]:
    """The items of a manifest: a file, or the rows themselves. Raises FusekitError, in one line, for the first thing
    that is wrong with it."""
    if isinstance(manifest, str | Path):
        path = Path(manifest)
        return _checked(path.name, _rows(path))
    return _checked("the manifest", ((f"row {number}", row) for number, row in enumerate(manifest, 1)))


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(which row, what is in it)."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a mark before the first column
    except FileNotFoundError:
        raise FusekitError(f"there is no manifest {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FusekitError(f"the manifest {path} cannot be read as text: {reason_of(error)}") from error
    if path.suffix == ".csv":
        return _of_csv(path.name, text)
    if path.suffix in _JSON:
        return _of_json(path.name, text)
    if path.suffix in _YAML:
        return _of_yaml(path.name, text)
    expected = ", ".join((".csv", *_JSON, *_YAML))
    raise FusekitError(f"{path.name}: the kind of a manifest is told by its suffix; expected one of {expected}")


def _of_csv(name: str, text: str) -> Iterator[tuple[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for number, row in enumerate(reader, 1):
            where = f"row {number} (line {reader.line_num})"
            if row.get(None):
                raise FusekitError(f"{name}, {where}: more cells than the header has columns")
            cells = {column: cell for column, cell in row.items() if cell}
            for column in ("arguments", "options"):
                cell = str(cells.get(column, "")).strip()
                if cell.startswith("{"):
                    try:
                        cells[column] = json.loads(cell)
                    except ValueError as error:
                        raise FusekitError(f"{name}, {where}, column {column}: no JSON: {error}") from error
            yield where, cells
    except csv.Error as error:
        raise FusekitError(f"{name}, line {reader.line_num}: {error}") from error


def _of_json(name: str, text: str) -> Iterator[tuple[str, Any]]:
    number = 0
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        number += 1
        where = f"row {number} (line {line})"
        try:
            yield where, json.loads(content)
        except ValueError as error:
            raise FusekitError(f"{name}, {where}: no JSON: {error}") from error


def _of_yaml(name: str, text: str) -> Iterator[tuple[str, Any]]:
    try:
        yaml = import_module("yaml")
    except ImportError:
        raise FusekitError("reading YAML needs PyYAML: pip install 'fusekit-fx[batch]'") from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FusekitError(f"{name}: no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, list):
        raise FusekitError(f"{name}: expected a list of items, got {type(content).__name__}")
    yield from ((f"row {number}", row) for number, row in enumerate(content, 1))


def _checked(name: str, rows: Iterable[tuple[str, Any]]) -> list[Item]:
    items: list[Item] = []
    taken: dict[tuple[str, str], str] = {}  # names and outputs, and whose they are
    for number, (where, cells) in enumerate(rows, 1):
        if not isinstance(cells, Mapping):
            raise FusekitError(f"{name}, {where}: expected names and values, got {type(cells).__name__}")
        try:
            item = Item.of(cells, number)
            for column, value in (("name", item.name), ("output", item.output)):
                if value and (column, value) in taken:
                    raise BadCell(column, f"{value!r} is that of {taken[column, value]} too")
                taken[column, value] = where
        except BadCell as error:
            raise FusekitError(f"{name}, {where}, column {error.column}: {error}") from error
        items.append(item)
    if not items:
        raise FusekitError(f"{name}: there are no items in it")
    read = {path for item in items for path in (item.source, item.weights) if path}
    for item in items:
        if item.output in read:
            raise FusekitError(f"{name}, {taken['output', item.output]}, column output: {item.output!r} is also read")
    return items
