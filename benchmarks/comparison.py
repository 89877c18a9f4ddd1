"""What other tools make of small graphs: `FUSEKIT_MEASURE=0 python -m benchmarks.comparison > table.md`.

Each graph is the smallest one in which a law applies. The table shows the operators that each tool leaves, with its
default settings. It is pasted into docs/benchmarks/comparison.md. Needs the extra `bench`; a tool that is not installed
has no column.
"""

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import nn
from torch.profiler import profile

import fusekit
from fusekit.bench.competitors import COMPILED, FILES, FUSED, installed
from fusekit.model.own_copy import own_copy
from tests.grafting.test_field import CASES
from tests.support.families import ACNet, CollapsibleLinear, MobileOne, RepVGG, conv_norm
from tests.support.onnx_files import saved

CONVOLUTION = re.compile(r"(aten::(_convolution|mkldnn_convolution|thnn_conv2d|_conv_depthwise2d)$|mkldnn::_conv)")
ENDS = ("Input", "Output", "Const", "Constant", "Parameter", "Result")  # no work
MODULES: dict[str, Callable[[], nn.Module]] = {
    "conv -> batch norm": lambda: conv_norm(8, 8, 3, 1),
    "3x3 -> 1x1": lambda: nn.Sequential(nn.Conv2d(8, 64, 3, padding=1), nn.Conv2d(64, 8, 1)),
    "RepVGG block": lambda: RepVGG(8, 8),
    "ACNet block": lambda: ACNet(8, 8),
    "SESR block": lambda: CollapsibleLinear(8),
    "MobileOne block": lambda: MobileOne(8, 8),
}


def by_fusekit(source: Path, out: Path) -> None:
    fusekit.optimize_onnx(source, out, measure=False)


def by_onnx_runtime(source: Path, out: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath, options.log_severity_level = str(out), 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def by_polygraphy(source: Path, out: Path) -> None:
    loader: Any = import_module("polygraphy.backend.onnx")
    import_module("polygraphy.logger").G_LOGGER.severity = 40  # errors only: it logs to stdout
    onnx.save(loader.fold_constants(onnx.load(str(source))), str(out))


def of_file(way: Callable[[Path, Path], None], source: Path, folder: Path) -> str:
    """The operators that are left."""
    out = folder / "out.onnx"
    out.unlink(missing_ok=True)
    try:
        way(source, out)
    except Exception as error:
        return f"fails: {type(error).__name__}"
    return listed(Counter(node.op_type for node in onnx.load(str(out)).graph.node if node.op_type != "Constant"))


def of_openvino(source: Path) -> str:
    """The layers that OpenVINO runs; without the inputs and outputs."""
    openvino: Any = import_module("openvino")
    run = openvino.Core().compile_model(str(source), "CPU").get_runtime_model()
    kinds = (node.get_rt_info()["layerType"] for node in run.get_ops())
    words = (kind if isinstance(kind, str) else kind.astype(str) for kind in kinds)
    return listed(Counter(word for word in words if word not in ENDS))


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in counts.items()) or "none"


def convolutions(model: nn.Module, x: torch.Tensor) -> int:
    """How many convolutions run."""
    with torch.no_grad():
        model(x)
        model(x)
        with profile() as seen:
            model(x)
    names = Counter(event.name for event in seen.events() if CONVOLUTION.match(event.name))  # type: ignore[no-untyped-call]
    return max(names["aten::_convolution"], sum(count for name, count in names.items() if name.startswith("mkldnn::")))


def files() -> list[str]:
    ways: dict[str, Callable[[Path, Path], None]] = {"**fusekit**": by_fusekit}
    ways |= {name: way for name, way in FILES.items() if installed(name)}
    ways |= {"polygraphy": by_polygraphy} if find_spec("polygraphy") else {}
    ways["ONNX Runtime"] = by_onnx_runtime
    has_openvino = find_spec("openvino") is not None
    heads = ["graph", *ways, *(["OpenVINO"] if has_openvino else [])]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, _) in CASES.items():
            print(name, file=sys.stderr)
            source = saved(make(), Path(folder))
            cells = [of_file(way, source, Path(folder)) for way in ways.values()]
            cells += [of_openvino(source)] if has_openvino else []
            lines.append(f"| {' | '.join([name, *cells])} |")
    return lines


def modules() -> list[str]:
    ways = {"PyTorch": lambda model: model, **FUSED, **COMPILED, "**fusekit**": lambda m: fusekit.optimize(m, x)}
    x = torch.randn(1, 8, 32, 32)
    lines = [f"| {' | '.join(['network', *ways])} |", "|---" * (len(ways) + 1) + "|"]
    for name, make in MODULES.items():
        torch.manual_seed(0)
        model, cells = make().eval(), []
        for way in ways.values():
            torch._dynamo.reset()
            try:
                cells.append(str(convolutions(way(own_copy(model)), x)))
            except Exception as error:
                cells.append(f"fails: {type(error).__name__}")
        lines.append(f"| {' | '.join([name, *cells])} |")
    return lines


def main() -> None:
    tools = ("torch", "onnx", "onnxruntime", "onnxscript", "onnxsim", "onnxslim", "polygraphy", "openvino")
    print("Versions: " + ", ".join(f"{tool} {metadata.version(tool)}" for tool in tools if find_spec(tool)) + ".\n")
    print("\n".join(files()))
    sys.stdout.flush()
    print("\n" + "\n".join(modules()))


if __name__ == "__main__":
    main()
