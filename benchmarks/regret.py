"""Measures the regret: how much longer the realization that fusekit chose takes than the fastest one.

    python -m benchmarks.regret [--threads N] [--target torch --target onnxruntime] [--quick] [--only grid]

writes regret-1-thread.{csv,md} and so on to docs/benchmarks; with `--quick` or `--only` nothing is written. Every
convolution of the grid of benchmarks/fft.py, and every one that is left in the folded networks of benchmarks/models.py,
is a model by itself. First `fusekit.optimize` chooses, with an empty cache of measurements. Then all realizations run
in turn, also those that its formulas had ruled out, and

    regret = time of the chosen one / time of the fastest - 1

If several are equally fast, the fastest is also the luckiest, so a right choice has a regret of some percent, too. A
realization is not run if a call would take seconds, or if it is by formula many times slower than the direct
convolution.
"""

import csv
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

import fusekit
from benchmarks.fft_grid import cases
from benchmarks.fft_measure import HOPELESS
from benchmarks.model_networks import wholes
from benchmarks.record import WHERE, machine, write_csv
from fusekit.algebra import Conv, Map, Relaid, SpectralConv, WinogradConv
from fusekit.errors import FusekitError
from fusekit.model import Inputs
from fusekit.onnx_export import export_plain
from fusekit.optimizing.race import module_of
from fusekit.passes import CHOOSE, STAGES
from fusekit.runtimes import runtime
from fusekit.runtimes.timing import Call, interleaved

DIRECT, LAST, PLANAR, PLANAR_LAST, FFT = "direct", "channels last", "planar", "planar, channels last", "FFT"
WINOGRAD = "Winograd"
BY_PASS = {
    "use-spectral-conv": FFT,
    "use-planar-conv": PLANAR,
    "use-planar-channels-last": PLANAR_LAST,
    "use-channels-last": LAST,
    "use-winograd": WINOGRAD,
    "channels-last": LAST,
}
FAR = 5.0  # times the price of the direct convolution: not measured
LONG = 49  # taps from which a convolution in ONNX Runtime has a candidate at all
QUICK = ("torchcrepe tiny", "31x31 depthwise")


@dataclass(frozen=True)
class Single:
    """One convolution, and an input for it."""

    name: str
    source: str
    layer: nn.Module
    x: Tensor

    @property
    def conv(self) -> Conv:
        """The convolution as a `Conv` of the algebra."""
        layer: Any = self.layer
        options: dict[str, Any] = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
        if layer.transposed:
            options |= {"transposed": True, "output_padding": layer.output_padding}
        pairs = tuple((p, p) for p in layer.padding)
        return Conv.from_torch(layer.weight.detach(), layer.bias, padding=pairs, **options)


def of_grid(quick: bool) -> Iterator[Single]:
    for case in cases(quick):
        x, weight, bias = case.tensors()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[case.n - 1]
        layer = kind(case.channels, case.channels, case.kernel, padding=case.padding, groups=case.groups)
        layer.load_state_dict({"weight": weight, "bias": bias})
        yield Single(case.name, "grid", layer.eval().requires_grad_(False), x)


def of_networks(quick: bool) -> Iterator[Single]:
    """The convolutions of the networks; of those with equal shapes, only one."""
    seen = set()
    for name, whole in wholes().items():
        torch.manual_seed(0)
        if (quick and name not in QUICK) or (model := whole.build()) is None:
            continue
        folds = [rewrite.name for stage in STAGES if stage.name != CHOOSE for rewrite in stage.passes]
        folded = fusekit.optimize(model, (whole.example(),), passes=folds, measure=False)
        found: list[tuple[str, nn.Module, Tensor]] = []

        def note(module: nn.Module, args: tuple[Tensor, ...], *, path: str, into: Any = found) -> None:
            into.append((path, module, args[0]))

        for path, module in folded.named_modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and not isinstance(module.padding, str):
                module.register_forward_pre_hook(partial(note, path=path))
        with torch.no_grad():
            folded(whole.example())
        for path, module, x in found:
            key = (str(module), tuple(x.shape))
            if key not in seen:
                seen.add(key)
                module._forward_pre_hooks.clear()
                yield Single(f"{name}, {path}", "networks", module, x.detach().contiguous())


def realizations(conv: Conv, shape: tuple[int, ...], target: str) -> dict[str, Map]:
    """All realizations for this target, whether or not fusekit would consider them."""
    found: dict[str, Map] = {}
    if conv.macs(shape) <= HOPELESS[conv.groups == conv.in_channels]:
        found[DIRECT] = conv
    options: dict[str, Any] = {PLANAR: {"planar": True}} if conv.n == 1 else {}
    if target == "torch" and conv.n < 3:
        options |= {PLANAR_LAST: {"planar": True, "channels_last": True}} if conv.n == 1 else {}
        options |= {LAST: {"channels_last": True}} if conv.n == 2 else {}
    found |= {name: Relaid(conv, **how) for name, how in options.items() if DIRECT in found}
    wide = conv.groups == 1 and min(conv.in_channels, conv.out_channels) >= 64 and not conv.transposed
    if target == "onnxruntime" and wide and (conv.window[-1], conv.stride[-1], conv.dilation[-1]) == (3, 1, 1):
        found[WINOGRAD] = WinogradConv(conv)
    spectral = SpectralConv.of(conv)
    prices = [m.work(shape, 4, runtime(target).rates).price for m in (spectral, conv)]
    if prices[0] < FAR * prices[1]:
        found[FFT] = spectral
    return found


