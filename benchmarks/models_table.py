"""Writes the results of benchmarks/models.py as rows, tables, a plot and a verdict."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmarks.families_table import table
from benchmarks.model_networks import HOME, ORDINARY
from benchmarks.record import machine, write_bars, write_csv
from fusekit.bench import Bench
from fusekit.bench.contenders import ONNXRUNTIME, PYTORCH, Side
from fusekit.runtimes.open_vino import OpenVino

Row = dict[str, Any]
GOAL = 1.5  # geometric mean over the home ground, against the best other


def summary(measured: Bench) -> Row:
    """For each runtime: the original, the fastest of all others, fusekit, their ratios, and the noise.

    If several are equally fast, the fastest is also the luckiest, so `against best` is a little too small.
    """
    row: Row = {"rounds": measured.rounds}
    for runtime in (PYTORCH, ONNXRUNTIME, OpenVino.title):
        originals, others, ours = (measured.of(runtime, side) for side in Side)
        if not (originals and ours):
            continue
        best = min([*originals, *others], key=lambda each: each.median or math.inf)
        fusekit = ours[0]
        assert best.speedup and fusekit.speedup and fusekit.spread is not None
        row |= {
            f"{runtime} original": originals[0].version,
            f"{runtime} original ms": originals[0].median,
            f"{runtime} best other": best.version,
            f"{runtime} best other ms": best.median,
            f"{runtime} fusekit": fusekit.version,
            f"{runtime} fusekit ms": fusekit.median,
            f"{runtime} speed-up": fusekit.speedup,
            f"{runtime} against best": fusekit.speedup / best.speedup,
            f"{runtime} spread": fusekit.spread,
            f"{runtime} noise": abs(measured.noise[runtime] - 1),
        }
    failed = [f"{each.runtime} {each.version}: {each.failure}" for each in measured.rows if each.failure]
    return row | {"failed": "; ".join(failed)}


def runtimes(rows: Sequence[Row]) -> list[str]:
    return [name for name in (PYTORCH, ONNXRUNTIME, OpenVino.title) if any(f"{name} speed-up" in row for row in rows)]


def mean(rows: Sequence[Row], column: str) -> float:
    """The geometric mean of the values that exist."""
    return geometric_mean([row[column] for row in rows if column in row])


def slower(rows: Sequence[Row]) -> list[str]:
    """The networks where fusekit's result is slower than the original by more than the spread of half of the rounds,
    and by more than the original's noise."""
    return [
        f"{row['network']} in {name}: {row[f'{name} speed-up']:.3f} ± {row[f'{name} spread']:.3f}, "
        f"noise {row[f'{name} noise']:.3f}"
        for row in rows
        for name in runtimes(rows)
        if f"{name} speed-up" in row and row[f"{name} speed-up"] < 1 - max(row[f"{name} spread"], row[f"{name} noise"])
    ]


def brief(row: Row) -> str:
    parts = [
        f"{name} {row[f'{name} original ms']:.3f} -> {row[f'{name} fusekit ms']:.3f} ms ({row[f'{name} fusekit']}), "
        f"x{row[f'{name} speed-up']:.2f} ± {row[f'{name} spread']:.2f}, against {row[f'{name} best other']} "
        f"x{row[f'{name} against best']:.2f}, noise {row[f'{name} noise']:.3f}"
        for name in runtimes([row])
    ]
    took = ", ".join(f"{row[f'{what} s']:.0f} s {what}" for what in ("optimizing", "building", "measuring"))
    return "; ".join([f"{row['network']}: {parts[0]}", *parts[1:], took, row["failed"]])


def verdict(rows: Sequence[Row]) -> list[str]:
    lines = []
    for name in runtimes(rows):
        home, ordinary = ([row for row in rows if row["kind"] == kind] for kind in (HOME, ORDINARY))
        said = []
        if any(f"{name} speed-up" in row for row in home):
            original, best = (mean(home, f"{name} {column}") for column in ("speed-up", "against best"))
            said.append(
                f"geometric mean over the home ground {original:.2f} against the original, "
                f"{best:.2f} against the best other (goal {GOAL})"
            )
        least = min(
            (row for row in ordinary if f"{name} speed-up" in row), key=lambda r: r[f"{name} speed-up"], default=None
        )
        if least is not None:
            said.append(f"least of the ordinary {least[f'{name} speed-up']:.2f} ({least['network']})")
        lines.append(f"- {name}: {'; '.join(said)}.")
    found = slower(rows)
    return [*lines, f"- Slower than the original beyond the noise: {'; '.join(found) if found else 'none'}."]


def markdown(rows: Sequence[Row], threads: int, command: str) -> str:
    packages = ("torch", "onnx", "onnxruntime", "onnxscript", "onnxsim", "onnxslim", "openvino", "timm")
    lines = [
        f"# Whole networks before and after, {threads} thread{'s' * (threads > 1)}",
        "",
        f"`{command}` on {machine(*packages)}.",
        "",
        *verdict(rows),
    ]
    for name in runtimes(rows):
        header = [
            "network",
            "",
            "original ms",
            "best other",
            "ms",
            "fusekit",
            "ms",
            "speed-up",
            "against best",
            "noise",
        ]
        lines += [
            "",
            f"## {name}",
            "",
            *table(header, (_cells(row, name) for row in rows if f"{name} speed-up" in row)),
        ]
    lines += ["", "## Applied, and the error of the ONNX file against float64", ""]
    header = ["network", "for PyTorch", "for ONNX Runtime", "error", "the original's own"]
    lines += table(header, (_applied(row) for row in rows))
    return "\n".join(lines) + "\n"


def _cells(row: Row, name: str) -> list[str]:
    return [
        row["network"],
        row["kind"],
        f"{row[f'{name} original ms']:.3f}",
        row[f"{name} best other"],
        f"{row[f'{name} best other ms']:.3f}",
        row[f"{name} fusekit"],
        f"{row[f'{name} fusekit ms']:.3f}",
        f"**{row[f'{name} speed-up']:.2f}** ± {row[f'{name} spread']:.2f}",
        f"{row[f'{name} against best']:.2f}",
        f"{row[f'{name} noise']:.3f}",
    ]


def _applied(row: Row) -> list[str]:
    return [
        row["network"],
        row["torch rewrites"],
        row["onnx rewrites"],
        f"{row['error']:.1e}",
        f"{row['own error']:.1e}",
    ]


def read(where: Path, threads: int) -> list[Row]:
    """The rows of the CSV, as they were written."""

    def value(text: str) -> Any:
        try:
            return float(text)
        except ValueError:
            return text

    with (where / f"models-{threads}-thread{'s' * (threads > 1)}.csv").open(newline="") as file:
        found = [{key: value(text) for key, text in row.items()} for row in csv.DictReader(file)]
    words = ("failed", "rewrites")  # which may be empty; an empty figure is none
    return [{k: v for k, v in row.items() if v != "" or k.endswith(words)} for row in found]


def write(where: Path, rows: Sequence[Row], threads: int, text: str) -> None:
    """The rows as CSV, Markdown and bars."""
    name = f"models-{threads}-thread{'s' * (threads > 1)}"
    shown = [{key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    write_csv(where / f"{name}.csv", shown)
    bars = {each: [float(row.get(f"{each} speed-up", 1.0)) for row in rows] for each in runtimes(rows)}
    title = f"fusekit against the original, {threads} thread{'s' * (threads > 1)}"
    write_bars(where / f"{name}.svg", title, [row["network"] for row in rows], bars)
    (where / f"{name}.md").write_text(text)
