"""One network of benchmarks/zoo.py: builds it, optimizes and exports it, and prints what came of it as one JSON line.

python -m benchmarks.zoo_network PACKAGE NAME [SHAPE] [--files]
"""

import importlib
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fusekit
from fusekit.bench.competitors import by_onnxslim, installed
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from tests.support.architectures import randomize
from tests.support.compare import report_of

Row = dict[str, Any]
IMAGE = (1, 3, 224, 224)
NORMS = {"native_batch_norm", "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "batch_norm"}


class Ran(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func._schema.name.split("::")[1]] += 1
        return func(*args, **(kwargs or {}))


def ran(model: nn.Module, x: Tensor) -> tuple[int, int]:
    """(batch norms, convolutions and products) that run."""
    with torch.no_grad(), Ran() as mode:
        model(x)
    products = ("convolution", "addmm", "mm", "bmm", "baddbmm", "_convolution")
    return sum(mode.counts[name] for name in NORMS), sum(mode.counts[name] for name in products)


class Tensors(nn.Module):
    """A network whose output object is taken apart into tensors."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x, return_dict=False)


def built(package: str, name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """The network with random weights, and the shape of its example."""
    module: Any = importlib.import_module(package)
    if package == "timm":
        model = module.create_model(name, pretrained=False)
        return model, (1, *model.pretrained_cfg.get("input_size", IMAGE[1:]))
    if package == "torchvision":
        segments = name.startswith(("deeplab", "fcn", "lraspp"))
        arguments = {"weights_backbone": None} if segments else {}
        return module.models.get_model(name, weights=None, **arguments), IMAGE
    if package == "segmentation_models_pytorch":
        return module.create_model(name, "resnet18", encoder_weights=None), (1, 3, 128, 128)
    if package == "transformers":
        return Tensors(getattr(module, f"{name}Model")(getattr(module, f"{name}Config")())), IMAGE
    path, _, factory = name.rpartition(".")
    return getattr(importlib.import_module(f"{package}.{path}"), factory)(), (1, 3, 64, 64)


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of processor time, and the result."""
    start = time.process_time()
    result = action()
    return time.process_time() - start, result


def lost(model: nn.Module, result: nn.Module, x: Tensor) -> str:
    """The axes of which the result refuses a size that the model takes."""
    found = []
    others = {"batch": x.repeat(2, *(1,) * (x.dim() - 1))}
    others |= {
        f"axis {axis}": torch.randn(*x.shape[:axis], x.shape[axis] + 32, *x.shape[axis + 1 :])
        for axis in range(2, x.dim())
    }
    for name, other in others.items():
        with torch.no_grad():
            try:
                model(other)
            except Exception:
                continue
            try:
                result(other)
            except Exception:
                found.append(name)
    return ", ".join(found)


def free_axes(path: Path) -> int:
    """How many axes have a name, without the channels': torch.onnx names that one, too, though one size alone runs."""
    shapes = (port.shape for port in ONNX_RUNTIME.load(path).inputs)
    return sum(isinstance(size, str) for shape in shapes for axis, size in enumerate(shape) if axis != 1)


def of_files(model: nn.Module, x: Tensor, room: Path) -> Row:
    """What export writes, beside torch.onnx with free sizes and onnxslim."""
    row: Row = {"file": False, "plain file": False}
    ours, plain, slim = room / "ours.onnx", room / "plain.onnx", room / "slim.onnx"
    sizes = (dict.fromkeys(range(x.dim()), torch.export.Dim.AUTO),)
    batch = x.repeat(2, *(1,) * (x.dim() - 1))  # a size of 1 is never free
    theirs = 0.0
    with suppress(Exception):
        theirs, _ = timed(
            lambda: torch.onnx.export(model, (batch,), plain, dynamic_shapes=sizes, dynamo=True, verbose=False)
        )
        row |= {"plain file": True, "free axes of torch.onnx": free_axes(plain)}
    seconds, verdict = timed(lambda: fusekit.export(model, ours, x))
    row |= {"file": verdict.ok, "s of export": seconds, "file error": verdict.error}
    if verdict.ok:
        row |= {"free axes": free_axes(ours), "nodes": len(onnx.load(ours).graph.node)}
    if row["plain file"]:
        row["export / torch.onnx"] = seconds / theirs
        row["nodes of torch.onnx"] = len(onnx.load(plain).graph.node)
        if installed("onnxslim"):
            by_onnxslim(plain, slim)
            row["nodes of onnxslim"] = len(onnx.load(slim).graph.node)
    return row


def main(words: list[str]) -> Row:
    """The row of this network, without its name."""
    files = "--files" in words
    package, name, *rest = (word for word in words if word != "--files")
    if not installed(package):
        return {"trouble": "not installed"}
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, shape = built(package, name)
    model = randomize(model)
    x = torch.randn(tuple(map(int, rest[0].split("x"))) if rest else shape)
    with torch.no_grad():
        model(x)
    exported = 0.0
    with suppress(Exception):
        exported, _ = timed(lambda: torch.export.export(model, (x,)))
    seconds, result = timed(lambda: fusekit.optimize(model, x))
    report = report_of(result)
    verdict = fusekit.validate(model, result, x)
    before, after = ran(model, x), ran(result, x)
    row: Row = {
        "capture": report.capture,
        "ok": not any(probe.outputs and not probe.ok for probe in verdict.probes) and not report.rejected,
        "norms before": before[0],
        "norms after": after[0],
        "products before": before[1],
        "products after": after[1],
        "lost": lost(model, result, x),
        "error": max((output.error for probe in verdict.probes for output in probe.outputs), default=0.0),
        "error of the model": verdict.reference_error,
        "s of optimize": seconds,
        "optimize / export": seconds / exported if exported else 0.0,
    }
    if files:
        with tempfile.TemporaryDirectory() as room:
            row |= of_files(model, x, Path(room))
    return row


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    try:
        print(json.dumps(main(sys.argv[1:])))
    except Exception as error:
        print(json.dumps({"trouble": f"{type(error).__name__}: {str(error)[:200]}"}))
