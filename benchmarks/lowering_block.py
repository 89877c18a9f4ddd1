"""Measures the typical block of a complex network in every way: convolution, whitening batch norm, CReLU, convolution.

The floor is written by hand. The batch norm is folded into the convolution before it,

    Γ V^{-1/2} (W x + b - μ) + β        per channel a 2 x 2 matrix on the rows of [[Wr, -Wi], [Wi, Wr]]

and all channels are real, the real parts before the imaginary ones: Conv, Relu, Conv. With complex inputs and outputs,
which are [*, 2] in a file, it consists of these three and the nodes that move the last axis: 7 nodes.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
from benchmarks.lowering_case import imported, trained
from benchmarks.lowering_ways import DECOMPOSED, FUSEKIT, PLAIN, WAYS, error_of, nodes, reason
from fusekit.model import Inputs, quiet, run_float64
from fusekit.runtimes.onnx_runtime import OnnxFile
from fusekit.runtimes.pytorch import torch_call
from fusekit.runtimes.timing import Call, interleaved

Row = dict[str, Any]
FLOOR, PLANAR = "floor, by hand", "floor, planar edges"
EAGER, FAST = "PyTorch", "fusekit in PyTorch"


class WhiteningNorm(nn.Module):
    """Γ V^{-1/2} (x - μ) + β in evaluation (Trabelsi et al. 2018), in the operators that libraries use."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.tensor([2**-0.5, 2**-0.5, 0.0]).repeat(channels, 1))  # rr, ii, ri
        self.bias = nn.Parameter(torch.zeros(channels, 2))
        self.register_buffer("running_mean", torch.zeros(channels, dtype=torch.complex64))
        self.register_buffer("running_covar", torch.tensor([0.5, 0.5, 0.0]).repeat(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x - self.get_buffer("running_mean")[None, :, None, None]
        rr, ri, ir, ii = (entry[None, :, None, None] for entry in self.matrix())
        re = rr * x.real + ri * x.imag + self.bias[None, :, 0, None, None]
        return torch.complex(re, ir * x.real + ii * x.imag + self.bias[None, :, 1, None, None])

    def matrix(self) -> tuple[Tensor, ...]:
        """Γ V^{-1/2} by rows; V^{-1/2} = [[Vii + s, -Vri], [-Vri, Vrr + s]] / (s t), s² = det V, t² = tr V + 2 s."""
        covar = self.get_buffer("running_covar")
        vrr, vii, vri = covar[:, 0] + self.eps, covar[:, 1] + self.eps, covar[:, 2]
        s = (vrr * vii - vri**2).sqrt()
        scale = 1 / (s * (vrr + vii + 2 * s).sqrt())
        a, b, d = (vii + s) * scale, -vri * scale, (vrr + s) * scale
        grr, gii, gri = self.weight.unbind(1)
        return grr * a + gri * b, grr * b + gri * d, gri * a + gii * b, gri * b + gii * d


class SplitReLU(nn.Module):
    """ReLU of each part."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.complex(F.relu(x.real), F.relu(x.imag))


def native(width: int) -> nn.Sequential:
    """The block in torch's own complex layers."""
    first, last = (nn.Conv2d(width, width, 3, padding=1, dtype=torch.complex64) for _ in range(2))
    return nn.Sequential(first, WhiteningNorm(width), SplitReLU(), last)


class Floor(nn.Module):
    """The same function in three real layers. `planar`: input and output are real too, in two blocks."""

    def __init__(self, block: nn.Sequential, planar: bool = False) -> None:
        super().__init__()
        first, norm, _, last = block
        assert isinstance(first, nn.Conv2d) and isinstance(norm, WhiteningNorm) and isinstance(last, nn.Conv2d)
        self.planar = planar
        with torch.no_grad():
            kernel, bias = _real(first)
            matrix = torch.stack([torch.diag(entry.double()) for entry in norm.matrix()]).unflatten(0, (2, 2))
            matrix = matrix.movedim(1, 2).flatten(0, 1).flatten(1, 2)  # [2 C, 2 C], of diagonal blocks
            mean, beta = norm.get_buffer("running_mean"), norm.bias.double()
            shift = torch.cat([mean.real, mean.imag]).double()
            folded = torch.einsum("ij,jkhw->ikhw", matrix, kernel), matrix @ (bias - shift) + beta.T.reshape(-1)
            self.layers = nn.Sequential(_conv(*folded, first), nn.ReLU(), _conv(*_real(last), last))

    def forward(self, x: Tensor) -> Tensor:
        if self.planar:
            y: Tensor = self.layers(x)
            return y
        # ONNX has no complex numbers: what stands here for x is [N, C, H, W, 2]
        y = self.layers(torch.view_as_real(x).permute(0, 4, 1, 2, 3).flatten(1, 2))
        return torch.view_as_complex(y.unflatten(1, (2, -1)).permute(0, 2, 3, 4, 1).contiguous())


def _real(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    weight, bias = conv.weight.to(torch.complex128), conv.bias
    assert bias is not None
    rows = [torch.cat([weight.real, -weight.imag], 1), torch.cat([weight.imag, weight.real], 1)]
    return torch.cat(rows), torch.cat([bias.real, bias.imag]).double()


def _conv(kernel: Tensor, bias: Tensor, like: nn.Conv2d) -> nn.Conv2d:
    made = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=like.padding)  # type: ignore[arg-type]
    made.weight, made.bias = nn.Parameter(kernel.float()), nn.Parameter(bias.float())
    return made


def blocks(width: int) -> dict[str, nn.Module]:
    """The block in torch's own layers, and in complexPyTorch's if it is installed."""
    made: dict[str, nn.Module] = {"torch": native(width)}
    cpt = imported("complexPyTorch.complexLayers")
    if cpt is not None:
        first, last = (cpt.ComplexConv2d(width, width, 3, padding=1) for _ in range(2))
        made["complexPyTorch"] = nn.Sequential(first, cpt.ComplexBatchNorm2d(width), cpt.ComplexReLU(), last)
    return made


def measured(room: Path, rounds: int, quick: bool) -> Iterator[Row]:
    for width, size in ((4, 8),) if quick else ((8, 28), (16, 28), (64, 28)):
        for library in blocks(width):
            yield from _rows(library, width, size, room, rounds, 0.3 if quick else 6.0)


def _rows(library: str, width: int, size: int, room: Path, rounds: int, seconds: float) -> Iterator[Row]:
    """One row for each way. A way that gives no file says why; the others are timed in turn."""
    torch.manual_seed(0)
    block = trained(blocks(width)[library]).eval()
    x = torch.randn(1, width, size, size, dtype=torch.complex64)
    rows: dict[str, Row] = {}
    calls: dict[str, Call] = {EAGER: torch_call(block, Inputs((x,)))}
    with quiet():
        fast = fusekit.optimize(block, (x,))
    calls[FAST] = torch_call(fast, Inputs((x,)))
    rows[EAGER], rows[FAST] = {"error": _eager_error(block, x)}, {"error": _eager_error(fast, x, block)}
    for way in (PLAIN, DECOMPOSED, FUSEKIT, *((FLOOR, PLANAR) if library == "torch" else ())):
        path = Path(tempfile.mkdtemp(dir=room)) / "block.onnx"
        planar = torch.cat([x.real, x.imag], 1)
        given = planar if way == PLANAR else x
        try:
            with quiet():
                if way in WAYS:
                    WAYS[way](block, (x,), path)
                else:
                    WAYS[PLAIN](Floor(block, way == PLANAR).eval(), (given,), path)  # type: ignore[arg-type]
            error = _planar_error(path, block, x, planar) if way == PLANAR else error_of(block, (x,), path)
            rows[way] = {"nodes": nodes(path), "error": error}
            calls[way] = OnnxFile(path, spinning=False).bound(Inputs((given,)), ["x"])
        except Exception as problem:
            rows[way] = {"problem": reason(problem)}
    times = interleaved(calls, rounds, seconds, warm=True)
    for way, row in rows.items():
        each = {"ms": times[way].median, "spread": times[way].spread} if way in times else {}
        yield {"library": library, "width": width, "plane": size, "way": way} | row | each


def _eager_error(module: nn.Module, x: Tensor, reference: nn.Module | None = None) -> float:
    expected = run_float64(reference or module, Inputs((x,)))
    with torch.no_grad():
        return float((module(x) - expected).abs().max() / expected.abs().max())


def _planar_error(path: Path, block: nn.Module, x: Tensor, planar: Tensor) -> float:
    expected = run_float64(block, Inputs((x,)))
    expected = torch.cat([expected.real, expected.imag], 1)
    found = OnnxFile(path).run(Inputs((planar,)), ["x"])[0][1]
    return float((found - expected).abs().max() / expected.abs().max())


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| block of | width | plane | way | nodes | error | ms | spread |"
    yield "| --- " * 8 + "|"
    for row in rows:
        start = f"| {row['library']} | {row['width']} | {row['plane']}² | {row['way']} |"
        if "problem" in row:
            yield f"{start} {row['problem']} | | | |"
        else:
            yield f"{start} {row.get('nodes', '')} | {row['error']:.0e} | {row['ms']:.3f} | {row['spread']:.0%} |"
