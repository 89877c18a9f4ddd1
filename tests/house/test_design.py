"""The drawing of the way through in docs/design.md is the way that the code takes."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(r"^    ( *)([\w/]+\.py) +([\w.]+)", re.M)


def stations() -> list[tuple[int, str, str]]:
    """How far in, the file, and the function of each line."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    return [(len(spaces), file, name) for spaces, file, name in LINE.findall(text)]


def source(file: str) -> str:
    return (ROOT / "fusekit" / file).read_text(encoding="utf-8")


def defined(file: str) -> set[str]:
    """Functions and classes of a file, and the methods of these as `Class.method`."""
    names: set[str] = set()
    for node in ast.parse(source(file)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return names


def test_each_station_stands_where_it_is_drawn() -> None:
    drawn = stations()
    assert len(drawn) > 20
    assert [f"{file}: {name}" for _, file, name in drawn if name not in defined(file)] == []


def test_each_station_is_called_by_the_one_above_it() -> None:
    wrong, above = [], dict[int, str]()
    for depth, file, name in stations():
        above[depth] = file
        caller = above.get(depth - 2)
        if depth and (caller is None or f"{name.split('.')[-1]}(" not in source(caller)):
            wrong.append(f"{file}: {name}, by {caller}")
    assert wrong == []
