"""Fourier transforms and complex networks in files: `python -m benchmarks.transforms [networks | lengths | NAME ...]`.

`networks`: each network of `transform_speech.py` and `transform_fields.py` in a process of its own, with one thread and
a limit: whether there is a file, its nodes and free axes, the error over the model's own, milliseconds in ONNX Runtime
and in eager PyTorch, those of the plain export, and the seconds that the export took. `lengths`: transforms of 2 to
2,048 points by ONNX's DFT, by one matrix and by factors: error and time, and what is chosen. Written as
docs/benchmarks/transforms*.md and .csv; NAME only prints.
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

import fusekit
from benchmarks.record import WHERE, machine, write_csv
from benchmarks.transform_fields import FIELDS
from benchmarks.transform_speech import SPEECH
from fusekit.algebra.transforms.fourier import Axis, first_factor
from fusekit.model import Inputs
from fusekit.nn import fourier
from fusekit.nn.fourier import Fourier
from fusekit.onnx_export.plain_export import plain_export
from fusekit.runtimes import runtime

NETWORKS = {**SPEECH, **FIELDS}
LIMIT = 300  # seconds for each network
LENGTHS = (
    2,
    3,
    8,
    16,
    31,
    64,
    97,
    100,
    128,
    200,
    256,
    320,
    400,
    480,
    509,
    512,
    600,
    960,
    1000,
    1009,
    1024,
    1536,
    2039,
    2048,
)
ROWS = 64
Row = dict[str, Any]


def example(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network with norms as after training, and its inputs."""
    build, shapes, dtypes = NETWORKS[name]
    torch.manual_seed(0)
    model = build().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    given = dtypes if isinstance(dtypes, tuple) else (dtypes,) * len(shapes)
    return model, tuple(_drawn(shape, dtype) for shape, dtype in zip(shapes, given, strict=True))


def _drawn(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if dtype is torch.int64:
        return torch.randint(0, 1000, shape)
    if dtype is torch.bool:
        return torch.rand(shape) < 0.4
    return torch.randn(shape, dtype=dtype) if dtype.is_complex else torch.rand(shape, dtype=dtype)


def fastest(call: Callable[[], Any], seconds: float = 1.0) -> float:
    """Milliseconds of the fastest call within this time, after two to warm up."""
    best, until = float("inf"), time.perf_counter() + seconds
    for number in range(1000):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start) if number > 1 else best
        if time.perf_counter() > until and number > 4:
            break
    return 1000 * best