def regret(single: Single, target: str, room: Path, rounds: int, seconds: float) -> dict[str, Any] | None:
    """One row of the table; None if there is nothing to choose."""
    conv, shape = single.conv, tuple(single.x.shape)
    maps = realizations(conv, shape, target)
    if len(maps) < 2:
        return None
    fast = fusekit.optimize(single.layer, (single.x,), target=target)
    applied = [BY_PASS[event.rewrite] for event in fast.report.applied if event.rewrite in BY_PASS]  # type: ignore[union-attr]
    chosen = applied[-1] if applied else DIRECT
    inputs, calls = Inputs((single.x,)), dict[str, Call]()
    for label, value in maps.items():
        module = module_of(value, torch.float32)
        path = room / f"{len(calls)}.onnx"
        calls[label] = runtime(target).build(module, inputs, partial(export_plain, module, path, inputs, dynamic=False))
    times = {label: each.median for label, each in interleaved(calls, rounds, seconds, warm=True).items()}
    best = min(times, key=times.__getitem__)
    return {
        "source": single.source,
        "convolution": single.name,
        "shape": "x".join(map(str, shape)),
        "chosen": chosen,
        "best": best,
        "regret": times[chosen] / times[best] - 1,
        **{f"{label} ms": f"{ms:.4g}" for label, ms in times.items()},
    }


def table(rows: list[dict[str, Any]], target: str) -> list[str]:
    lines = [
        f"## {runtime(target).title}",
        "",
        "| convolutions of | how many | mean regret | worst | above 3 % | chosen |",
        "|---|---|---|---|---|---|",
    ]
    for source in dict.fromkeys(row["source"] for row in rows):
        some = [row for row in rows if row["source"] == source]
        each = [row["regret"] for row in some]
        labels = [row["chosen"] for row in some]
        counts = ", ".join(f"{label} {labels.count(label)}" for label in dict.fromkeys(labels))
        above = sum(r > 0.03 for r in each)
        lines.append(
            f"| the {source} | {len(some)} | {sum(each) / len(each):.1%} | {max(each):.1%} | {above} | {counts} |"
        )
    worst = sorted(rows, key=lambda row: -row["regret"])[:10]
    lines += ["", "The ten worst:", "", "| convolution | chosen | fastest | regret |", "|---|---|---|---|"]
    for row in worst:
        shown = [f"{row[k]} ({row[f'{row[k]} ms']} ms)" for k in ("chosen", "best")]
        lines.append(f"| {row['convolution']}, {row['shape']} | {shown[0]} | {shown[1]} | {row['regret']:.1%} |")
    return [*lines, ""]


def merged(path: Path, rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of the file; rows that were measured again replace the old ones."""
    new = {(name, row["convolution"]): row for name, found in rows.items() for row in found}
    whole: dict[str, list[dict[str, Any]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            name = row.pop("target")
            old = {k: v for k, v in row.items() if v} | {"regret": float(row["regret"])}
            whole.setdefault(name, []).append(new.get((name, row["convolution"]), old))
    return whole


def main(
    threads: Annotated[int, typer.Option(min=1)] = 1,
    target: Annotated[list[str] | None, typer.Option(help="torch, onnxruntime; both by default")] = None,
    rounds: int = 15,
    seconds: Annotated[float, typer.Option(help="for all rounds of a convolution")] = 1.5,
    quick: Annotated[bool, typer.Option("--quick")] = False,
    only: Annotated[str, typer.Option(help="grid or networks")] = "",
    again: Annotated[list[str] | None, typer.Option(help="measure those whose name holds this once more")] = None,
    where: Annotated[Path, typer.Option(help="where the files go")] = WHERE,
) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in target or ("torch", "onnxruntime")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FUSEKIT_CACHE_DIR"] = folder
        singles = ([] if only == "networks" else [of_grid(quick)]) + ([] if only == "grid" else [of_networks(quick)])
        for single in (each for source in singles for each in source):
            if again and not any(text in single.name for text in again):
                continue
            for name, found in rows.items():
                if name == "onnxruntime" and (single.conv.n != 1 and single.conv.kernel[0, 0, 0].numel() < LONG):
                    continue  # nothing but the direct convolution comes into question
                try:
                    row = regret(single, name, Path(folder), rounds, seconds)
                except (FusekitError, RuntimeError) as error:
                    print(f"{name}: {single.name}: {error}", file=sys.stderr, flush=True)
                    continue
                if row is not None:
                    found.append(row)
                    shown = {k: v for k, v in row.items() if k.endswith(" ms")}
                    print(
                        f"{name}: {single.name}: {row['chosen']}, best {row['best']}, {row['regret']:.1%} {shown}",
                        file=sys.stderr,
                        flush=True,
                    )
    ending = f"{threads}-thread{'s' * (threads > 1)}"
    if again:
        rows = merged(where / f"regret-{ending}.csv", rows)
    lines = [
        f"# Regret of the choice, {threads} thread{'s' * (threads > 1)}",
        "",
        machine("torch", "onnxruntime") + ".",
        "",
    ]
    for name, found in rows.items():
        lines += table(found, name) if found else []
    print("\n".join(lines))
    if not (quick or only):
        write_csv(
            where / f"regret-{ending}.csv", [{"target": name, **row} for name, found in rows.items() for row in found]
        )
        (where / f"regret-{ending}.md").write_text("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
