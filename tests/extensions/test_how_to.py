"""docs/extending.md: its code runs, its names exist, and its entry points are those of the example package."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.installed import EXAMPLE

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(fusekit(?:\.\w+)*\.\w+)`", TEXT.split("## What stays")[1])))


def test_its_code_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert len(blocks) >= 4
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "extending.md", "exec"), scope)


def test_its_entry_points_are_those_of_the_example() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
    assert block.strip() in (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_what_stays_as_it_is_exists(name: str) -> None:
    room, _, last = name.rpartition(".")
    assert hasattr(import_module(room), last) or last in ("passes", "runtimes", "operators")
