"""The bugs that are planted: slips of the hand, one replacement each, in tables of plain text.

    = FILE : NET NET ...        the bugs below are in this file; these tests should catch them (none named: NETS)

    a name
    - what stands in the file, once
    + what is put in its place; nothing where there is no such line

A line that starts with # says what the table is about.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Nets = tuple[str, ...]
NETS: Nets = (
    "test_laws",
    "test_readings",
    "test_spelled",
    "test_not_read",
    "test_pass_laws",
    "test_passes",
    "test_driver",
    "test_miscompiles",
)


@dataclass(frozen=True)
class Bug:
    """One wrong replacement in one file, and the nets that should catch it, in the order in which they are asked."""

    name: str
    file: str
    right: str
    wrong: str
    nets: Nets = NETS


def bugs() -> tuple[Bug, ...]:
    """All of all tables."""
    tables = sorted(Path(__file__).parent.glob("*.txt"))
    return tuple(bug for table in tables for bug in _read(table.read_text(encoding="utf-8")))


def _read(table: str) -> Iterator[Bug]:
    file, nets = "", NETS
    for block in table.split("\n\n"):
        lines = block.strip("\n").split("\n")
        if lines[0].startswith("= "):
            file, _, named = (part.strip() for part in lines[0][2:].partition(":"))
            nets = tuple(named.split()) or NETS
        elif not lines[0].startswith("#"):
            right, wrong = ([line[2:] for line in lines[1:] if line[0] == mark] for mark in "-+")
            yield Bug(lines[0], file, "\n".join(right), "\n".join(wrong), nets)
