"""Times complex and quaternion networks by width: layers of other libraries, of torch, and fusekit's result.

Four 3 x 3 convolutions with a ReLU of the parts between them, on one image. fusekit optimizes the network in torch's
own complex layers, so its row shows what a user of these layers gains. `block` is without `use-product`: every layer is
one real convolution. PyTorch and ONNX Runtime are timed separately; all forms of one width run in turn.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fusekit
import fusekit.nn as fnn
from benchmarks.lowering_block import SplitReLU
from benchmarks.lowering_case import imported
from benchmarks.lowering_ways import plain, reason
from fusekit.model import Inputs, quiet
from fusekit.optimizing.channels_last import NAME as CHANNELS_LAST
from fusekit.passes import PASSES
from fusekit.runtimes.onnx_runtime import OnnxFile
from fusekit.runtimes.pytorch import torch_call
from fusekit.runtimes.timing import Call, interleaved

Row = dict[str, Any]
Made = dict[str, tuple[nn.Module, Tensor]]
SIZES = {8: 56, 16: 28, 32: 28, 64: 28, 128: 14}
DEPTH = 4
BLOCK, PRODUCTS, NATIVE = "fusekit, block", "fusekit, products", "torch"
RUNTIMES = ("PyTorch", "ONNX Runtime")


def stack(conv: Callable[[], nn.Module], relu: Callable[[], nn.Module]) -> nn.Sequential:
    layers = [made for _ in range(DEPTH) for made in (conv(), relu())]
    return nn.Sequential(*layers[:-1]).eval()


def complex_networks(width: int, size: int) -> Made:
    x = torch.randn(1, width, size, size, dtype=torch.complex64)
    made = {NATIVE: stack(partial(nn.Conv2d, width, width, 3, padding=1, dtype=torch.complex64), SplitReLU)}
    cpt, ct = imported("complexPyTorch.complexLayers"), imported("complextorch.nn")
    if cpt is not None:
        made["complexPyTorch"] = stack(partial(cpt.ComplexConv2d, width, width, 3, padding=1), cpt.ComplexReLU)
    if ct is not None:
        made["complextorch"] = stack(partial(ct.Conv2d, width, width, 3, padding=1), partial(ct.CReLU, inplace=False))
    return {name: (module, x) for name, module in made.items()}


def quaternion_networks(width: int, size: int) -> Made:
    """Networks of `width` quaternions, which are 4 · `width` real channels. speechbrain's layers have channels last."""
    x = torch.randn(1, 4 * width, size, size)
    ours = stack(partial(fnn.QuaternionConv2d, 4 * width, 4 * width, 3, padding=1), nn.ReLU)
    made: Made = {"fusekit.nn": (ours, x)}
    theirs = imported("speechbrain.nnet.quaternion_networks.q_CNN")
    if theirs is not None:
        last = x.permute(0, 2, 3, 1).contiguous()
        conv = partial(theirs.QConv2d, width, 3, input_shape=tuple(last.shape), padding_mode="constant")
        made["speechbrain"] = (stack(conv, nn.ReLU), last)
    return made


NETWORKS = {"complex": complex_networks, "quaternion": quaternion_networks}


def measured(room: Path, rounds: int, quick: bool) -> Iterator[Row]:
    for kind, networks in NETWORKS.items():
        widths = (8,) if quick else (8, 16, 32, 64, 128)[: 5 if kind == "complex" else 4]
        for width in widths:
            size = 8 if quick else SIZES[width]
            torch.manual_seed(0)
            made = networks(width, size)
            for runtime in RUNTIMES:
                row: Row = {"kind": kind, "width": width, "plane": size, "runtime": runtime}
                yield row | timed(made, runtime, room, rounds, 0.3 if quick else 10.0)


def timed(made: Made, runtime: str, room: Path, rounds: int, seconds: float) -> Row:
    """Milliseconds of each form. For a form that fails, the reason is stored under its name."""
    source, x = next(iter(made.values()))
    calls: dict[str, Call] = {}
    problems: dict[str, str] = {}
    forms: dict[str, Callable[[], Call]] = {
        name: partial(_original, module, given, runtime, room) for name, (module, given) in made.items()
    }
    forms |= {form: partial(_optimized, source, x, runtime, room, form) for form in (BLOCK, PRODUCTS)}
    for name, form in forms.items():
        try:
            with quiet(), torch.no_grad():
                calls[name] = form()
        except Exception as error:
            problems[f"{name} problem"] = reason(error)
    times = interleaved(calls, rounds, seconds, warm=True)
    found: Row = {f"{name} ms": each.median for name, each in times.items()}
    return found | {"spread": max(each.spread for each in times.values())} | problems


def _original(module: nn.Module, x: Tensor, runtime: str, room: Path) -> Call:
    if runtime == RUNTIMES[0]:
        return torch_call(module, Inputs((x,)))
    path = _fresh(room)
    plain(module, (x,), path)
    return OnnxFile(path, spinning=False).bound(Inputs((x,)), ["x"])


def _optimized(module: nn.Module, x: Tensor, runtime: str, room: Path, form: str) -> Call:
    """Optimize with or without products. With them, measured times decide where they are used, as for every user."""
    passes = [*(name for name in PASSES if name != "use-product"), CHANNELS_LAST] if form == BLOCK else None
    if runtime == RUNTIMES[0]:
        return torch_call(fusekit.optimize(module, (x,), passes=passes), Inputs((x,)))
    path = _fresh(room)
    verdict = fusekit.export(module, path, (x,), dynamic=False, passes=passes)
    if not verdict.ok:
        raise ArithmeticError(f"not valid: {verdict.failures[0]}")
    return OnnxFile(path, spinning=False).bound(Inputs((x,)), ["x"])


def _fresh(room: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=room)) / "network.onnx"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The last columns: time of the native layers divided by fusekit's, and of the block form divided by that with
    products."""
    for kind in dict.fromkeys(row["kind"] for row in rows):
        group = [row for row in rows if row["kind"] == kind]
        forms = list(
            dict.fromkeys(key.rpartition(" ")[0] for row in group for key in row if key.endswith((" ms", "m")))
        )
        first = forms[0]
        ends = ("spread", f"{first} / fusekit", "block / products")
        yield f"| {' | '.join((f'{kind}, width', 'plane', 'runtime', *forms, *ends))} |"
        yield "| --- " * (6 + len(forms)) + "|"
        for row in group:
            cells = [f"{row[f'{f} ms']:.3f}" if f"{f} ms" in row else row.get(f"{f} problem", "") for f in forms]
            ratios = [_ratio(row, first, PRODUCTS), _ratio(row, BLOCK, PRODUCTS)]
            start = f"| {row['width']} | {row['plane']}² | {row['runtime']} | {' | '.join(cells)} "
            yield f"{start}| {row['spread']:.0%} | {' | '.join(ratios)} |"
        yield ""


def _ratio(row: Row, above: str, below: str) -> str:
    found = [row.get(f"{name} ms") for name in (above, below)]
    return f"{found[0] / found[1]:.2f}" if found[0] and found[1] else ""
