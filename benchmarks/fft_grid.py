"""The configurations of the benchmark of convolution by FFT: dimension, channels, groups, kernel, size, batch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fusekit.algebra.conv import Conv

DIRECT_MACS = {True: 3e8, False: 3e9}  # depthwise or not: up to here the yardstick is direct summation


@dataclass(frozen=True)
class Case:
    """One convolution with padding k // 2 and a bias: x [batch, channels, *size], weight [channels, c / g, *window]."""

    n: int
    channels: int
    groups: int
    kernel: int
    size: int
    batch: int = 1

    @property
    def family(self) -> str:
        if self.channels == 1:
            return f"{self.n}D single channel"
        kind = {1: "dense", self.channels: "depthwise"}.get(self.groups, "grouped")
        return f"{self.n}D {kind}"

    @property
    def name(self) -> str:
        return f"{self.family} {self.setting} k{self.kernel}"

    @property
    def setting(self) -> str:
        """The name without the kernel."""
        size = f"{self.size:,}" if self.n == 1 else f"{self.size}{'²³'[self.n - 2]}"
        groups = f" in {self.groups} groups" if self.family.endswith("grouped") else ""
        return f"{self.channels}{groups} x {size}{f', batch {self.batch}' if self.batch > 1 else ''}"

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def macs(self) -> int:
        outputs = (self.size + 2 * self.padding - self.kernel + 1) ** self.n
        return self.batch * self.channels * (self.channels // self.groups) * self.kernel**self.n * outputs

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """x, weight and bias, scaled so that outputs are of order 1."""
        random = torch.Generator().manual_seed(0)
        x = torch.randn(self.batch, self.channels, *(self.size,) * self.n, generator=random)
        per_output = self.channels // self.groups
        weight = torch.randn(self.channels, per_output, *(self.kernel,) * self.n, generator=random)
        return x, weight / math.sqrt(per_output * self.kernel**self.n), torch.randn(self.channels, generator=random)

    def conv(self, weight: Tensor, bias: Tensor) -> Conv:
        """The case as a `Conv` of fusekit's algebra."""
        return Conv.from_torch(weight, bias, padding=((self.padding, self.padding),) * self.n, groups=self.groups)

    def expected(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The result in float64, by torch's direct convolution; where that takes too long, by one transform of the
        whole."""
        x, weight, bias = x.double(), weight.double(), bias.double()
        if self.macs <= DIRECT_MACS[self.groups == self.channels]:
            conv: tuple = (F.conv1d, F.conv2d, F.conv3d)
            return conv[self.n - 1](x, weight, bias, 1, self.padding, 1, self.groups)
        dims = tuple(range(-self.n, 0))
        points = (self.size + self.kernel - 1,) * self.n
        spectrum = torch.fft.rfftn(x, points, dims).unflatten(1, (self.groups, 1, -1))
        kernel = torch.fft.rfftn(weight.flip(dims), points, dims).unflatten(0, (self.groups, -1))
        y = torch.fft.irfftn((spectrum * kernel).sum(3).flatten(1, 2), points, dims)
        first, outputs = self.kernel - 1 - self.padding, self.size + 2 * self.padding - self.kernel + 1
        for dim in dims:
            y = y.narrow(dim, first, outputs)
        return y + bias.reshape(-1, *(1,) * self.n)


def cases(quick: bool = False) -> list[Case]:
    """The grid; a few of each family if `quick`."""
    return list(_quick() if quick else _grid())


def _some(n: int, channels: int, groups: int, size: int, kernels: Sequence[int], batch: int = 1) -> Iterator[Case]:
    yield from (Case(n, channels, groups, kernel, size, batch) for kernel in kernels)


def _grid() -> Iterator[Case]:
    yield from _some(1, 1, 1, 1000, (3, 31, 129))
    yield from _some(1, 1, 1, 16_000, (31, 129, 1025, 4096, 16_384))
    yield from _some(1, 1, 1, 1_000_000, (129, 1025, 16_384))
    yield from _some(1, 1, 1, 16_000, (129, 1025), 16)

    yield from _some(1, 8, 1, 16_000, (31, 129, 1025))
    yield from _some(1, 32, 1, 4096, (3, 7, 31, 129, 513, 2049))
    yield from _some(1, 128, 1, 1024, (3, 31, 129))
    yield from _some(1, 256, 1, 1000, (31, 129))
    yield from _some(1, 2, 1, 1_000_000, (129,))
    yield from _some(1, 32, 1, 4096, (31, 129), 16)

    yield from _some(1, 64, 4, 4096, (7, 31, 129, 513))
    yield from _some(1, 64, 4, 4096, (31, 129), 16)

    yield from _some(1, 64, 64, 4096, (3, 7, 31, 129, 1025, 4096))
    yield from _some(1, 256, 256, 1000, (31, 129, 999))
    yield from _some(1, 16, 16, 65_536, (129, 1025, 16_384))
    yield from _some(1, 2, 2, 1_000_000, (1025,))
    yield from _some(1, 64, 64, 4096, (31, 129, 1025), 16)

    yield from _some(2, 1, 1, 512, (3, 13, 31, 65))
    yield from _some(2, 16, 1, 56, (3, 7, 13, 31))
    yield from _some(2, 64, 1, 28, (3, 7, 13, 27))
    yield from _some(2, 256, 1, 14, (3, 7, 13))
    yield from _some(2, 16, 1, 112, (13, 31))
    yield from _some(2, 4, 1, 512, (13, 31))
    yield from _some(2, 16, 1, 56, (7, 13, 31), 16)

    yield from _some(2, 64, 4, 56, (7, 13, 31))

    yield from _some(2, 64, 64, 56, (3, 7, 13, 21, 31, 51))
    yield from _some(2, 128, 128, 28, (7, 13, 27))
    yield from _some(2, 256, 256, 14, (7, 13))
    yield from _some(2, 32, 32, 112, (7, 13, 31, 51))
    yield from _some(2, 16, 16, 224, (13, 31, 65))
    yield from _some(2, 4, 4, 512, (31, 65))
    yield from _some(2, 64, 64, 56, (13, 31), 16)

    yield from _some(3, 8, 1, 20, (3, 5, 9))
    yield from _some(3, 2, 1, 48, (9,))
    yield from _some(3, 16, 16, 24, (3, 5, 9))
    yield from _some(3, 4, 4, 48, (9,))


def _quick() -> Iterator[Case]:
    yield from _some(1, 1, 1, 16_000, (129, 1025))
    yield from _some(1, 32, 1, 4096, (31, 129))
    yield from _some(1, 64, 4, 4096, (129,))
    yield from _some(1, 64, 64, 4096, (31, 129))
    yield from _some(2, 16, 1, 56, (7, 13))
    yield from _some(2, 64, 64, 56, (13, 31))
    yield from _some(3, 16, 16, 24, (5,))
