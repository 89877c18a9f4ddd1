"""Measures how long `optimize` takes: on a ResNet-50, compared with torch.export, and on chains of growing length.

    python benchmarks/optimize_time.py [--threads N] [--rounds N]

Rounds are interleaved; medians and the range are printed. The chains show whether the time grows linearly with the
length.
"""

import statistics
import time
from collections.abc import Callable

import torch
import typer
from rich.console import Console
from rich.table import Table

import fusekit
from tests.support.architectures import ResNet50, conv_chain, randomize


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main(threads: int = 2, rounds: int = 5) -> None:
    torch.set_num_threads(threads)
    console = Console()
    model, image = randomize(ResNet50()), torch.randn(1, 3, 224, 224)
    ways: dict[str, Callable[[], object]] = {
        "torch.export.export": lambda: torch.export.export(model, (image,)),
        "optimize(model)": lambda: fusekit.optimize(model),
        "optimize(model, (x,))": lambda: fusekit.optimize(model, (image,)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(seconds(way))
    table = Table("ResNet-50", "median s", "range", "ratio to export", title=f"{threads} threads, {rounds} rounds")
    export = statistics.median(times["torch.export.export"])
    for name, taken in times.items():
        median = statistics.median(taken)
        table.add_row(name, f"{median:.2f}", f"{min(taken):.2f} - {max(taken):.2f}", f"{median / export:.2f}")
    console.print(table)
    table = Table("layers", "s", "ms a layer", title="optimize(conv -> batch norm -> ReLU, ...)")
    for length in (100, 1000, 5000):
        chain = randomize(conv_chain(length))
        taken = [seconds(lambda chain=chain: fusekit.optimize(chain)) for _ in range(1 if length > 1000 else 3)]  # type: ignore[misc]
        table.add_row(str(length), f"{min(taken):.2f}", f"{1000 * min(taken) / length:.2f}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
