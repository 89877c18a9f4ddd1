"""Ordinary and re-parameterised networks before and after fusekit, in PyTorch and in ONNX Runtime, against others.

    python benchmarks/families.py [--threads N] [--rounds N] [--csv-path FILE]

PyTorch: eager in its better memory layout, before and after. ONNX Runtime with all its own optimizations: the plain
export, the same file after onnxsim and after onnxslim where they are installed, and fusekit's export. One interleaved
run for each network; medians. Operators and batch norms are counted in the ONNX files.
"""

import csv
import logging
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

import fusekit
from examples.side_by_side import latencies, onnx_runner, torch_runner
from tests import families
from tests.architectures import ResNet50, randomize

try:
    import onnxsim
except ImportError:
    onnxsim = None
try:
    import onnxslim
except ImportError:
    onnxslim = None


def stack(*blocks: nn.Module) -> nn.Module:
    return randomize(nn.Sequential(*blocks))


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Name to (network in training form, input shape)."""
    rep, mobile = families.RepVGG, families.MobileOne
    return {
        "ResNet-50": (randomize(ResNet50()), (1, 3, 224, 224)),
        "RepVGG blocks": (stack(rep(3, 48), rep(48, 48), rep(48, 48), rep(48, 48)), (1, 3, 112, 112)),
        "MobileOne blocks": (stack(*(mobile(64, 64) for _ in range(4))), (1, 64, 56, 56)),
        "ACNet blocks": (stack(*(families.ACNet(64, 64) for _ in range(3))), (1, 64, 56, 56)),
        "DBB blocks": (stack(*(families.DiverseBranch(64, 64) for _ in range(3))), (1, 64, 56, 56)),
        "ECB blocks (super-resolution)": (stack(*(families.EdgeOriented(16, 16) for _ in range(4))), (1, 16, 128, 128)),
        "SESR blocks (super-resolution)": (
            stack(*(families.CollapsibleLinear(16, 256) for _ in range(4))),
            (1, 16, 128, 128),
        ),
        "ExpandNets blocks": (stack(*(families.ExpandedConv(32, 32) for _ in range(3))), (1, 32, 56, 56)),
        "dilated large-kernel blocks": (stack(*(families.DilatedReparam(64) for _ in range(3))), (1, 64, 56, 56)),
        "deep linear generator": (stack(families.LinearGenerator()), (1, 1, 128, 128)),
        "3-64-3 padded pair (ring)": (
            stack(nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 3, 3, padding=1)),
            (1, 3, 128, 128),
        ),
    }


def better_layout(prefix: str, model: nn.Module, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """The module as it is and in channels_last: the honest baseline is the faster of the two."""
    calls = {f"{prefix} contiguous": torch_runner(model, (x,))}
    if x.ndim == 4:
        last = x.to(memory_format=torch.channels_last)
        calls[f"{prefix} channels_last"] = torch_runner(model, (last,))
    return calls


def measure(
    name: str, model: nn.Module, shape: tuple[int, ...], threads: int, rounds: int, room: Path
) -> dict[str, Any]:
    torch.manual_seed(0)
    x = torch.randn(shape)
    torch.set_num_threads(threads)
    fast = fusekit.optimize(model, (x,))
    plain, ours = room / "plain.onnx", room / "fusekit.onnx"
    torch.onnx.export(model, (x,), dynamo=True, verbose=False).save(plain)  # type: ignore[union-attr]
    validation = fusekit.export(model, ours, (x,), dynamic=False)  # like for like: the plain export is static
    assert validation.ok, f"{name}: {validation}"
    files = {"plain export": plain}
    if onnxsim is not None:
        simplified, _ = onnxsim.simplify(str(plain))
        files["onnxsim"] = room / "sim.onnx"
        onnx.save(simplified, files["onnxsim"])
    if onnxslim is not None:
        files["onnxslim"] = room / "slim.onnx"
        onnx.save(onnxslim.slim(str(plain)), files["onnxslim"])
    files["fusekit"] = ours
    calls = better_layout("torch before", model, x) | better_layout("torch after", fast, x)
    calls |= {f"onnx {key}": onnx_runner(path, (x,), threads) for key, path in files.items()}
    times = latencies(calls, rounds)
    before = min(ms for key, ms in times.items() if key.startswith("torch before"))
    after = min(ms for key, ms in times.items() if key.startswith("torch after"))
    others = {key: times[f"onnx {key}"] for key in files if key != "fusekit"}
    best = min(others, key=lambda key: others[key])
    counts = {key: Counter(node.op_type for node in onnx.load(path).graph.node) for key, path in files.items()}
    return {
        "network": name,
        "operators": sum(counts["plain export"].values()),
        "operators best other": min(sum(counts[key].values()) for key in others),
        "operators fusekit": sum(counts["fusekit"].values()),
        "torch before ms": round(before, 3),
        "torch after ms": round(after, 3),
        "torch speed-up": round(before / after, 2),
        "onnx best other": best,
        "onnx best other ms": round(others[best], 3),
        "onnx fusekit ms": round(times["onnx fusekit"], 3),
        "onnx speed-up": round(others[best] / times["onnx fusekit"], 2),
        "error": f"{validation.error:.1e}",
        "own error": f"{validation.reference_error:.1e}",
    }


def main(threads: int = 1, rounds: int = 15, csv_path: Path | None = None) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    rows = []
    for name, (model, shape) in networks().items():
        with tempfile.TemporaryDirectory() as room:
            rows.append(measure(name, model, shape, threads, rounds, Path(room)))
        print(rows[-1], file=sys.stderr)
    table = Table(*rows[0], title=f"{threads} thread(s), medians of {rounds} interleaved rounds")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=220).print(table)
    if csv_path is not None:
        with csv_path.open("w", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    typer.run(main)
