"""The tables of docs/hypercomplex.md, section Complex: `python -m benchmarks.complex_table > table.md`.

First it compares every layer and function of complexPyTorch (and of the article about it, which has the same code),
then the complex layers of speechbrain, with fusekit's counterpart, with the same weights, in float64. Each library must
be on PYTHONPATH; complexPyTorch in its current state, because the packaged 0.4 has no recurrent layers. Then it lists
every complex layer of fusekit.

Columns: the largest relative error of the outputs, in training and evaluation where they differ; gradcheck in
complex128; the operators of the exported graph, those of inner graphs in brackets; the error in ONNX Runtime.
"""

import importlib
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
import fusekit.nn as fnn
import fusekit.nn.functional as FF
from tests.support.complex_layers import CASES, leaves

DOUBLE = torch.complex128
IMAGE, ROW, TIME = (3, 4, 6, 7), (5, 4), (5, 2, 4)


class Wide:
    """Replaces torch inside complexPyTorch, so that its casts to complex64 do not hide errors below 1e-7."""

    def __getattr__(self, name: str) -> Any:
        return DOUBLE if name == "complex64" else getattr(torch, name)


class Call(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: Tensor) -> Any:
        return self.function(*x)


def error(ours: Any, theirs: Any) -> float:
    worst = 0.0
    for a, b in zip(leaves(ours), leaves(theirs), strict=False):
        if a.shape != b.shape:
            return float("inf")
        worst = max(worst, float((a - b).abs().max() / b.abs().max()))
    return worst


def gradients(module: nn.Module, *x: Tensor) -> str:
    names = [name for name, _ in module.named_parameters()]
    parameters = tuple(parameter for _, parameter in module.named_parameters())

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, tensors[len(x) :], strict=True))
        return tuple(leaves(torch.func.functional_call(module, given, tensors[: len(x)])))

    inputs = tuple(tensor.detach().requires_grad_() for tensor in x)
    return "yes" if torch.autograd.gradcheck(run, (*inputs, *parameters), fast_mode=True) else "NO"


def exported(module: nn.Module, *x: Tensor) -> str:
    """The operators, the error in ONNX Runtime and the free axes of an export, or the reason if it fails."""
    single: Any = module.to(torch.complex64) if next(module.parameters(), None) is not None else module
    inputs = tuple(tensor.to(torch.complex64) for tensor in x)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        try:
            result = fusekit.export(single, path, inputs)
        except fusekit.FusekitError as problem:
            return f"fails: {problem} | |"
        if not result.ok:
            return f"NOT VALID: {result.failures[0]} | |"
        graph = onnx.load(str(path)).graph
    bodies = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    inner = f" ({sum(len(body.node) for body in bodies)})" if bodies else ""
    given = next(probe for probe in result.probes if probe.name == "given")
    axes = "; ".join(str(list(found)) for found in result.dynamic_axes.values())
    return f"{len(graph.node)}{inner} | {max(output.error for output in given.outputs):.0e} | {axes}"


