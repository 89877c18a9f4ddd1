"""Exports modules in the three ways of `lowering_ways`: one row for each module, and how many succeed."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.lowering_case import Case
from benchmarks.lowering_ways import DECOMPOSED, FUSEKIT, PLAIN, WAYS, Outcome, outcome, reason
from fusekit.model import quiet

Row = dict[str, Any]
BROKEN = "raises in PyTorch"


def measured(cases: Iterable[Case], room: Path, ways: Sequence[str] = (PLAIN, DECOMPOSED, FUSEKIT)) -> Iterator[Row]:
    """The outcome of each case in each way. A module that its own library cannot run is left out."""
    for case in cases:
        row: Row = {"library": case.library, "module": case.name}
        try:
            with torch.no_grad(), quiet():
                case.module()(*case.given())
        except Exception as error:
            yield row | {BROKEN: reason(error)}
            continue
        for way in ways:
            found = outcome(case, way, room / "model.onnx")
            row |= {f"{way} nodes": found.nodes, f"{way} error": found.error}
            row |= {f"{way} problem": found.problem, f"{way} note": found.note}
        yield row


def cell(row: Row, way: str) -> str:
    if f"{way} problem" not in row:
        return ""
    made = Outcome(*(row[f"{way} {part}"] for part in ("nodes", "error", "problem", "note")))
    return made.text + (f" (not lowered: {made.note})" if made.note else "")


def table(rows: Sequence[Row]) -> Iterator[str]:
    ways = [way for way in WAYS if any(f"{way} problem" in row for row in rows)]
    yield f"| library | module | {' | '.join(ways)} |"
    yield "| --- " * (2 + len(ways)) + "|"
    for row in rows:
        if BROKEN in row:
            text = [f"{BROKEN}: {row[BROKEN]}", *[""] * (len(ways) - 1)]
        else:
            text = [cell(row, way) for way in ways]
        cells = (str(part).replace("|", "\\|") for part in (row["library"], f"`{row['module']}`", *text))
        yield f"| {' | '.join(cells)} |"


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """For each library, the number of files that run and are right. Below, the nodes of modules that two ways can
    export."""
    whole = [row for row in rows if BROKEN not in row]
    ways = [way for way in WAYS if any(f"{way} problem" in row for row in whole)]
    yield f"| library | modules | {' | '.join(ways)} |"
    yield "| --- " * (2 + len(ways)) + "|"
    libraries = list(dict.fromkeys(row["library"] for row in whole))
    for library in [*libraries, "all"]:
        group = [row for row in whole if library in ("all", row["library"])]
        counts = [str(sum(right(row, way) for row in group)) for way in ways]
        yield f"| {library} | {len(group)} | {' | '.join(counts)} |"
    yield ""
    for way in ways:
        both = [row for row in whole if right(row, way) and right(row, FUSEKIT)]
        if way != FUSEKIT and both:
            theirs, ours = (sum(row[f"{w} nodes"] for row in both) for w in (way, FUSEKIT))
            more = sum(row[f"{FUSEKIT} nodes"] > row[f"{way} nodes"] for row in both)
            yield (
                f"Nodes of the {len(both)} modules that both bring through: {way} {theirs}, fusekit {ours}; "
                f"fusekit has more in {more} of them."
            )
    wrong = [(way, row) for way in ways for row in whole if row[f"{way} problem"].startswith("wrong")]
    if wrong:
        yield ""
        yield "Files that run and are wrong: " + ", ".join(f"{row['module']} ({way})" for way, row in wrong) + "."


def right(row: Row, way: str) -> bool:
    return row.get(f"{way} problem") == ""
