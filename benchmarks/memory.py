"""How much memory, and processor time, a large model costs: in multiples of its weights.

    python -m benchmarks.memory [--gib 2.25] [--baseline CHECKOUT]

A stack of 3x3 convolutions and batch norms, 2,048 channels wide, is optimized and exported, each in a process of its
own. `peak`: the most memory that the process held, with the model and with all that was imported, over the bytes of the
weights. `plain` is torch's own export of the same model. With `--baseline`, another checkout is measured, too.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import fusekit

CHANNELS = 2048
HERE = Path(__file__).resolve().parents[1]
WAYS = ("plain", "optimize", "export", "export measured")


def network(gib: float) -> nn.Module:
    """As many blocks as fill so many GiB; the statistics of its norms are not trivial."""
    blocks = max(1, round(gib * 2**30 / (4 * 9 * CHANNELS**2)))
    layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 1)]
    for _ in range(blocks):
        norm = nn.BatchNorm2d(CHANNELS)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        layers += [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False), norm, nn.ReLU()]
    torch.manual_seed(0)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10)).eval()


def one(way: str, gib: float) -> None:
    """Run one way in this process, and print what it took as JSON."""
    torch.set_num_threads(1)
    model, x = network(gib), torch.randn(1, 3, 8, 8)
    weights = sum(weight.nbytes for weight in (*model.parameters(), *model.buffers()))
    before, clock = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path, ok = Path(folder) / "model.onnx", True
        if way == "plain":
            torch.onnx.export(model, (x,), path, dynamo=True, verbose=False)
        elif way == "optimize":
            fusekit.optimize(model, x, measure=False)
        else:
            ok = fusekit.export(model, path, x, measure=way == "export measured").ok
    after = resource.getrusage(resource.RUSAGE_SELF)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = after.ru_maxrss * 1024 / weights
    print(json.dumps({"ok": ok, "peak": peak, "cpu": took, "wall": time.perf_counter() - clock}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--gib", type=float, default=2.25)
    parser.add_argument("--baseline", type=Path)
    parser.add_argument("--ways", nargs="*", default=WAYS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given.one, given.gib)
        return
    print("| tree | way | peak, times the weights | CPU s | wall s | ok |\n|---|---|---:|---:|---:|---|")
    for name, tree in (("baseline", given.baseline), ("this", HERE)):
        for way in given.ways if tree else ():
            command = [sys.executable, __file__, "--one", way, "--gib", str(given.gib)]
            environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
            run = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True)
            if run.returncode:
                print(f"| {name} | {way} | failed: {run.stderr.strip().splitlines()[-1]} | | | |", flush=True)
                continue
            said = json.loads(run.stdout.strip().splitlines()[-1])
            print(f"| {name} | {way} | {said['peak']:.2f} | {said['cpu']:.0f} | {said['wall']:.0f} | {said['ok']} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