def layer_rows(theirs: Any) -> None:
    """Rows for modules with state. Ours load the state of theirs by `load_state_dict`. Both run in training and in
    evaluation."""
    double = {"dtype": DOUBLE}
    pairs: list[tuple[str, Any, nn.Module, tuple[int, ...]]] = [
        ("ComplexLinear", theirs.ComplexLinear(4, 3), fnn.ComplexLinear(4, 3, **double), ROW),  # type: ignore[arg-type]
        (
            "ComplexConv2d",
            theirs.ComplexConv2d(4, 6, 3, 2, 1, 1, 2),
            fnn.ComplexConv2d(4, 6, 3, 2, 1, 1, 2, **double),
            IMAGE,
        ),  # type: ignore[arg-type]
        (
            "ComplexConvTranspose2d",
            theirs.ComplexConvTranspose2d(4, 6, 3, 2, 1, 1, 2),
            fnn.ComplexConvTranspose2d(4, 6, 3, 2, 1, 1, 2, **double),  # type: ignore[arg-type]
            IMAGE,
        ),
        ("NaiveComplexBatchNorm1d", theirs.NaiveComplexBatchNorm1d(4), fnn.NaiveComplexBatchNorm1d(4, **double), ROW),  # type: ignore[arg-type]
        ("NaiveComplexBatchNorm2d", theirs.NaiveComplexBatchNorm2d(4), fnn.NaiveComplexBatchNorm2d(4, **double), IMAGE),  # type: ignore[arg-type]
        ("ComplexBatchNorm1d", theirs.ComplexBatchNorm1d(4), fnn.ComplexBatchNorm1d(4, eps_in="both", **double), ROW),  # type: ignore[arg-type]
        ("ComplexBatchNorm2d", theirs.ComplexBatchNorm2d(4), fnn.ComplexBatchNorm2d(4, eps_in="both", **double), IMAGE),  # type: ignore[arg-type]
        ("ComplexLSTM", theirs.ComplexLSTM(4, 3), fnn.NaiveComplexLSTM(4, 3, **double), TIME),  # type: ignore[arg-type]
        ("ComplexGRU", theirs.ComplexGRU(4, 3), fnn.NaiveComplexGRU(4, 3, **double), TIME),  # type: ignore[arg-type]
    ]
    for name, their, our, shape in pairs:
        their = their.double()
        for key, buffer in their.named_buffers():
            if buffer.is_complex():
                their._buffers[key] = buffer.to(DOUBLE)
        our.load_state_dict(dict(their.state_dict()))
        x = torch.randn(shape, dtype=DOUBLE)
        worst = 0.0
        for step in range(4):
            if step == 3:
                our.eval()
                their.eval()
            y, expected = our(x), their(x)
            worst = max(worst, error(y, expected) if isinstance(y, Tensor) else error(y[0], expected[0]))
            x = x * (2 + 1j) + 0.3 * x.conj()
        form = ", `eps_in='both'`" if name.startswith("ComplexBatchNorm") else ""
        row(f"`{name}`", f"`{type(our).__name__}`{form}", worst, our, x)
    their, our = theirs.ComplexGRUCell(4, 3).double(), fnn.ComplexGRUCell(4, 3, dtype=DOUBLE)
    our.load_state_dict(joined_gates(their.state_dict()))
    x, h = torch.randn(2, 4, dtype=DOUBLE), torch.randn(2, 3, dtype=DOUBLE)
    row("`ComplexGRUCell`", "`ComplexGRUCell`", error(our(x, h), their(x, h)), our, x, h)


