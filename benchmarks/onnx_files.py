"""Exported networks of timm, folded as files: nodes and latency beside other optimizers of files, and whether all hold.

    python -m benchmarks.onnx_files [NAME ...] > table.md

Each network has random weights and statistics, is written by plain torch.onnx, and runs in ONNX Runtime on one image of
the size it is made for. Needs timm on the path; onnxslim and onnxsim where they are to be compared.
"""

import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

import fusekit
from fusekit.bench.competitors import FILES, installed
from fusekit.grafting import validate_onnx
from fusekit.model import Inputs
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.runtimes.timing import interleaved

NAMES = (
    *("resnet18", "repvgg_a0", "mobileone_s0", "fastvit_t8", "mobilenetv2_100", "mobilenetv3_small_100"),
    *("efficientnet_b0", "densenet121", "convnext_atto", "regnetx_002", "ghostnet_100", "shufflenet_v2_x0_5"),
    *("vgg11_bn", "inception_v3", "vit_tiny_patch16_224", "mixer_s32_224", "repghostnet_050", "dla34"),
)  # fmt: skip


def randomised(model: nn.Module) -> nn.Module:
    """With norms that do something."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


def written(name: str, path: Path) -> torch.Tensor:
    """The network as a file; its input."""
    timm: Any = __import__("timm")
    model = randomised(timm.create_model(name, pretrained=False))
    size = model.pretrained_cfg.get("input_size", (3, 224, 224))
    x = torch.randn(2, *size)
    sizes = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(model, (x,), path, dynamo=True, dynamic_shapes=sizes, verbose=False, external_data=False)
    return x[:1]


def row(name: str, folder: Path) -> str:
    """One line of the table."""
    source = folder / "source.onnx"
    x = written(name, source)
    started = time.perf_counter()
    verdict = fusekit.optimize_onnx(source, folder / "fusekit.onnx", x)
    seconds = time.perf_counter() - started
    paths = {"original": source, "fusekit": folder / "fusekit.onnx"}
    wrong = "" if verdict.ok else "fusekit WRONG"
    for other in ("onnxslim", "onnxsim", "onnxscript"):
        if installed(other):
            try:
                FILES[other](source, folder / f"{other}.onnx")
                paths[other] = folder / f"{other}.onnx"
                if not validate_onnx(source, paths[other], x).ok:
                    wrong += f" {other} wrong"
            except Exception as error:
                wrong += f" {other} failed: {type(error).__name__}"
    names = [port.name for port in ONNX_RUNTIME.load(source).inputs]
    calls = {k: ONNX_RUNTIME.load(p, spinning=False).bound(Inputs((x,)), names) for k, p in paths.items()}
    times = interleaved(calls, 25, 8.0)
    cells = [
        f"{len(onnx.load(path).graph.node)} nodes {times[key].median:.1f} ms" for key, path in paths.items()
    ]  # fmt: skip
    error = f"{verdict.error:.0e} of {verdict.tolerance:.0e}"
    return f"| {name} | {' | '.join(cells)} | {error} | {seconds:.0f} s | {wrong} |"


def main(names: list[str]) -> None:
    """The table."""
    warnings.simplefilter("ignore")
    others = [other for other in ("onnxslim", "onnxsim", "onnxscript") if installed(other)]
    print(f"| network | original | fusekit | {' | '.join(others)} | error | took | |", flush=True)
    print("|" + "---|" * (6 + len(others)), flush=True)
    for name in names or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                print(row(name, Path(folder)), flush=True)
            except Exception as error:
                print(f"| {name} | {type(error).__name__}: {str(error)[:150]} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
