"""Damages files, kills exports and fills disks, and writes tables of what fusekit did.

    python -m benchmarks.faults [files] [kills] [disk] [--count N] [--seed N]

writes faults-files.md, faults-kills.md and faults-disk.md to docs/benchmarks, each with its rows as CSV. Every command
runs in a forked child of this process. Linux only; `disk` needs the right to mount a tmpfs, and without it only limits
the size of files.
"""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks import faults_files
from benchmarks.record import WHERE, machine, write_csv


def files(count: int, seed: int, out: Path) -> None:
    """Damaged files."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for row in faults_files.rows(count, seed, Path(folder)):
            found.append(row)
            if row.outcome == faults_files.ELSE:
                print(f"{row.kind}, {row.damage}, seed {row.seed}: {row.why}", flush=True)
            if len(found) % 50 == 0:
                print(f"{len(found)} files", flush=True)
    write_csv(out / "faults-files.csv", [asdict(row) for row in found])
    lines = list(faults_files.table(found))
    (out / "faults-files.md").write_text("\n".join(["# Damaged files", "", machine("torch", "onnx"), "", *lines, ""]))
    print("\n".join(lines))


def main(
    parts: Annotated[list[str] | None, typer.Argument()] = None,
    count: int = 1000,
    seed: int = 0,
    out: Path = WHERE,
) -> None:
    torch.set_num_threads(1)
    files(count, seed, out)


if __name__ == "__main__":
    typer.run(main)
