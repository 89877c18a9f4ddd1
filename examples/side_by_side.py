"""Compares two modules and their ONNX files, before and after, in size and speed.

Latencies are medians of interleaved runs, so a slow moment of the machine affects all. All use the same threads."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime as ort
import torch
from rich.table import Table
from torch import Tensor, nn


def onnx_runner(path: Path, inputs: Sequence[Tensor], threads: int) -> Callable[[], list[object]]:
    """The ONNX file as a call without arguments; its outputs are a list of arrays."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning slows the other sessions
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {node.name: value.numpy() for node, value in zip(session.get_inputs(), inputs, strict=True)}
    return lambda: list(session.run(None, feed))


def torch_runner(module: nn.Module, inputs: Sequence[Tensor]) -> Callable[[], object]:
    """The module as a call without arguments."""
    return torch.inference_mode()(lambda: module(*inputs))


def latencies(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each call in milliseconds. The calls run in turn; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in times.items()}


def compare(
    modules: tuple[nn.Module, nn.Module], files: tuple[Path, Path], inputs: Sequence[Tensor], threads: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """Rows of (before, after): nodes and bytes of the files, milliseconds in ONNX Runtime and in PyTorch."""
    torch.set_num_threads(threads)
    calls: dict[str, Callable[[], object]] = {}
    for side, module, path in zip(("before", "after"), modules, files, strict=True):
        calls[f"onnx {side}"] = onnx_runner(path, inputs, threads)
        calls[f"torch {side}"] = torch_runner(module, inputs)
    times = latencies(calls, rounds)
    nodes = [len(onnx.load(path).graph.node) for path in files]
    sizes = [path.stat().st_size for path in files]
    return {
        "ONNX nodes": (nodes[0], nodes[1]),
        "file size, MB": (sizes[0] / 1e6, sizes[1] / 1e6),
        "ONNX Runtime, ms": (times["onnx before"], times["onnx after"]),
        "PyTorch, ms": (times["torch before"], times["torch after"]),
    }


def table(rows: Mapping[str, tuple[object, object]], title: str = "") -> Table:
    """The rows as a table; numbers get their ratio in a fourth column."""
    shown = Table("", "before", "after", "after / before", title=title)
    for name, (before, after) in rows.items():
        shown.add_row(name, _text(before), _text(after), _ratio(before, after))
    return shown


def _ratio(before: object, after: object) -> str:
    return f"x{after / before:.2f}" if isinstance(before, int | float) and isinstance(after, int | float) else ""


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if abs(value) < 1e-2 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
