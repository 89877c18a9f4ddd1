"""The copy and GEMM rates of the machine, and from them a lower bound on the time of a plan.

    floor = max(bytes / copy rate, flops / GEMM rate)

The rates are those of this process with its threads: a copy of 64 MiB, with reads and writes counted, and the best of
three products of float32 matrices, 256 to 2,048 square. A plan that fits into the cache may exceed the copy rate. No
FFT comes near the GEMM rate: a butterfly is not a fused multiply-add, and its operands move between registers and cache
at each level.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.fft_grid import Case
from fusekit.algebra.transforms.matrix_plan import plan_matrices
from fusekit.algebra.transforms.spectral_conv import SpectralConv, lines_of
from fusekit.runtimes.timing import interleaved


@dataclass(frozen=True)
class Rates:
    """Bytes and flops per millisecond."""

    copy: float
    gemm: float

    @classmethod
    def measured(cls) -> "Rates":
        source = torch.randn(1 << 24)
        target = torch.empty_like(source)
        calls = {"copy": lambda: target.copy_(source)}
        sizes = (256, 1024, 2048)
        for size in sizes:
            a, b = torch.randn(size, size), torch.randn(size, size)
            calls[f"{size}"] = lambda a=a, b=b: a @ b
        times = interleaved(calls, rounds=15, seconds=5.0)
        gemm = max(2 * size**3 / times[f"{size}"].median for size in sizes)
        return cls(2 * source.nbytes / times["copy"].median, gemm)

    def floor(self, flops: float, size: float) -> float:
        """The floor in milliseconds."""
        return max(size / self.copy, flops / self.gemm)

    def __str__(self) -> str:
        return f"copy {self.copy / 1e6:.1f} GB/s, GEMM {self.gemm / 1e6:.0f} GFLOP/s"


def torch_floor(case: Case, weight: Tensor, bias: Tensor, rates: Rates) -> float:
    """The floor of the plan by torch.fft that the layer uses."""
    shape = (case.batch, case.channels, *(case.size,) * case.n)
    work = SpectralConv.of(case.conv(weight, bias)).effort(shape)
    return rates.floor(work.flops, work.bytes)


def onnx_floor(case: Case, weight: Tensor, bias: Tensor, rates: Rates) -> float:
    """The floor of the plan by matrix products that the file contains."""
    conv = case.conv(weight, bias)
    outputs, inputs = (int(size) for size in conv.kernel.shape[1:3])
    channels = {"groups": conv.groups, "outputs": outputs, "inputs": inputs}
    plan = plan_matrices(lines_of(conv), (case.size,) * case.n, **channels, batch=case.batch)
    tiles = [axis.frames.tiles or 1 for axis in plan.axes]
    work = plan.work(case.batch, tiles)
    return rates.floor(work.flops, work.bytes)
