"""What 8 bits cost, unfolded, folded, and folded and equalized: writes docs/benchmarks/int8.md and int8.csv.

    python -m benchmarks.int8 [--weights out/int8] [--only NETWORK ...]

Each trained network is written as an ONNX file in four forms and quantized by ONNX Runtime: static, QDQ, activations
in uint8, weights in int8, minimum and maximum of 320 training images. The score is that of the test images. The files
with one scale for each tensor of weights are timed in turn, on one thread.
"""

import argparse
import csv
import logging
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor

import fusekit
from benchmarks.int8_networks import NETWORKS, Network, trained
from benchmarks.record import WHERE, machine, write_csv
from fusekit.bench import competitors
from fusekit.bench.measure import over
from fusekit.model import Inputs
from fusekit.onnx_export.plain_export import plain_export
from fusekit.runtimes.timing import interleaved

UNFOLDED, ONNXSIM, FOLDED, EQUALIZED = "unfolded", "onnxsim", "folded", "folded, equalized"
WAYS = ("per tensor", "per channel")


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, images: Tensor) -> None:
        self.batches: Iterator[dict[str, Any]] = iter([{name: batch.numpy()} for batch in images.split(32)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.batches, None)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def outputs(path: Path, images: Tensor) -> Tensor:
    running = session(path)
    name = running.get_inputs()[0].name
    return torch.cat([torch.from_numpy(running.run(None, {name: x.numpy()})[0]) for x in images.split(50)])


def quantized(path: Path, images: Tensor, way: str) -> Path:
    out = path.with_name(f"{path.stem} {way}.onnx")
    reader = Calibration(session(path).get_inputs()[0].name, images)
    words = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": way == WAYS[1]}
    quantize_static(path, out, reader, quant_format=QuantFormat.QDQ, **words)
    return out


def forms(name: str, room: Path, weights: Path, calibration: int = 320) -> tuple[dict[str, Path], Any, Tensor]:
    """The files of a network, its images, and those to calibrate with."""
    model, images = trained(name, weights)
    order = torch.randperm(len(images.train), generator=torch.Generator().manual_seed(3))
    chosen = images.train[order[:calibration]]
    x = chosen[:8]
    found = {form: room / f"{form}.onnx" for form in (UNFOLDED, ONNXSIM, FOLDED, EQUALIZED)}
    plain_export(model, found[UNFOLDED], Inputs.of(x), dynamic=True, opset=None)
    if competitors.installed("onnxsim"):
        competitors.FILES["onnxsim"](found[UNFOLDED], found[ONNXSIM])
    else:
        del found[ONNXSIM]
    assert fusekit.export(fusekit.optimize(model, x, measure=False), found[FOLDED], x, optimize=False).ok
    assert fusekit.export(fusekit.equalize(model, chosen[:64]), found[EQUALIZED], x, optimize=False).ok
    return found, images, chosen


def rows(name: str, network: Network, room: Path, weights: Path) -> Iterator[dict[str, Any]]:
    found, images, chosen = forms(name, room, weights)
    files = {(form, way): quantized(path, chosen, way) for form, path in found.items() for way in WAYS}
    scores = {
        key: network.score(outputs(path, images.test), images.test_target)
        for key, path in (*found.items(), *files.items())
    }
    x = images.test[:1].numpy()
    running = {form: session(files[form, WAYS[0]]) for form in found}
    calls = {form: partial(s.run, None, {s.get_inputs()[0].name: x}) for form, s in running.items()}
    times = interleaved(calls, 301, 8.0, warm=True, turning=True)
    for form, path in found.items():
        yield {
            "network": name,
            "unit": network.unit,
            "form": form,
            "operators": len(onnx.load(path, load_external_data=False).graph.node),
            "float32": f"{scores[form]:.2f}",
            **{f"int8 {way}": f"{scores[form, way]:.2f}" for way in WAYS},
            "int8 ms": f"{times[form].median:.3f}",
            "int8 speed-up": f"{over(times[UNFOLDED], times[form]).median:.2f}",
        }


def page(found: list[dict[str, Any]]) -> str:
    columns = list(found[0])
    lines = [
        "# int8, after folding and after equalizing",
        "",
        (__doc__ or "").split("\n\n", 2)[2].strip(),
        "",
        "Accuracy in %, PSNR in dB: more is better. ms: one image, one scale for each tensor; the speed-up is the",
        "median over interleaved rounds, against the unfolded int8 file. Networks and data:",
        "`benchmarks/int8_networks.py`. AIMET's equalization is not in the table: aimet-onnx 2.42.0 was installed",
        "without its dependencies, and did not import (bokeh was missing).",
        "",
        f"{machine('torch', 'onnxruntime', 'onnx', 'scikit-learn', 'scikit-image', 'onnxsim')}.",
        "",
        "| " + " | ".join(columns) + " |",
        "|---|---|---|" + "---:|" * (len(columns) - 3),
        *("| " + " | ".join(str(row[column]) for column in columns) + " |" for row in found),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.int8")
    parser.add_argument("--weights", type=Path, default=Path("out/int8"))
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), help="measure these; other rows stay")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    file = WHERE / "int8.csv"
    found: list[dict[str, Any]] = list(csv.DictReader(file.open())) if file.exists() else []
    for name in given.only:
        with tempfile.TemporaryDirectory() as room:
            measured = list(rows(name, NETWORKS[name], Path(room), given.weights))
        found = [row for row in found if row["network"] != name] + measured
        found.sort(key=lambda row: list(NETWORKS).index(row["network"]))
        write_csv(file, found)
        (WHERE / "int8.md").write_text(page(found), encoding="utf-8")
        for row in measured:
            print(", ".join(map(str, row.values())), flush=True)


if __name__ == "__main__":
    main()
