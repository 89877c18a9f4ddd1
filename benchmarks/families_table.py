"""Writes the results of benchmarks/families.py as tables, a plot and a verdict."""

import csv
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.record import machine, write_bars, write_csv

Row = dict[str, Any]
RUNTIMES = {"torch": "PyTorch", "onnx": "ONNX Runtime"}
ORIGINAL = {"torch": "torch original", "onnx": "onnx export"}

_COUNTED = {
    "exporter": "exporter",
    "export": "+ onnxscript",
    "onnxsim": "+ onnxsim",
    "onnxslim": "+ onnxslim",
    "onnxruntime": "+ ONNX Runtime",
    "author": "author's merge",
    "fusekit": "**fusekit**",
}
_TORCH = {"torch.fx": "torch.fx", "author": "author's merge"}
_ONNX = {"exporter": "exporter", "onnxsim": "+ onnxsim", "onnxslim": "+ onnxslim", "author": "author's merge"}


def against_best(facts: Row) -> Row:
    """The ratio of the fastest other way to fusekit, by runtime. If several are equally fast, the fastest has luck
    too."""
    found: Row = {}
    for kind in RUNTIMES:
        others = [key[:-3] for key in facts if key.startswith(f"{kind} ") and key.endswith(" ms")]
        others = [key for key in others if key.split()[1] not in ("fusekit", "again")]
        best = min(others, key=lambda key: facts[f"{key} ms"])
        found[f"{kind} best"] = best.removeprefix(f"{kind} ")
        found[f"{kind} against best"] = facts[f"{kind} fusekit ratio"] / facts[f"{best} ratio"]
    return found


def noise(row: Row, kind: str) -> float:
    """The difference between the two runs of the original, or half the distance between the quartiles if larger."""
    return max(abs(row[f"{kind} again ratio"] - 1), row[f"{kind} again spread"], row[f"{kind} fusekit spread"])


def slower(rows: Sequence[Row]) -> list[str]:
    """The networks where fusekit's result is slower than the original by more than the noise."""
    return [
        f"{row['network']} in {runtime}: {row[f'{kind} fusekit ratio']:.3f}, noise {noise(row, kind):.3f}"
        for row in rows
        for kind, runtime in RUNTIMES.items()
        if row[f"{kind} fusekit ratio"] < 1 - noise(row, kind)
    ]


def brief(row: Row) -> str:
    parts = (
        f"{runtime} {row[f'{ORIGINAL[kind]} ms']:.3f} -> {row[f'{kind} fusekit ms']:.3f} ms, "
        f"x{row[f'{kind} fusekit ratio']:.2f}, against {row[f'{kind} best']} x{row[f'{kind} against best']:.2f}, "
        f"noise {noise(row, kind):.3f}"
        for kind, runtime in RUNTIMES.items()
    )
    return "; ".join(parts)


def markdown(rows: Sequence[Row], threads: int, rounds: int) -> str:
    """The tables, fit for docs/benchmarks."""
    found = slower(rows)
    verdict = "; ".join(found) if found else "none"
    lines = [
        f"# Networks before and after, {threads} thread{'s' * (threads > 1)}",
        "",
        f"`python -m benchmarks.families --threads {threads} --rounds {rounds}` on {where_measured()}.",
        "What the columns mean: [benchmarks.md](../benchmarks.md).",
        "",
        f"Slower than the original beyond the noise: {verdict}.",
        "",
        "## Operators / batch norms in the ONNX file",
        "",
        *table(["network", *_COUNTED.values()], ([row["network"], *_counts(row)] for row in rows)),
    ]
    for kind, others in (("torch", _TORCH), ("onnx", _ONNX)):
        lines += ["", f"## {RUNTIMES[kind]}, times faster than the original", ""]
        header = ["network", "original ms", *others.values(), "**fusekit**", "against the best other", "noise"]
        lines += table(header, (_speeds(row, kind, others) for row in rows))
    lines += ["", "## Error of the ONNX file against float64", ""]
    lines += table(["network", "the original's own", "author's merge", "fusekit"], (_errors(row) for row in rows))
    return "\n".join(lines) + "\n"


def where_measured() -> str:
    return machine("torch", "onnx", "onnxruntime", "onnxscript", "onnxsim", "onnxslim", "timm")


def table(header: Sequence[str], rows: Any) -> list[str]:
    shown = [list(header), ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in shown]


def _counts(row: Row) -> list[str]:
    return [
        f"{row[f'{key} operators']} / {row[f'{key} batch norms']}" if f"{key} operators" in row else ""
        for key in _COUNTED
    ]


def _speeds(row: Row, kind: str, others: dict[str, str]) -> list[str]:
    ratios = [f"{row[name]:.2f}" if (name := f"{kind} {key} ratio") in row else "" for key in others]
    ours = f"**{row[f'{kind} fusekit ratio']:.2f}** ± {row[f'{kind} fusekit spread']:.2f}"
    best = f"{row[f'{kind} against best']:.2f} ({row[f'{kind} best']})"
    return [row["network"], f"{row[f'{ORIGINAL[kind]} ms']:.3f}", *ratios, ours, best, f"{noise(row, kind):.3f}"]


def _errors(row: Row) -> list[str]:
    errors = [row.get(key) for key in ("own error", "author error", "error")]
    return [row["network"], *("" if error is None else f"{error:.1e}" for error in errors)]


def read(where: Path, threads: int) -> list[Row]:
    """The rows that `write` wrote."""
    with (where / f"{_name(threads)}.csv").open(newline="") as lines:
        return [{key: _value(text) for key, text in row.items() if text} for row in csv.DictReader(lines)]


def _value(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _name(threads: int) -> str:
    return f"families-{threads}-thread{'s' * (threads > 1)}"


def write(where: Path, rows: Sequence[Row], threads: int, rounds: int) -> str:
    """The rows as CSV, Markdown and bars; the Markdown is returned."""
    name = _name(threads)
    shown = [{key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    write_csv(where / f"{name}.csv", shown)
    bars = {runtime: [float(row[f"{kind} against best"]) for row in rows] for kind, runtime in RUNTIMES.items()}
    title = f"fusekit against the fastest other way, {threads} thread{'s' * (threads > 1)}"
    write_bars(where / f"{name}.svg", title, [row["network"] for row in rows], bars)
    text = markdown(rows, threads, rounds)
    (where / f"{name}.md").write_text(text)
    return text