def joined_gates(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Six complex linear layers as four parameters; the bias of two real layers is (1 + j)(br + j bi)."""

    def gate(prefix: str, name: str) -> Tensor:
        value = torch.complex(state[f"{prefix}.fc_r.{name}"], state[f"{prefix}.fc_i.{name}"])
        return (1 + 1j) * value if name == "bias" else value

    ih = ("linear_reset_w1", "linear_reset_w2", "linear_gate_w3")
    hh = ("linear_reset_r1", "linear_reset_r2", "linear_gate_r3")
    sides = {"ih": ih, "hh": hh}
    return {
        f"{name}_{side}": torch.cat([gate(prefix, name) for prefix in prefixes])
        for name in ("weight", "bias")
        for side, prefixes in sides.items()
    }


def function_rows(functions: Any, layers: Any) -> None:
    """Rows for functions without state, and for layers that only call them."""
    scale: Any = {"scale_factor": 2, "mode": "bilinear", "align_corners": False}
    pairs: list[tuple[str, str, Callable[..., Any], Callable[..., Any], int]] = [
        ("complex_matmul", "torch.matmul", functions.complex_matmul, lambda x: x @ x.mT, 2),
        ("complex_relu, ComplexReLU", "crelu, CReLU", functions.complex_relu, fnn.CReLU(), 1),
        ("complex_sigmoid, ComplexSigmoid", "csigmoid, CSigmoid", functions.complex_sigmoid, fnn.CSigmoid(), 1),
        ("complex_tanh, ComplexTanh", "ctanh, CTanh", functions.complex_tanh, fnn.CTanh(), 1),
        ("complex_opposite", "operator -", functions.complex_opposite, lambda x: -x, 1),
        (
            "complex_stack",
            "torch.stack",
            lambda x: functions.complex_stack([x, x], 1),
            lambda x: torch.stack([x, x], 1),
            1,
        ),
        ("complex_normalize", "complex_normalize", functions.complex_normalize, FF.complex_normalize, 1),
        (
            "complex_avg_pool2d, ComplexAvgPool2d",
            "complex_avg_pool, ComplexAvgPool2d",
            layers.ComplexAvgPool2d(2, padding=1),
            fnn.ComplexAvgPool2d(2, padding=1),
            1,
        ),
        (
            "complex_max_pool2d, ComplexMaxPool2d",
            "complex_max_pool, ComplexMaxPool2d",
            layers.ComplexMaxPool2d(3, 2, 1),
            fnn.ComplexMaxPool2d(3, 2, 1),
            1,
        ),
        (
            "complex_upsample",
            "ComplexUpsample",
            lambda x: functions.complex_upsample(x, **scale),
            fnn.ComplexUpsample(**scale),
            1,
        ),
        (
            "complex_upsample2",
            "interpolate_polar",
            lambda x: functions.complex_upsample2(x, **scale),
            lambda x: FF.interpolate_polar(x, **scale),
            1,
        ),
        (
            "complex_dropout, ComplexDropout (evaluation)",
            "complex_dropout, ComplexDropout",
            layers.ComplexDropout().eval(),
            fnn.ComplexDropout().eval(),
            1,
        ),
        (
            "complex_dropout2d, ComplexDropout2d (evaluation)",
            "complex_channel_dropout, ComplexDropout2d",
            layers.ComplexDropout2d().eval(),
            fnn.ComplexDropout2d().eval(),
            1,
        ),
    ]
    real, imaginary = nn.Conv2d(4, 3, 3).double(), nn.Conv2d(4, 3, 3).double()
    x = torch.randn(IMAGE, dtype=DOUBLE)
    both = FF.apply_complex(real, imaginary, x), layers.apply_complex(real, imaginary, x)
    print(f"| `apply_complex` | `apply_complex` | {error(*both):.0e} | yes | see ComplexConv2d | | |")
    for name, ours, their, our, arity in pairs:
        worst = error(our(x), their(x, x.mT) if arity == 2 else their(x))
        row(quoted(name), quoted(ours), worst, our if isinstance(our, nn.Module) else Call(our), x)
    prelu = fnn.CPReLU(dtype=DOUBLE)
    expected = torch.complex(F.prelu(x.real, prelu.weight[0, :1]), F.prelu(x.imag, prelu.weight[0, 1:]))
    row("`ComplexPReLU` (raises TypeError; against its formula)", "`CPReLU`", error(prelu(x), expected), prelu, x)
    print("| `ComplexBNGRUCell` (returns None) | none: there is no value to be equal to | | | | | |")


def speechbrain_rows(networks: Any) -> None:
    """Rows for speechbrain, whose tensors are real and hold the two parts as halves of an axis, usually the last
    one."""

    def joined(x: Tensor, axis: int = -1) -> Tensor:
        re, im = x.chunk(2, axis)
        return torch.complex(re, im)

    def halves(z: Tensor) -> Tensor:
        return torch.cat([z.real, z.imag], -1)

    x, image = torch.randn(3, 7, 8, dtype=torch.float64), torch.randn(2, 6, 7, 8, dtype=torch.float64)
    z = joined(x)
    linear = networks.c_linear.CLinear(5, x.shape).double()
    nn.init.normal_(linear.b)  # it comes as torch.empty left it
    ours = fnn.ComplexLinear(4, 5, dtype=DOUBLE)
    weight = torch.complex(linear.real_weight, linear.imag_weight).mT
    ours.load_state_dict({"weight": weight, "bias": joined(linear.b)})
    row("`CLinear`, `complex_linear_op`", "`ComplexLinear`", error(halves(ours(z)), linear(x)), ours, z)
    conv = networks.c_CNN.CConv1d(5, 3, x.shape, padding="valid", stride=2).double()
    one = fnn.ComplexConv1d(4, 5, 3, 2, dtype=DOUBLE)
    one.load_state_dict({"weight": torch.complex(conv.real_weight, conv.imag_weight), "bias": joined(conv.b)})
    worst = error(halves(one(z.mT).mT), conv(x))
    row("`CConv1d`, `complex_conv_op`", "`ComplexConv1d`, channels second", worst, one, z.mT)
    conv = networks.c_CNN.CConv2d(5, (3, 5), image.shape, padding="valid").double()
    two = fnn.ComplexConv2d(4, 5, (3, 5), dtype=DOUBLE)
    two.load_state_dict({"weight": torch.complex(conv.real_weight, conv.imag_weight), "bias": joined(conv.b)})
    planes = joined(image).permute(0, 3, 2, 1)
    worst = error(halves(two(planes).permute(0, 3, 2, 1)), conv(image))
    row("`CConv2d`", "`ComplexConv2d`, channels second, axes swapped", worst, two, planes)
    norm, whitening = (
        networks.c_normalization.CBatchNorm(input_size=8).double(),
        fnn.ComplexBatchNorm1d(4, 1e-4, dtype=DOUBLE),
    )
    gamma = torch.stack([norm.gamma_rr, norm.gamma_ii, norm.gamma_ri], -1).detach()
    whitening.get_parameter("weight").data.copy_(gamma)
    worst = error(halves(whitening(z.mT).mT), norm(x))
    kept = torch.stack([norm.moving_Vrr, norm.moving_Vii, norm.moving_Vri], -1)
    whitening = fnn.ComplexBatchNorm1d(4, 1e-4, eps_in="store", dtype=DOUBLE).eval()
    state = {
        "weight": gamma,
        "bias": joined(norm.beta),
        "running_mean": joined(norm.moving_mean),
        "running_covar": kept,
    }
    whitening.load_state_dict(state | {"num_batches_tracked": torch.tensor(1)})
    worst = max(worst, error(halves(whitening(z.mT).mT), norm.eval()(x)))
    row("`CBatchNorm` (keeps the biased covariance)", "`ComplexBatchNorm1d`, `eps_in='store'`", worst, whitening, z.mT)
    over_time = networks.c_normalization.CLayerNorm(input_size=8).double()
    scale = float(over_time.gamma_rr[0].detach())
    layer = Call(lambda z: FF.complex_layer_norm(z.mT, (7,), eps=1e-4).mT * scale)
    row("`CLayerNorm` (over time)", "`complex_layer_norm` over time", error(halves(layer(z)), over_time(x)), layer, z)
    for name in ("complex_init", "unitary_init", "affect_init", "affect_conv_init"):
        other = "complex_phase_" if "unit" in name else "complex_rayleigh_"
        print(f"| `{name}` (random) | `{other}`, in the layer | | | | | |")
    print("| `CLSTM` (gates are slices of the joined parts: a real LSTM of weight Kᵀ) | `torch.nn.LSTM` | | | | | |")
    print("| `CRNN`, `CLiGRU` | none | | | | | |")


def quoted(names: str) -> str:
    return ", ".join(f"`{name}`" if " " not in name else name for name in names.split(", "))


def row(theirs: str, ours: str, worst: float, module: nn.Module, *x: Tensor) -> None:
    module.eval()
    print(f"| {theirs} | {ours} | {worst:.0e} | {gradients(module, *x)} | {exported(module, *x)} |", flush=True)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.simplefilter("ignore")
    head = "| {} | fusekit | error | gradcheck | ONNX nodes | error in ORT | free axes |\n|---|---|---|---|---|---|---|"
    try:
        layers: Any = importlib.import_module("complexPyTorch.complexLayers")
        functions: Any = importlib.import_module("complexPyTorch.complexFunctions")
    except ImportError:
        print("complexPyTorch is not importable: its table is left out\n")
    else:
        layers.torch = functions.torch = Wide()
        layers.apply_complex.__defaults__ = (DOUBLE,)
        layers.ComplexLSTM._init_state = lambda self, size, _: [
            torch.zeros(1, size, self.hidden_size, dtype=torch.float64) for _ in range(4)
        ]
        print(head.format("complexPyTorch"))
        layer_rows(layers)
        function_rows(functions, layers)
        print()
    try:
        networks: Any = importlib.import_module("speechbrain.nnet.complex_networks")
        for name in ("c_linear", "c_CNN", "c_normalization"):
            importlib.import_module(f"speechbrain.nnet.complex_networks.{name}")
    except ImportError:
        print("speechbrain is not importable: its table is left out\n")
    else:
        print(head.format("speechbrain"))
        speechbrain_rows(networks)
        print()
    print("| fusekit | gradcheck | ONNX nodes | error in ORT | free axes |\n|---|---|---|---|---|")
    for case in CASES:
        module, x = case.module(), case.input()
        print(f"| `{case.name}` | {gradients(module, x)} | {exported(module, x)} |", flush=True)


if __name__ == "__main__":
    main()
