"""Damages files, kills exports and fills disks, and writes tables of what fusekit did.

    python -m benchmarks.faults [files] [kills] [disk] [--count N] [--seed N]

writes faults-files.md, faults-kills.md and faults-disk.md to docs/benchmarks, each with its rows as CSV. Every command
runs in a forked child of this process. Linux only; `disk` needs the right to mount a tmpfs, and without it only limits
the size of files.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import faults_disk, faults_files, faults_kills
from benchmarks.record import WHERE, machine, write_csv

LONGEST = 100  # characters of a message in the CSV
Table = tuple[str, list[Any], Iterable[str]]  # its title, its rows, and these as lines of Markdown


def files(count: int, seed: int, folder: Path) -> Table:
    """Damaged files."""
    found = []
    for row in faults_files.rows(count, seed, folder):
        found.append(row)
        if row.outcome == faults_files.ELSE:
            print(f"{row.kind}, {row.damage}, seed {row.seed}: {row.why}", flush=True)
        if len(found) % 50 == 0:
            print(f"{len(found)} files", flush=True)
    return "Damaged files", found, faults_files.table(found)


def kills(count: int, seed: int, folder: Path) -> Table:
    """Kills at random moments."""
    found = []
    for row in faults_kills.rows(count, seed, folder):
        found.append(row)
        if not row.as_promised:
            print(row, flush=True)
    return "Kills of `fusekit export` at random moments", found, faults_kills.table(found)


def disk(count: int, seed: int, folder: Path) -> Table:
    """Full disks; there is nothing random about them, and nothing to count."""
    found = []
    for row in faults_disk.rows(folder):
        found.append(row)
        if row.outcome not in faults_disk.GOOD:
            print(row, flush=True)
    return "Disks that are full at every write", found, faults_disk.table(found)


PARTS: dict[str, tuple[Callable[[int, int, Path], Table], int]] = {
    "files": (files, 1000),
    "kills": (kills, 40),
    "disk": (disk, 0),
}


def main(
    parts: Annotated[list[str] | None, typer.Argument(help=f"{', '.join(PARTS)}; all if none is named")] = None,
    count: Annotated[int | None, typer.Option(help="how many files, or kills")] = None,
    seed: int = 0,
    out: Annotated[Path, typer.Option(help="the folder of the tables")] = WHERE,
) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # zipfile's, about entries that stand twice
    for name in parts or PARTS:
        part, usual = PARTS[name]
        with tempfile.TemporaryDirectory() as folder:
            title, rows, lines = part(usual if count is None else count, seed, Path(folder))
        head = f"`python -m benchmarks.faults {name}` on {machine('torch', 'onnx', 'onnxruntime')}."
        text = "\n".join([f"# {title}", "", head, "", *lines, ""])
        write_csv(out / f"faults-{name}.csv", [{k: str(v)[:LONGEST] for k, v in asdict(row).items()} for row in rows])
        (out / f"faults-{name}.md").write_text(text)
        print(text, flush=True)


if __name__ == "__main__":
    typer.run(main)
