"""Measures the memory that the custom backward of the quaternion linear layer saves, and the time it costs.

    python benchmarks/quaternion_memory.py

The table is in docs/hypercomplex.md. A stack of layers runs forward and backward, by autograd and by
`quaternion_linear_lean`. "kept" is the memory that is kept for the backward pass, without parameters and activations.
"peak" is the growth of a separate process in one step (Linux; glibc is told to return freed memory at once). "time" is
the shortest of several steps; both forms run in turn in one process.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from fusekit import nn as fnn

SETTINGS = ((16, 256, 8), (16, 1024, 8), (256, 1024, 8), (4096, 256, 8))  # batch, real width, layers
STEPS = 40


def stack(width: int, layers: int, lean: bool) -> nn.Sequential:
    torch.manual_seed(0)
    made = (layer for _ in range(layers) for layer in (fnn.QuaternionLinear(width, width, lean=lean), nn.Tanh()))
    return nn.Sequential(*made)


def step(model: nn.Module, x: Tensor) -> None:
    for parameter in model.parameters():
        parameter.grad = None
    model(x).square().mean().backward()


def kept(model: nn.Module, x: Tensor) -> int:
    """Bytes of the storages saved for the backward pass that are neither parameters nor activations."""
    mine = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in mine and tensor.shape[0] != x.shape[0]:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y = model(x)
    del y
    return sum(found.values())


def peak(batch: int, width: int, layers: int, lean: bool) -> None:
    """Print how much this process grows in its first step. It does nothing else."""
    model, x = stack(width, layers, lean), torch.randn(batch, width)
    small = stack(16, 1, lean)
    step(small, torch.randn(2, 16))  # what torch allocates once
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest so far
    before = resident()
    step(model, x)
    print(resident() - before)


def resident() -> int:
    """The most this process has held in memory, in KiB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def timed(models: list[nn.Sequential], x: Tensor) -> list[float]:
    best = [float("inf")] * len(models)
    for _ in range(STEPS):
        for number, model in enumerate(models):
            start = time.perf_counter()
            step(model, x)
            best[number] = min(best[number], time.perf_counter() - start)
    return best


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        batch, width, layers, lean = map(int, sys.argv[1:])
        return peak(batch, width, layers, bool(lean))
    print(
        "| batch x width, layers | parameters | kept: autograd | lean | peak: autograd | lean | time: lean / autograd |"
    )
    print("|---|---|---|---|---|---|---|")
    quiet = os.environ | {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
    for batch, width, layers in SETTINGS:
        models = [stack(width, layers, lean) for lean in (False, True)]
        x = torch.randn(batch, width)
        own = sum(parameter.numel() for parameter in models[0].parameters()) * 4 / 2**20
        saved = [kept(model, x) / 2**20 for model in models]
        command = [sys.executable, __file__, str(batch), str(width), str(layers)]
        grown = [int(subprocess.check_output([*command, lean], env=quiet)) / 1024 for lean in ("0", "1")]
        seconds = timed(models, x)
        print(
            f"| {batch} x {width}, {layers} | {own:.1f} MiB | {saved[0]:.1f} MiB | {saved[1]:.1f} | {grown[0]:.0f} MiB "
            f"| {grown[1]:.0f} | {seconds[1] / seconds[0]:.2f} |",
            flush=True,
        )
    return None


if __name__ == "__main__":
    main()
