"""The contenders of one convolution: fusekit, those who also compute it by FFT, and the direct paths.

Each is a function without arguments that returns the output. What can be prepared once (sessions, layouts, the spectrum
of a frozen weight) is prepared. Packages that are not installed are left out. ONNX Runtime gets files: `onnx conv` is
what a plain export writes; `onnx as conv2d` is the same convolution of one axis written with two axes, for which it has
faster kernels; `onnx DFT` is a convolution by FFT with ONNX's operator DFT.
"""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import fusekit
from benchmarks.fft_grid import Case
from fusekit import nn as fnn
from fusekit.nn import functional as FF

Run = Callable[[], Tensor]

FUSEKIT, UNCACHED, FUSEKIT_ONNX = "fusekit", "fusekit, weight not frozen", "fusekit onnx"
FFT_CONV, FFTCONV, JULIUS, SCIPY = "fft-conv-pytorch", "torch-fftconv", "julius", "scipy oaconvolve"
DIRECT = ("torch contiguous", "torch channels_last", "torch as conv2d", "torch as conv2d, channels_last")
ONNX_DIRECT, ONNX_DFT = ("onnx conv", "onnx as conv2d"), "onnx DFT"
SHOWN_WITH_DFT = {(1, 32, 129, 4096), (1, 64, 129, 4096), (1, 1, 1025, 16_000), (2, 64, 31, 56)}  # n, C, kernel, size