def one_network(name: str) -> Row:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model, inputs = example(name)
    row: Row = {"network": name}
    with torch.no_grad():
        row["eager_ms"] = fastest(lambda: model(*inputs))
    room = Path(tempfile.mkdtemp())
    start = time.perf_counter()
    try:
        verdict = fusekit.export(model, room / "m.onnx", inputs)
    except fusekit.FusekitError as refusal:
        return row | {"seconds": time.perf_counter() - start, "problem": str(refusal)[:300]}
    row["seconds"] = time.perf_counter() - start
    if not verdict.ok:
        return row | {"problem": str(verdict.failures[:1])[:300]}
    graph = onnx.load(room / "m.onnx").graph
    session = _session(room / "m.onnx")
    errors = [(out.error, out.reference_error) for probe in verdict.probes for out in probe.outputs]
    row["nodes"] = len(graph.node)
    row["free"] = " ".join(f"{each.name}[{', '.join(str(n) for n in each.shape)}]" for each in session.get_inputs())
    row["error"], row["own_error"] = max(errors, key=lambda pair: pair[0] / max(pair[1], 1e-9))
    call = runtime("onnxruntime").load(room / "m.onnx").bound(Inputs.of(inputs), Inputs.of(inputs).names(model))
    row["onnx_ms"] = fastest(call)
    try:
        plain_export(
            model, room / "plain.onnx", Inputs.of(inputs), dynamic=False, opset=None, runtime=runtime("onnxruntime")
        )
        plain = runtime("onnxruntime").load(room / "plain.onnx")
        row["plain_ms"] = fastest(plain.bound(Inputs.of(inputs), Inputs.of(inputs).names(model)))
    except Exception:  # whatever the plain exporter or its file fails of: there is none to compare with
        row["plain_ms"] = None
    return row


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def in_a_process(name: str) -> Row:
    command = [sys.executable, "-m", "benchmarks.transforms", "--one", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return {"network": name, "problem": f"no answer in {LIMIT} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {"network": name, "problem": (done.stderr.strip() or "ended")[-300:]}


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def told(row: Row) -> str:
    if "problem" in row:
        said = row["problem"].replace("|", "\\|")
        cells = (
            row["network"],
            f"no: {said}",
            "",
            "",
            _number(row.get("eager_ms")),
            "",
            "",
            _number(row.get("seconds"), 0),
        )
        return "| " + " | ".join(cells) + " |"
    ratio = row["error"] / max(row["own_error"], 1e-9)
    cells = (
        row["network"],
        row["free"],
        str(row["nodes"]),
        f"{row['error']:.1e} ({ratio:.1f})",
        _number(row["eager_ms"]),
        _number(row["onnx_ms"]),
        _number(row["plain_ms"]),
        _number(row["seconds"], 0),
    )
    return "| " + " | ".join(cells) + " |"


def networks(names: list[str], write: bool) -> None:
    rows, lines = [], []
    for name in names:
        rows.append(in_a_process(name))
        lines.append(told(rows[-1]))
        print(lines[-1], flush=True)
    if not write:
        return
    done = [row for row in rows if "problem" not in row]
    faster = sum(row["onnx_ms"] <= row["eager_ms"] for row in done)
    text = [
        "# Networks with Fourier transforms, complex and hypercomplex numbers, in files",
        "",
        f"{machine('torch', 'onnx', 'onnxruntime')}; one thread. `python -m benchmarks.transforms networks`",
        "",
        f"{len(done)} of {len(rows)} have a file; {faster} of these are at least as fast as eager PyTorch.",
        "The error is that of the worst probe (in brackets: how many times the model's own). No plain export's time:",
        "it fails, or its file does. Seconds: the whole export, measuring included.",
        "",
        "| network | inputs of the file | nodes | error | eager, ms | file, ms | plain export, ms | seconds |",
        "|---|---|---|---|---|---|---|---|",
        *lines,
    ]
    (WHERE / "transforms.md").write_text("\n".join(text) + "\n")
    write_csv(WHERE / "transforms.csv", rows)


class _Dft(nn.Module):
    def __init__(self, form: str, n: int) -> None:
        super().__init__()
        self.form, self.layer = form, Fourier("of real", (-1,), -1, 0.0)

    def forward(self, x: Tensor) -> Any:
        if self.form == "DFT":
            return torch.view_as_real(torch.fft.rfft(x))
        return self.layer(x)


def one_length(n: int) -> Row:
    """Errors and times of the forms of rfft of n points, of 64 rows."""
    x = torch.randn(ROWS, n)
    exact = torch.fft.rfft(x.double())
    row: Row = {"points": n, "chosen": first_factor(Axis(n, "of real", -1))}
    row["own_error"] = float((torch.fft.rfft(x) - exact).norm() / exact.norm())
    row["torch_ms"] = fastest(lambda: torch.fft.rfft(x), 0.3)
    forms = {"DFT": None, "matrix": 1, "factors": row["chosen"] if row["chosen"] > 1 else None}
    for form, first in forms.items():
        if form == "factors" and first is None:
            continue
        path = Path(tempfile.mkdtemp()) / "m.onnx"
        chosen = fourier.first_factor
        try:
            if first is not None:
                fourier.first_factor = lambda axis, first=first: first
            torch.onnx.export(_Dft(form, n), (x,), path, dynamo=True, verbose=False, input_names=["x"])
        finally:
            fourier.first_factor = chosen
        session = _session(path)
        got = session.run(None, {"x": x.numpy()})
        z = got[0][..., 0] + 1j * got[0][..., 1] if form == "DFT" else got[0] + 1j * got[1]
        row[f"{form}_error"] = float(np.linalg.norm(z - exact.numpy()) / np.linalg.norm(exact.numpy()))
        row[f"{form}_ms"] = fastest(lambda session=session: session.run(None, {"x": x.numpy()}), 0.3)
    return row


def lengths() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [one_length(n) for n in LENGTHS]
    text = [
        "# Transforms of real signals in ONNX Runtime, by length",
        "",
        f"{machine('torch', 'onnx', 'onnxruntime')}; one thread, {ROWS} rows, float32.",
        "`python -m benchmarks.transforms lengths`",
        "",
        "Milliseconds, and the error relative to the norm. Chosen: one matrix, or the first of two factors.",
        "",
        "| points | torch | DFT | one matrix | two factors | chosen |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row['torch_ms']:.3f}, {row['own_error']:.0e}"]
        cells += [
            f"{row[f'{f}_ms']:.3f}, {row[f'{f}_error']:.0e}" if f"{f}_ms" in row else ""
            for f in ("DFT", "matrix", "factors")
        ]
        text.append(
            f"| {row['points']} | " + " | ".join(cells) + f" | {'matrix' if row['chosen'] == 1 else row['chosen']} |"
        )
        print(text[-1], flush=True)
    (WHERE / "transforms-lengths.md").write_text("\n".join(text) + "\n")
    write_csv(WHERE / "transforms-lengths.csv", rows)


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--one"]:
        print(json.dumps(one_network(arguments[1])))
        return
    if not arguments or "networks" in arguments:
        networks(list(NETWORKS), write=True)
    if not arguments or "lengths" in arguments:
        lengths()
    chosen = [name for name in NETWORKS if any(name.startswith(each) for each in arguments)]
    if chosen:
        networks(chosen, write=False)


if __name__ == "__main__":
    main(sys.argv[1:])
