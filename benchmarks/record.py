"""Writes the results of a benchmark: the machine it ran on, rows as CSV, plots as SVG."""

import csv
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from fusekit.runtimes.measurements import processor

matplotlib.rcParams.update({"svg.hashsalt": "fusekit", "svg.fonttype": "none", "font.size": 9})

WHERE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


def machine(*packages: str) -> str:
    """The processor, its cores, and the versions of Python and of these packages."""
    found = []
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{package} {metadata.version(package)}")
    return ", ".join([f"{processor()}, {os.cpu_count()} cores", f"Python {platform.python_version()}", *found])


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one line for each row. The columns are those of all rows, in the order in which they first appear."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_bars(path: Path, title: str, names: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    """Ratios as horizontal bars on a logarithmic axis from 1, with a group for each name and a colour for each
    series."""
    figure = Figure(figsize=(8, 0.9 + 0.22 * len(names) * max(1, len(series))), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / max(1, len(series))
    for index, (label, values) in enumerate(series.items()):
        places = [row + index * height for row in range(len(names))]
        axes.barh(places, [value - 1 for value in values], height * 0.9, left=1, label=label)
        for place, value in zip(places, values, strict=True):
            axes.annotate(f" {value:.3g}", (max(value, 1.0), place), va="center", fontsize=7)
    axes.set(xscale="log", title=title, xlabel="speed-up")
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(names))], names)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.margins(x=0.1, y=0.01)
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as SVG. Equal figures give equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
