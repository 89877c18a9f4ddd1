"""Compares convolution by FFT with others, over a grid and on real workloads: `python -m benchmarks.fft --threads 1`.

One interleaved run for each configuration compares: fusekit's layer with a frozen weight, its functional form, and its
ONNX file; fft-conv-pytorch, torch-fftconv, julius, scipy's oaconvolve; torch's direct convolution in every layout; ONNX
Runtime's Conv. Every result is compared with float64. CSV files, plots and a summary are written to docs/benchmarks.

`--quick` takes a minute; `--only grid` or `--only workloads` runs one half. The first run also exports the files, which
are kept in out/fft as long as fusekit does not change; `--prepare` does only that. `--again TEXT` measures the rows of
the grid whose name contains the text once more, and keeps the other rows of the last run. Figures are medians; on a
machine that others use, `--least` takes the shortest times instead.
"""

import csv
import hashlib
import logging
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
import typer

import fusekit
from benchmarks.fft_contenders import FUSEKIT_ONNX, contenders, missing
from benchmarks.fft_floor import Rates
from benchmarks.fft_goals import by_case, floor_table, goal_table
from benchmarks.fft_grid import Case, cases
from benchmarks.fft_measure import Row, measure
from benchmarks.fft_plots import plot_speed_up, plot_winners
from benchmarks.fft_workloads import measure_workloads, workload_table
from benchmarks.record import WHERE, machine, write_csv

VERSIONS = ("torch", "onnxruntime", "onnx", "numpy", "scipy", "fft-conv-pytorch", "torch-fftconv", "julius")


def kept_files() -> Path:
    """The folder for the files. It changes whenever fusekit's code changes."""
    digest = hashlib.sha1()
    source = Path(fusekit.__file__).parent
    for path in sorted((*source.rglob("*.py"), *(source.parent / "passes").glob("*.py"))):
        digest.update(path.read_bytes())
    folder = source.parent / "out" / "fft" / digest.hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def prepare(quick: bool, files: Path) -> None:
    """Export fusekit's files for the whole grid."""
    for case in cases(quick):
        makers = dict(contenders(case, *case.tensors(), 1, files))
        if FUSEKIT_ONNX in makers:
            start = time.perf_counter()
            makers[FUSEKIT_ONNX]()
            print(f"{case.name}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)


def rows_of(path: Path) -> dict[Case, list[Row]]:
    """The rows of an earlier run."""
    known = {_identity(Row(case, "").as_dict()): case for case in cases()}
    found: dict[Case, list[Row]] = {}
    with path.open(newline="") as lines:
        for read in csv.DictReader(lines):
            case = known[_identity(read)]
            found.setdefault(case, []).append(Row.of(case, read))
    return found


def _identity(read: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(str(read[name]) for name in ("family", "channels", "groups", "kernel", "size", "batch"))


def run_grid(
    threads: int,
    rounds: int,
    seconds: float,
    rates: Rates,
    quick: bool,
    least: bool,
    files: Path,
    before: Mapping[Case, list[Row]],
) -> list[Row]:
    rows = []
    for case in cases(quick):
        if case in before:
            rows += before[case]
            continue
        found = measure(case, threads, rates, files, rounds, seconds, least)
        rows += found
        shown = ", ".join(f"{row.contender} {row.ms:.3g}" if row.ms else f"({row.contender})" for row in found)
        print(f"{case.name}: {shown}", file=sys.stderr, flush=True)
    return rows


def main(
    threads: int = 1,
    rounds: int = 9,
    seconds: float = 1.5,
    quick: bool = False,
    only: str = "",
    least: bool = False,
    again: str = "",
    prepare_only: bool = typer.Option(False, "--prepare"),
    speech: Path = Path("/usr/share/sounds/alsa/Front_Center.wav"),
    where: Path = WHERE,
) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    files = kept_files()
    if prepare_only:
        prepare(quick, files)
        return
    ending = f"{threads}-thread{'s' if threads > 1 else ''}"
    for name in missing():
        print(f"{name} is not installed: left out", file=sys.stderr)
    rates = Rates.measured()
    lines = ["# Convolution by FFT: the figures of one run", ""]
    lines += [f"{machine(*VERSIONS)}; {threads} thread(s); {rates}.", ""]
    start = time.perf_counter()
    if only != "workloads":
        path = where / f"fft-grid-{ending}.csv"
        before = {case: each for case, each in rows_of(path).items() if again not in case.name} if again else {}
        rows = run_grid(threads, rounds, seconds, rates, quick, least, files, before)
        write_csv(path, [row.as_dict() for row in rows])
        found = by_case(rows)
        lines += ["## Grid", "", *goal_table(found), "", *floor_table(found), ""]
        noted = [row for row in rows if row.note and "not tried" not in row.note]
        notes = [f"- {row.contender}, {row.case.name}: {row.note}" for row in noted]
        lines += ["Without a time:", "", *notes, ""] if notes else []
        plot_speed_up(found, where, ending)
        plot_winners(found, where, ending)
    if only != "grid":
        figures, pitch = measure_workloads(threads, rounds, quick, speech, files)
        write_csv(where / f"fft-workloads-{ending}.csv", figures)
        lines += ["## Workloads", "", *workload_table(figures), "", *pitch, ""]
    (where / f"fft-{ending}.md").write_text("\n".join(lines))
    print("\n".join(lines))
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
