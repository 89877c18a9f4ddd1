"""Operators and latency of networks: as they are, after fusekit, after other optimizers, and after the author's merge.

    python -m benchmarks.families [--threads 1 --threads 2] [--rounds 9] [--only NAME]

writes families-1-thread.{csv,md,svg} and so on to docs/benchmarks. `--only` measures a few networks and prints their
table. `--again` measures a few once more and keeps the row with less noise.

PyTorch, eager, each in its better memory layout: the network, torch.fx's own fusion, the author's merge, fusekit. ONNX
Runtime with all its own optimizations: the exporter's file; the same after onnxscript's optimizer, which the exporter
writes by default (here `export`, the original of every ratio); this one after onnxsim, and after onnxslim; the export
of the author's merge; fusekit's export. All sizes are fixed. There is one interleaved run. A ratio is computed in each
round, and the original is run twice to show the noise.

    pip install -c constraints.txt -e '.[bench]' 'torch==2.13.0'; pip install 'torch==2.13.0' timm

in that order, so that torch stays as it is. Without timm, its seven networks are left out.
"""

import copy
import logging
import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime as ort
import onnxsim
import onnxslim
import torch
import typer
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

import fusekit
from benchmarks import families_table
from benchmarks.networks import FROM_TIMM, Network, load_timm, networks, timm_networks
from benchmarks.record import WHERE
from examples.side_by_side import onnx_runner, torch_runner
from fusekit.runtimes.timing import Call, Times, interleaved

WRONG = 1e-3  # relative; what differs by more than rounding is no competitor


@dataclass
class Prepared:
    """One network in the versions that do not depend on the number of threads."""

    name: str
    x: Tensor
    modules: dict[str, nn.Module] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def plain_export(model: nn.Module, x: Tensor, path: Path, *, optimize: bool = True) -> Path:
    torch.onnx.export(model, (x,), dynamo=True, verbose=False, optimize=optimize).save(path)  # type: ignore[union-attr]
    return path


def prepare(name: str, network: Network, room: Path) -> Prepared:
    torch.manual_seed(0)
    model, x = network.build(), torch.randn(network.shape)
    ready = Prepared(name, x, {"original": model})
    others: dict[str, Callable[[], nn.Module]] = {"torch.fx": lambda: fuse(model)}
    if network.merge is not None:
        merge = network.merge
        others["author"] = lambda: merge(copy.deepcopy(model)).eval()
    for key, build in others.items():
        with noted(name, key):
            ready.modules[key] = sound(torch_runner(model, (x,)), build(), x)

    files = ready.files
    files["export"] = plain_export(model, x, room / "export.onnx")
    files["exporter"] = plain_export(model, x, room / "exporter.onnx", optimize=False)
    with noted(name, "onnxsim"):
        onnx.save(onnxsim.simplify(str(files["export"]))[0], room / "onnxsim.onnx")
        files["onnxsim"] = room / "onnxsim.onnx"
    with noted(name, "onnxslim"):
        onnx.save(onnxslim.slim(str(files["export"])), room / "onnxslim.onnx")
        files["onnxslim"] = room / "onnxslim.onnx"
    if "author" in ready.modules:
        files["author"] = plain_export(ready.modules["author"], x, room / "author.onnx")
    expected = onnx_runner(files["export"], (x,), 1)()
    for key in ("onnxsim", "onnxslim"):
        if key in files and differs(onnx_runner(files[key], (x,), 1)(), expected):
            print(f"{name}: {key} computes something else: left out", file=sys.stderr)
            del files[key]

    for key, path in (files | {"onnxruntime": runtime_file(files["export"], room / "onnxruntime.onnx")}).items():
        ready.facts |= count(key, path)
    if "author" in files:
        ready.facts["author error"] = fusekit.validate(model, files["author"], (x,), tolerance=math.inf).error
    return ready


def optimized(ready: Prepared, room: Path) -> Prepared:
    """Add fusekit's module and file, made for torch's present number of threads, with fixed sizes as for the others."""
    model, path = ready.modules["original"], room / "fusekit.onnx"
    validation = fusekit.export(model, path, (ready.x,), dynamic=False)
    assert validation.ok, f"{ready.name}: {validation}"
    return Prepared(
        ready.name,
        ready.x,
        ready.modules | {"fusekit": fusekit.optimize(model, (ready.x,))},
        ready.files | {"fusekit": path},
        ready.facts | count("fusekit", path) | {"error": validation.error, "own error": validation.reference_error},
    )


@contextmanager
def noted(name: str, tool: str) -> Iterator[None]:
    """Run another tool. If it fails on a network, print the reason and return None; its cell stays empty."""
    try:
        yield
    except Exception as error:
        print(f"{name}: {tool} fails: {str(error).splitlines()[0]}", file=sys.stderr)


def sound(original: Call, module: nn.Module, x: Tensor) -> nn.Module:
    if differs([torch_runner(module, (x,))()], [original()]):
        raise ValueError("it computes something else")
    return module


