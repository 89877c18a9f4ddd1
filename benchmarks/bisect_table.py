"""Finds planted faults with `fusekit.bisect`, and counts runs, memory and seconds.

`python -m benchmarks.bisect_table` writes docs/benchmarks/bisect.csv and bisect.md. Each line is measured in a child
process. The memory is what the child grew by, with both models in it; beside it stands that of one comparison of both
models (the float32 and the float64 run of the first, one run of the second), measured in the same way.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fusekit
from benchmarks.bisect_faults import (
    ALL_FAULTS,
    FAULTS,
    OTHER_ACTIVATION,
    PAIRS,
    RESNET,
    TRIPLES,
    Network,
    wrong_rewrite,
)
from benchmarks.faults_forked import forked
from benchmarks.record import WHERE, machine, write_csv
from fusekit.comparing.runs import run_of
from fusekit.comparing.side import Side, open_sides
from fusekit.model import Inputs
from fusekit.onnx_export.write_file import export_plain
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME

WAYS = ("two modules", "two files", "a module and a file", "a model and its optimized result", "rewrites")
_LIMIT = 900.0


@dataclass(frozen=True)
class Case:
    """A fault in a network, and the way in which it is looked for."""

    network: Network
    fault: str
    path: str
    way: str

    def sources(self, files: Path) -> tuple[Any, Any]:
        """The right model and the wrong one."""
        right, wrong = self.network.model(), self.network.model()
        ALL_FAULTS[self.fault](wrong, self.path)
        if self.way == "two modules":
            return right, wrong
        if self.way == "a model and its optimized result":
            return right, fusekit.optimize(wrong, self.network.given(), measure=False)
        ours, theirs = files / f"{self.network.name}.onnx", files / f"{self.network.name} {self.fault} {self.path}.onnx"
        return (ours if self.way == "two files" else right), theirs

    def export(self, files: Path) -> None:
        """Write the files that it needs, if they are not there."""
        ours, theirs = files / f"{self.network.name}.onnx", files / f"{self.network.name} {self.fault} {self.path}.onnx"
        wrong = self.network.model()
        ALL_FAULTS[self.fault](wrong, self.path)
        for model, path in ((self.network.model(), ours), (wrong, theirs)):
            if not path.exists():
                export_plain(model, path, self.network.given())

    def hit(self, found: fusekit.Parting) -> bool:
        """Whether the layer with the fault is among the operators that were found."""
        return not found.ok and any(place.where == self.path for place in found.before)


def cases() -> Iterator[Case]:
    """All faults in the chain of 1,000 operators and in ResNet-50, one place each but for the first fault."""
    for network in (PAIRS, RESNET):
        for way in WAYS[:3]:
            for number, fault in enumerate(FAULTS):
                for path in network.convs if number == 0 else network.convs[1:2]:
                    yield Case(network, fault, path, way)
    yield from (Case(PAIRS, OTHER_ACTIVATION, path, "two modules") for path in PAIRS.acts)
    yield from (Case(RESNET, fault, RESNET.convs[1], WAYS[3]) for fault in FAULTS)
    yield from (Case(TRIPLES, "a fold × 1.01", path, "rewrites") for path in TRIPLES.convs)


def told(case: Case, files: Path) -> dict[str, Any]:
    """One line of the table."""
    if case.way in WAYS[1:3]:
        forked(lambda: case.export(files), files, limit=_LIMIT)
    found = forked(lambda: _bisect(case, files), files, limit=_LIMIT)
    once = forked(lambda: _once(case, files), files, limit=_LIMIT)
    if found.code or once.code:
        return {
            "network": case.network.name,
            "fault": case.fault,
            "at": case.path,
            "way": case.way,
            "note": found.err[-300:],
        }
    result = json.loads(found.out)
    return {
        "network": case.network.name,
        "fault": case.fault,
        "at": case.path,
        "way": case.way,
        "found": "yes" if result["hit"] else "outputs agree" if result["runs"] == 1 else "NO",
        "operators told": result["told"],
        "halved": result["steps"],
        "runs": result["runs"],
        "seconds": round(result["seconds"], 1),
        "MB": round(found.grown / 1e6),
        "MB of one comparison": round(once.grown / 1e6),
        "ratio": round(found.grown / max(once.grown, 1), 2),
    }


def _bisect(case: Case, files: Path) -> None:
    torch.set_num_threads(1)
    if case.way == "rewrites":
        model, x = case.network.model(), case.network.given()
        started = time.perf_counter()
        with wrong_rewrite(TRIPLES.convs.index(case.path) * 165 + 2, 1.01):
            found = fusekit.bisect(model, None, x, passes=["fold-affine"])
        hit = found.event is not None and not found.ok
        count = len(found.before)
    else:
        a, b = case.sources(files)
        started = time.perf_counter()
        given = None if case.way == "two files" else case.network.given()
        found = fusekit.bisect(a, b, given)
        hit, count = case.hit(found), len(found.after)
        if case.way == "two files":
            hit = not found.ok and count == 1
    seconds = time.perf_counter() - started
    print(json.dumps({"hit": hit, "told": count, "steps": found.steps, "runs": found.runs, "seconds": seconds}))


def _once(case: Case, files: Path) -> None:
    """Both models, and one comparison of their outputs."""
    torch.set_num_threads(1)
    x = case.network.given()
    if case.way == "rewrites":
        fusekit.validate(case.network.model(), fusekit.optimize(case.network.model(), x, measure=False), x)
        return
    for source, float64 in zip(case.sources(files), (True, False), strict=True):
        if isinstance(source, nn.Module):
            side = Side("", None, None, None, source)  # type: ignore[arg-type]
        else:
            with open_sides(source, source, None) as (side, _):
                side.graph.constants.clear()
        running = run_of(side, Inputs.of(x), ["input"], ONNX_RUNTIME)
        running.answer(None) if float64 else running.values(None)


def main(only: str = "") -> None:
    fusekit.diff(nn.Sequential(nn.Conv2d(1, 1, 1)), nn.Sequential(nn.Conv2d(1, 1, 1)))  # import everything once
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            if only in f"{case.network.name} {case.fault} {case.way}":
                rows.append(told(case, Path(folder)))
                print(rows[-1], flush=True)
    if not only:
        write_csv(WHERE / "bisect.csv", rows)
        (WHERE / "bisect.md").write_text(page(rows), encoding="utf-8")


def page(rows: list[dict[str, Any]]) -> str:
    """The table in Markdown."""
    columns = list(rows[0])
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(str(row.get(column, '')) for column in columns)} |" for row in rows]
    right = sum(row.get("found") == "yes" for row in rows)
    most = max(row.get("runs", 0) for row in rows)
    ratio = max(row.get("ratio", 0.0) for row in rows)
    return "\n".join(
        [
            "# Planted faults, found by halving",
            "",
            f"{right} of {len(rows)} faults found, in at most {most} runs, with at most {ratio} times the memory of",
            "one comparison. `python -m benchmarks.bisect_table` writes this page.",
            "",
            "- *operators told*: of the second model (for rewrites: of the first), which compute the first value that",
            "  differs from values that agree.",
            "- *halved*: values that both models have in common, or rewrites.",
            "- *MB*: what the process grew by, both models included; *of one comparison*: of a process that compares",
            "  the outputs of both models once.",
            "",
            *lines,
            "",
            machine("torch", "onnxruntime"),
            "",
        ]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