def optional(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


PACKAGES = {
    FFT_CONV: optional("fft_conv_pytorch"),
    FFTCONV: optional("torch_fftconv.functional"),
    JULIUS: optional("julius.fftconv"),
    SCIPY: optional("scipy.signal"),
}


def missing() -> list[str]:
    return [name for name, module in PACKAGES.items() if module is None]


def contenders(case: Case, x: Tensor, weight: Tensor, bias: Tensor, threads: int, files: Path) -> Iterator[Any]:
    """(name, a function that makes the contender), fusekit first. It may raise if a contender cannot do this case.

    Files are written to `files`. fusekit's are reused if they exist, because tracing takes seconds and does not depend
    on threads.
    """
    layer = (fnn.FFTConv1d, fnn.FFTConv2d, fnn.FFTConv3d)[case.n - 1]
    plain = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[case.n - 1]
    options: dict[str, Any] = {"padding": case.padding, "groups": case.groups}

    def as_layer(kind: type[nn.Module]) -> nn.Module:
        made = kind(case.channels, case.channels, case.kernel, **options)
        made.load_state_dict({"weight": weight, "bias": bias})
        return made.eval()

    def exported(kind: type[nn.Module]) -> Run:
        path = files / f"{case.name}.onnx"
        if not path.exists():
            verdict = fusekit.export(as_layer(kind), path, (x,), dynamic=False)
            if not verdict.ok:
                raise RuntimeError(f"the file does not hold: {verdict.failures[0]}")
        return session(path, x, threads)

    functional = (FF.fft_conv1d, FF.fft_conv2d, FF.fft_conv3d)[case.n - 1]
    frozen = as_layer(layer)
    yield FUSEKIT, lambda: lambda: frozen(x)
    yield UNCACHED, lambda: lambda: functional(x, weight, bias, **options)
    if case.batch == 1 and case.kernel > 3:
        yield FUSEKIT_ONNX, lambda: exported(layer)
    yield from _by_fft(case, x, weight, bias, options)
    yield from _direct(case, x, as_layer(plain))
    for name, graph in _graphs(case, x, weight, bias).items():
        path = files / f"{name}.onnx"
        onnx.save(graph, path)
        yield name, lambda path=path: session(path, x, threads)


def session(path: Path, x: Tensor, threads: int) -> Run:
    """The file in ONNX Runtime, with all its optimizations."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    # its threads would still hold the cores when the next contender runs
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    opened = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    feed = {opened.get_inputs()[0].name: x.numpy()}
    return lambda: torch.from_numpy(opened.run(None, feed)[0])


def _by_fft(case: Case, x: Tensor, weight: Tensor, bias: Tensor, options: dict[str, Any]) -> Iterator[Any]:
    if (fft_conv := PACKAGES[FFT_CONV]) is not None:
        yield FFT_CONV, lambda: lambda: fft_conv.fft_conv(x, weight, bias, **options)
    if (fftconv := PACKAGES[FFTCONV]) is not None:
        theirs = getattr(fftconv, f"fft_conv{case.n}d")
        yield FFTCONV, lambda: lambda: theirs(x, weight, bias, **options)
    if case.n == 1 and case.groups == 1 and (julius := PACKAGES[JULIUS]) is not None:
        yield JULIUS, lambda: lambda: julius.fft_conv1d(x, weight, bias, padding=case.padding)
    if case.n == 1 and case.channels == 1 and (scipy := PACKAGES[SCIPY]) is not None:
        image, taps, shift = x.numpy(), weight.flip(-1).numpy().copy(), bias.numpy()
        first = case.kernel - 1 - case.padding
        kept = slice(first, first + case.size + 2 * case.padding - case.kernel + 1)
        yield SCIPY, lambda: lambda: torch.from_numpy(scipy.oaconvolve(image, taps, axes=-1)[..., kept] + shift)


def _direct(case: Case, x: Tensor, layer: nn.Module) -> Iterator[Any]:
    """torch's own convolution in every layout, as a careful user would try it."""
    yield DIRECT[0], lambda: lambda: layer(x)
    if case.n > 1:
        layout: Any = torch.channels_last if case.n == 2 else torch.channels_last_3d
        last, image = nn.Sequential(layer).to(memory_format=layout), x.to(memory_format=layout)
        yield DIRECT[1], lambda: lambda: last(image)
        return
    weight, bias = layer.get_parameter("weight")[:, :, None], layer.get_parameter("bias")

    def as_conv2d(image: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(image, kernel, bias, 1, (0, case.padding), 1, case.groups)[:, :, 0]

    wide = x[:, :, None]
    yield DIRECT[2], lambda: lambda: as_conv2d(wide, weight)
    last_x, last_w = (t.contiguous(memory_format=torch.channels_last) for t in (wide, weight))
    yield DIRECT[3], lambda: lambda: as_conv2d(last_x, last_w)


def _graphs(case: Case, x: Tensor, weight: Tensor, bias: Tensor) -> dict[str, onnx.ModelProto]:
    pads = [case.padding] * (2 * case.n)
    conv = helper.make_node("Conv", ["x", "weight", "bias"], ["y"], group=case.groups, pads=pads)
    found = {ONNX_DIRECT[0]: _model(x, [conv], {"weight": weight.numpy(), "bias": bias.numpy()})}
    if case.n == 1:
        pads = [0, case.padding, 0, case.padding]
        nodes = [
            helper.make_node("Unsqueeze", ["x", "axis"], ["wide"]),
            helper.make_node("Conv", ["wide", "weight", "bias"], ["wide_y"], group=case.groups, pads=pads),
            helper.make_node("Squeeze", ["wide_y", "axis"], ["y"]),
        ]
        constants = {"weight": weight[:, :, None].numpy(), "bias": bias.numpy(), "axis": np.array([2])}
        found[ONNX_DIRECT[1]] = _model(x, nodes, constants)
    if (case.n, case.channels, case.kernel, case.size) in SHOWN_WITH_DFT and case.batch == 1:
        found[ONNX_DFT] = _dft(case, x, weight, bias)
    return found


def _dft(case: Case, x: Tensor, weight: Tensor, bias: Tensor) -> onnx.ModelProto:
    """y = F⁻¹(F x · H) with the operator DFT at a power of two, where it is fastest; H is in the file. The
    inverse is complex, because before ONNX Runtime 1.27 the inverse of real transforms is wrong or refused."""
    n, groups = case.n, case.groups
    points = 1 << (case.size + case.padding - 1).bit_length()
    dims = tuple(range(-n, 0))
    low, outputs = case.padding, case.size + 2 * case.padding - case.kernel + 1
    placed = F.pad(weight.double().flip(dims), (0, points - case.kernel) * n)
    h = torch.fft.fftn(placed.roll((low + 1 - case.kernel,) * n, dims), dim=dims)
    h = h.reshape(1, groups, -1, case.channels // groups, *(points,) * n)
    pads = np.array([0, 0] + [0] * n + [0, 0] + [points - case.size] * n, dtype=np.int64)
    grouped = np.array([case.batch, groups, 1, -1, *(points,) * n], dtype=np.int64)
    constants = {"pads": pads, "grouped": grouped, "last": np.array([-1])}
    constants |= {"re_h": h.real.float().numpy(), "im_h": h.imag.float().numpy(), "sum": np.array([3])}
    constants |= {"joined": np.array([case.batch, case.channels, *(points,) * n, 2], dtype=np.int64)}
    constants |= {"start": np.zeros(n + 1, dtype=np.int64), "end": np.array([outputs] * n + [1])}
    constants |= {"cut": np.arange(2, n + 3), "shift": bias.reshape(-1, *(1,) * n).numpy()}
    nodes = [helper.make_node("Pad", ["x", "pads"], ["framed"])]
    nodes.append(helper.make_node("Unsqueeze", ["framed", "last"], ["t0"]))
    nodes += [helper.make_node("DFT", [f"t{i}"], [f"t{i + 1}"], axis=i + 2) for i in range(n)]
    nodes.append(helper.make_node("Split", [f"t{n}"], ["re1", "im1"], axis=-1, num_outputs=2))
    for part in ("re", "im"):
        nodes.append(helper.make_node("Reshape", [f"{part}1", "grouped"], [part]))
    for left in ("re", "im"):
        nodes += [helper.make_node("Mul", [left, f"{right}_h"], [f"{left}_{right}"]) for right in ("re", "im")]
    nodes.append(helper.make_node("Sub", ["re_re", "im_im"], ["re_each"]))
    nodes.append(helper.make_node("Add", ["re_im", "im_re"], ["im_each"]))
    for part in ("re", "im"):
        nodes.append(helper.make_node("ReduceSum", [f"{part}_each", "sum"], [f"{part}_y"], keepdims=0))
        nodes.append(helper.make_node("Unsqueeze", [f"{part}_y", "last"], [f"{part}_z"]))
    nodes.append(helper.make_node("Concat", ["re_z", "im_z"], ["mixed"], axis=-1))
    nodes.append(helper.make_node("Reshape", ["mixed", "joined"], ["u0"]))
    nodes += [helper.make_node("DFT", [f"u{i}"], [f"u{i + 1}"], axis=i + 2, inverse=1) for i in range(n)]
    nodes.append(helper.make_node("Slice", [f"u{n}", "start", "end", "cut"], ["kept"]))
    nodes.append(helper.make_node("Squeeze", ["kept", "last"], ["real"]))
    nodes.append(helper.make_node("Add", ["real", "shift"], ["y"]))
    return _model(x, nodes, constants)


def _model(x: Tensor, nodes: list[Any], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * x.ndim)
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "conv", [given], [result], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