def differs(results: list[Any], expected: list[Any]) -> bool:
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(results, expected, strict=True)]
    return any(not np.abs(a - b).max() <= WRONG * np.abs(b).max() for a, b in pairs)


def runtime_file(path: Path, saved: Path) -> Path:
    """The graph that ONNX Runtime makes of a file at its highest level of optimization. Changes of layout are
    operators."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(saved)
    options.log_severity_level = 3  # the file is for this machine only, and it says so
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return saved


def count(version: str, path: Path) -> dict[str, int]:
    """The number of operators, and of batch norms among them. Constants are not counted."""
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    return {
        f"{version} operators": len(kinds) - kinds.count("Constant"),
        f"{version} batch norms": kinds.count("BatchNormalization"),
    }


def better_layout(module: nn.Module, x: Tensor) -> tuple[str, Call]:
    """The module as it is or in channels_last, whichever is faster in a few rounds."""
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    calls = {
        "contiguous": torch_runner(module, (x,)),
        "channels_last": torch_runner(last, (x.to(memory_format=torch.channels_last),)),
    }
    times = interleaved(calls, 5, seconds=1.0)
    best = min(times, key=lambda key: min(times[key].rounds))
    return best, calls[best]


def measure(ready: Prepared, threads: int, rounds: int) -> dict[str, Any]:
    """One row: milliseconds, and how many times faster than the original, with the spread."""
    facts, x = dict(ready.facts), ready.x
    eager = {}
    for key, module in ready.modules.items():
        facts[f"torch {key} layout"], eager[f"torch {key}"] = better_layout(module, x)
    runs = {f"onnx {key}": onnx_runner(path, (x,), threads) for key, path in ready.files.items()}
    calls: dict[str, Call] = {}
    for kind, versions, again in (
        ("torch", eager, eager["torch original"]),
        ("onnx", runs, onnx_runner(ready.files["export"], (x,), threads)),
    ):
        # the other runtime's threads may still spin: one call that does not count; both originals follow fusekit's
        calls |= {f"{kind} settled": versions[f"{kind} fusekit"], **versions, f"{kind} again": again}
    total = sum(each.median for each in interleaved(calls, 1).values())
    enough = max(rounds, min(10 * rounds, round(2000 / total)))  # short calls are noisier, and cost nothing to repeat
    times = {key: each for key, each in interleaved(calls, enough, math.inf).items() if "settled" not in key}
    original = {"torch": times["torch original"], "onnx": times["onnx export"]}
    for key, each in times.items():
        ratio = relative(original[key.split()[0]], each)
        facts[f"{key} ms"], facts[f"{key} ratio"], facts[f"{key} spread"] = each.median, ratio.median, ratio.spread
    facts["rounds"] = enough
    return facts | families_table.against_best(facts)


def relative(original: Times, other: Times) -> Times:
    """How many times faster, computed in each round, because a slow moment of the machine affects both."""
    return Times(tuple(a / b for a, b in zip(original.rounds, other.rounds, strict=True)))


def chosen(only: list[str]) -> dict[str, Network]:
    timm = load_timm()
    found = networks() | (timm_networks(timm) if timm else {})
    if timm is None:
        print(f"timm is not installed: {', '.join(FROM_TIMM)} are left out", file=sys.stderr)
    if unknown := [name for name in only if name not in found]:
        raise typer.BadParameter(f"no network {', '.join(unknown)}; there are {', '.join(found)}")
    ordered = sorted(found, key=lambda name: found[name].ordinary)
    return {name: found[name] for name in ordered if not only or name in only}


def better(row: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, Any]:
    """The row, or that of the same network in which the worse of the two runtimes has less noise."""
    same = [row, *(other for other in others if other["network"] == row["network"])]
    return min(same, key=lambda each: max(families_table.noise(each, kind) for kind in families_table.RUNTIMES))


def main(
    threads: Annotated[list[int] | None, typer.Option(help="repeat for several")] = None,
    rounds: int = 9,
    only: Annotated[list[str] | None, typer.Option(help="a network; repeat for several")] = None,
    again: Annotated[list[str] | None, typer.Option(help="a network; repeat for several")] = None,
    where: Annotated[Path, typer.Option(help="where the files go, but with --only")] = WHERE,
) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    rows: dict[int, list[dict[str, Any]]] = {number: [] for number in threads or [1]}
    for name, network in chosen(only or again or []).items():
        with tempfile.TemporaryDirectory() as room:
            ready = prepare(name, network, Path(room))
            for number, table in rows.items():
                torch.set_num_threads(number)
                row = {"network": name, "ordinary": network.ordinary}
                row |= measure(optimized(ready, Path(room)), number, rounds)
                table.append(row)
                print(f"{name}, {number} thread(s): {families_table.brief(row)}", file=sys.stderr)
    for number, table in rows.items():
        if again:
            table = [better(row, table) for row in families_table.read(where, number)]
        if only:
            print(families_table.markdown(table, number, rounds))
        else:
            print(families_table.write(where, table, number, rounds))


if __name__ == "__main__":
    typer.run(main)
