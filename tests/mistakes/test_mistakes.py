"""docs/mistakes.md is the table: each mistake in it is made, and must be answered as the table says.

A line of the table is `| what: `a command or an expression` | the answer |`. An answer that begins with "works" is that
of something that simply works. In others, `...` stands for any text, and the way out is **bold**.
"""

import io
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
import torch
from torch import nn

import fusekit
from tests.mistakes.newcomer import move_in
from tests.support.cli_room import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "mistakes.md"
LINE = re.compile(r"\| (?P<what>.+?): `(?P<made>.+?)` \| (?P<told>.+) \|")
ROWS = [found for line in PAGE.read_text(encoding="utf-8").splitlines() if (found := LINE.fullmatch(line))]
WORKS = [row for row in ROWS if row["told"].startswith("works")]
TOLD = [row for row in ROWS if row not in WORKS]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("newcomer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        move_in(home)
    return home


@pytest.fixture(autouse=True)
def inside(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the folder of the newcomer. What was written there is removed again."""
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(str(home))
    sys.modules.pop("nets", None)
    before = _files(home)
    yield
    for name in _files(home) - before:
        (home / name).unlink()


def _files(home: Path) -> set[str]:
    return {str(file.relative_to(home)) for file in home.rglob("*") if "__pycache__" not in file.parts}


def _scope() -> dict[str, Any]:
    import nets  # type: ignore[import-not-found]

    torch.manual_seed(0)
    own = {name: value for name, value in vars(nets).items() if not name.startswith("_")}
    given = {"fusekit": fusekit, "torch": torch, "numpy": numpy, "onnx": onnx, "nn": nn, "Path": Path, "io": io}
    return {**own, **given, "model": nets.Net().eval(), "x": torch.randn(1, 3, 8, 8)}


def _made(row: re.Match[str]) -> str:
    return row["made"].replace("\\|", "|")


def _answer(made: str) -> str:
    """The one line that a mistake is answered with. Fails if there is no such answer, or not one line."""
    if made.startswith("fusekit "):
        result = run(*shlex.split(made)[1:])
        assert result.code == 2, result
        assert result.stdout == ""
        told = [line for line in result.stderr.splitlines() if not re.match(r"warning: |\S+py:\d+: |  warn", line)]
        assert len(told) == 1 and told[0].startswith("error: "), result.stderr
        return told[0].removeprefix("error: ")
    with pytest.raises(fusekit.FusekitError) as caught:
        eval(made, _scope())
    return str(caught.value)


@pytest.mark.parametrize("row", TOLD, ids=_made)
def test_a_mistake_is_told_with_the_way_out(row: re.Match[str], home: Path) -> None:
    before = _files(home)
    answer = _answer(_made(row))
    assert "\n" not in answer and "Traceback" not in answer and len(answer) <= 600
    assert _files(home) == before, "something was written"
    wanted = row["told"].replace("\\|", "|")
    ways_out = re.findall(r"\*\*(.+?)\*\*", wanted)
    assert ways_out, "the page does not say in bold type what to do"
    pattern = ".*?".join(re.escape(part) for part in wanted.replace("**", "").split("..."))
    assert re.fullmatch(pattern, answer), f"the answer is now: {answer}"


@pytest.mark.parametrize("row", WORKS, ids=_made)
def test_what_need_not_be_a_mistake_works(row: re.Match[str], home: Path) -> None:
    made = _made(row)
    if made.startswith("fusekit "):
        result = run(*shlex.split(made)[1:])
        assert result.code == 0, result
        assert re.search(r"^wrote \S+", result.stdout, re.M)
        assert (home / "out.onnx").is_file()
    else:
        assert eval(made, _scope()) is not None


def test_the_page_has_them_all() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    headings = [line for line in lines if line.startswith("| what you did")]
    assert len(lines) == len(ROWS) + len(headings), "a line of the table is not in the form that is tested"
    assert len({_made(row) for row in ROWS}) == len(ROWS) >= 60
