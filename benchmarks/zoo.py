"""Whole networks of other packages through `optimize` and `export`: how each is captured, and what comes out.

    python -m benchmarks.zoo [--files] [--jobs N] [--seconds S] [--out NAME] [WORD ...]

The networks are the lines of benchmarks/zoo.txt: a package, a name, and the example's shape where it is not the one the
package gives. Those of which a WORD is part are tried, or all. Packages that are not installed are left out. Each
network runs in a process of its own, on one thread, with a time limit; its weights are random, its norms have
statistics. The rows go to docs/benchmarks/NAME.csv, a table and its totals to NAME.md. `--files`: exported, too, beside
torch.onnx and onnxslim, which takes some ten times as long.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.record import WHERE, machine, write_csv

LIST = Path(__file__).with_suffix(".txt")
Row = dict[str, Any]


def lines(words: Sequence[str]) -> list[str]:
    """The networks asked for."""
    found = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return [line for line in found if not words or any(word in line for word in words)]


def tried(line: str, files: bool, seconds: float) -> Row:
    """The row of one network, found in a process of its own."""
    network = " ".join(line.split()[:2])
    command = [sys.executable, "-m", "benchmarks.zoo_network", *line.split(), *(["--files"] if files else [])]
    surroundings = {**os.environ, "FUSEKIT_MEASURE": "0", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=surroundings, check=False)
    except subprocess.TimeoutExpired:
        return {"network": network, "trouble": f"more than {seconds:.0f} s"}
    said = [text for text in done.stdout.splitlines() if text.startswith("{")]
    if said:
        return {"network": network, **json.loads(said[-1])}
    last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
    return {"network": network, "trouble": f"exit status {done.returncode}: {last[:200]}"}


def summary(rows: Sequence[Row]) -> list[str]:
    """What the rows say together."""
    whole = [row for row in rows if not row.get("trouble")]
    bad = sum(not row["ok"] for row in whole)
    found = [
        f"{len(rows)} networks, {len(whole)} of them through; {bad} wrong, or with a rewrite that failed its check"
    ]
    found.append("captured: " + _counted(row["capture"] for row in whole))
    norms = sum(row["norms after"] for row in whole)
    found.append(f"norms that run: {sum(row['norms before'] for row in whole)} before, {norms} after")
    found.append(
        f"sizes that the model takes and the result refuses: {_counted(r['lost'] for r in whole if r['lost'])}"
    )
    slow = sorted(row["optimize / export"] for row in whole if row["optimize / export"])
    if slow:
        above = ", ".join(f"{sum(s > bound for s in slow)} above {bound}" for bound in (3, 5, 10))
        found.append(f"seconds of optimize against torch.export: median {slow[len(slow) // 2]:.2f}, {above}")
    filed = [row for row in whole if "file" in row]
    if filed:
        both = [row for row in filed if row["file"] and row["plain file"]]
        lost = sum(max(0, row["free axes of torch.onnx"] - row["free axes"]) for row in both)
        found.append(
            f"files: {sum(bool(row['file']) for row in filed)} of {len(filed)} (torch.onnx: "
            f"{sum(bool(row['plain file']) for row in filed)}); axes that only the plain file has: "
            f"{lost}; more nodes than onnxslim's: "
            f"{sum(row['nodes'] > row['nodes of onnxslim'] for row in both)}; export above 2x torch's: "
            f"{sum(row['export / torch.onnx'] > 2 for row in both)}"
        )
    return found


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{word} {count}" for word, count in Counter(words).most_common()) or "none"


def markdown(rows: Sequence[Row]) -> str:
    """The summary and a table."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    table += [f"| {' | '.join(_cell(row.get(column, '')) for column in columns)} |" for row in rows]
    told = machine("torch", "onnx", "onnxruntime", "onnxslim", "timm", "torchvision", "transformers")
    return "\n".join(
        (f"# Networks of other packages\n\n{told}; one thread.\n", *(f"- {s}" for s in summary(rows)), "", *table, "")
    )


def _cell(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value).replace("|", "/")


def main(
    words: Annotated[list[str] | None, typer.Argument()] = None,
    files: bool = False,
    jobs: int = 1,
    seconds: float = 600,
    out: str = "zoo",
) -> None:
    rows: list[Row] = []
    with ThreadPoolExecutor(jobs) as pool:
        for row in pool.map(lambda line: tried(line, files, seconds), lines(words or [])):
            print(json.dumps(row), flush=True)
            if row.get("trouble") != "not installed":
                rows.append(row)
                write_csv(WHERE / f"{out}.csv", rows)  # a long run may be stopped
                (WHERE / f"{out}.md").write_text(markdown(rows))


if __name__ == "__main__":
    typer.run(main)
