"""Small modules with complex numbers that torch's exporter is known to fail at (torch 2.13, onnxscript 0.7).

First operators, then layers, networks, values for which its results are wrong, and linear algebra. Real matrices are at
the end: the exporter cannot translate their decompositions either, so complex numbers are not the reason there.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.lowering_case import FLAT, IMAGE, ROW, Call2, Case, function, imported, randn

C64 = torch.complex64
SQUARE = (2, 3, 3)


def known() -> list[Case]:
    return [*operators(), *layers(), *networks(), *special_values(), *linear_algebra()]


def operators() -> Iterator[Case]:
    elementwise: dict[str, Callable[[Tensor], Any]] = {
        "x * 1j": lambda x: x * 1j,
        "exp": torch.exp,
        "log": torch.log,
        "sqrt": torch.sqrt,
        "sin": torch.sin,
        "cos": torch.cos,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "sgn": torch.sgn,
        "x ** 2": lambda x: x**2,
        "x ** 0.5": lambda x: x**0.5,
        "x ** -1": lambda x: x**-1,
        "conj_physical": torch.conj_physical,
        "to(complex128).to(complex64)": lambda x: x.to(torch.complex128).to(C64),
        "where": lambda x: torch.where(x.abs() > 1, x, torch.zeros((), dtype=C64)),
        "masked_fill": lambda x: x.masked_fill(x.real > 0, 0),
        "x == 0": lambda x: x == 0,
        "zeros_like": lambda x: x + torch.zeros_like(x),
        "ones_like": lambda x: x + torch.ones_like(x),
        "zeros(dtype=complex64)": lambda x: x + torch.zeros(x.shape, dtype=C64),
        "full(dtype=complex64)": lambda x: x + torch.full((), 1 + 2j, dtype=C64),
        "cumsum": lambda x: x.cumsum(-1),
        "prod": lambda x: x.prod(-1),
        "var": lambda x: x.var(-1),
        "std": lambda x: x.std(-1),
        "norm": lambda x: torch.linalg.vector_norm(x, dim=-1),
        "unsqueeze": lambda x: x.unsqueeze(1),
        "squeeze()": lambda x: x[:1].squeeze(),
        "select": lambda x: x.select(1, 0),
        "index": lambda x: x[:, torch.tensor([0, 2])],
        "gather": lambda x: x.gather(-1, x.real.argsort(-1)),
        "expand": lambda x: x.unsqueeze(1).expand(-1, 3, -1, -1, -1),
        "repeat": lambda x: x.repeat(1, 2, 1, 1),
        "split": lambda x: x.split(2, 1),
        "chunk": lambda x: x.chunk(2, 1),
        "unbind": lambda x: x.unbind(1),
        "pad, zeros": lambda x: F.pad(x, (1, 2)),
        "pad, circular": lambda x: F.pad(x, (1, 2, 2, 1), mode="circular"),
        "pad, reflect": lambda x: F.pad(x, (1, 2, 2, 1), mode="reflect"),
        "pad, replicate": lambda x: F.pad(x, (1, 2, 2, 1), mode="replicate"),
        "pad, value 1": lambda x: F.pad(x, (1, 2), value=1.0),
        "fft(n=16)": lambda x: torch.fft.fft(x, n=16),
    }
    for name, call in elementwise.items():
        yield function("operator", name, call, IMAGE)
    yield function("operator", "bmm", torch.bmm, (2, 3, 4), (2, 4, 5))
    yield function("operator", "mm", torch.mm, (3, 4), (4, 5))
    yield function("operator", "addmm", torch.addmm, (3, 5), (3, 4), (4, 5))
    yield function("operator", "dot", torch.dot, (4,), (4,))
    yield function("operator", "tensordot", lambda x, y: torch.tensordot(x, y, 1), (3, 4), (4, 5))
    yield function("operator", "einsum, attention", lambda q, k: torch.einsum("bnd,bmd->bnm", q, k), ROW, ROW)
    yield function("operator", "einsum, FNO", lambda x, w: torch.einsum("bixy,ioxy->boxy", x, w), IMAGE, (4, 3, 8, 6))


def layers() -> Iterator[Case]:
    made: dict[str, tuple[Callable[[], nn.Module], Any]] = {
        "Linear(4, 3)": (lambda: nn.Linear(4, 3, dtype=C64), FLAT),
        "Linear(9, 3, bias=False), three axes": (lambda: nn.Linear(9, 3, bias=False, dtype=C64), ROW),
        "Conv2d(padding='same')": (lambda: nn.Conv2d(4, 6, 3, padding="same", dtype=C64), IMAGE),
        "Conv2d(padding_mode='circular')": (_padded("circular"), IMAGE),
        "Conv2d(padding_mode='reflect')": (_padded("reflect"), IMAGE),
        "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, dtype=C64), ROW),
        "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, dtype=C64), IMAGE),
    }
    for name, (make, shape) in made.items():
        yield Case("torch.nn", name, make, lambda shape=shape: randn(shape))
    yield Case("HyperNets", "PHMLinear(4 units), the formula", PHMLinear, lambda: randn((3, 8), real=True))


def _padded(mode: str) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode=mode, dtype=C64)


class PHMLinear(nn.Module):
    """W = Σ_i A_i ⊗ F_i. Its shape is computed with a tensor, as in the layers published by Zhang et al. (2021)."""

    def __init__(self, n: int = 4, inputs: int = 8, outputs: int = 12) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(n, n, n))
        self.f = nn.Parameter(torch.randn(n, outputs // n, inputs // n))

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.tensor(self.a.shape[1:]) * torch.tensor(self.f.shape[1:])
        products = self.a[:, :, None, :, None] * self.f[:, None, :, None, :]
        return F.linear(x, products.sum(0).reshape(torch.Size(rows)))


def networks() -> Iterator[Case]:
    cpt, cnn = imported("complexPyTorch.complexLayers"), imported("torchcvnn.nn")
    if cpt is not None:

        def block() -> nn.Module:
            return nn.Sequential(
                cpt.ComplexConv2d(1, 4, 3), cpt.ComplexBatchNorm2d(4), cpt.ComplexReLU(), cpt.ComplexConv2d(4, 2, 3)
            )

        yield Case("complexPyTorch", "conv, batch norm, CReLU, conv, abs", lambda: FromReal(block()), _real_image)
    if cnn is not None:

        def stack() -> nn.Module:
            first, last = nn.Conv2d(4, 4, 3, dtype=C64), nn.Conv2d(4, 2, 3, dtype=C64)
            return nn.Sequential(first, cnn.BatchNorm2d(4), cnn.modReLU(), last, cnn.AvgPool2d(2, 2, 0))

        yield Case("torchcvnn", "conv, batch norm, modReLU, conv, pool", stack, lambda: randn((2, 4, 12, 10)))
    yield Case("network", "FNO: rfft2, einsum, irfft2", SpectralConv, lambda: randn((2, 4, 8, 8), real=True))
    yield Case("network", "attention of complex linear layers", Attention, lambda: randn((2, 7, 8)))
    yield function("network", "stft, mask, istft", _masked, (2, 256), real=True)
    convolutional = imported("asteroid.masknn.convolutional")
    if convolutional is not None:
        yield Case(
            "asteroid", "DCUMaskNet, mini", lambda: convolutional.DCUMaskNet.default_architecture("mini"), _spectrum
        )


def _real_image() -> tuple[Tensor, ...]:
    return randn((2, 1, 12, 10), real=True)


def _spectrum() -> tuple[Tensor, ...]:
    return randn((1, 257, 17))


class FromReal(nn.Module):
    """Makes a real image complex, and returns the moduli of the result."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x.to(C64))
        return y.abs()


class SpectralConv(nn.Module):
    """The convolution of a Fourier neural operator (Li et al. 2021): the lowest modes times a matrix each."""

    def __init__(self, channels: int = 4, modes: int = 3) -> None:
        super().__init__()
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(channels, channels, modes, modes, dtype=C64))

    def forward(self, x: Tensor) -> Tensor:
        m, z = self.modes, torch.fft.rfft2(x)
        y = torch.zeros_like(z)
        y[:, :, :m, :m] = torch.einsum("bixy,ioxy->boxy", z[:, :, :m, :m], self.weight)
        return torch.fft.irfft2(y, s=x.shape[-2:])


class Attention(nn.Module):
    """softmax(Re Q Kᴴ / √d) V"""

    def __init__(self, d: int = 8) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(d, d, dtype=C64) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        scores = torch.einsum("bnd,bmd->bnm", q, k.conj()).real / q.shape[-1] ** 0.5
        return torch.einsum("bnm,bmd->bnd", scores.softmax(-1).to(v.dtype), v)


def _masked(x: Tensor) -> Tensor:
    window = torch.hann_window(32)
    z = torch.stft(x, 32, 8, window=window, return_complex=True)
    return torch.istft(z * torch.complex(z.real.tanh(), z.imag.tanh()), 32, 8, window=window, length=x.shape[-1])


def special_values() -> Iterator[Case]:
    """Operators with values at which the exporter may be wrong, although it is right for random numbers."""
    zero, minus = 0.0, -0.0
    re = torch.tensor([-1.0, -1.0, 0.0, 0.0, 1.0, -2.0, zero, minus, zero, minus])
    im = torch.tensor([zero, minus, 1.0, -1.0, zero, zero, zero, zero, minus, minus])

    def both() -> tuple[Tensor, ...]:
        return re.clone(), im.clone()

    def case(name: str, call: Callable[..., Any]) -> Case:
        return Case("special values", name, lambda: Call2(call), both)

    yield case("angle(re + j im) on the axes", lambda re, im: torch.complex(re, im).angle())
    yield case("atan2(im, re) of reals on the axes", lambda re, im: torch.atan2(im, re))
    yield case("angle(real.to(complex))", lambda re, im: re.to(C64).angle() + im)
    yield case("abs at 1e-25 and 1e25", lambda re, im: torch.complex(1e-25 * re, 1e-25 * im).abs() * 1e25 + im)
    yield case("1 / z at 1e-25", lambda re, im: (1e-25 / torch.complex(1e-25 * (re + 2), 1e-25 * im)).abs())
    yield case("tanh(50 + j)", lambda re, im: torch.complex(50 * re, im).tanh().real)


def linear_algebra() -> Iterator[Case]:
    """Complex matrices, then real ones."""
    for library, real in (("linalg, complex", False), ("linalg, real", True)):
        functions: dict[str, Callable[[Tensor], Any]] = {
            "inv": torch.linalg.inv,
            "solve": lambda x: torch.linalg.solve(x, x.mT),
            "det": torch.linalg.det,
            "cholesky": lambda x: torch.linalg.cholesky(x @ x.mH + torch.eye(x.shape[-1])),
            "eigvalsh": lambda x: torch.linalg.eigvalsh(x @ x.mH),
            "svdvals": torch.linalg.svdvals,
            "qr, |R|": lambda x: torch.linalg.qr(x).R.abs(),
            "matrix_exp": torch.linalg.matrix_exp,
            "matrix_norm": torch.linalg.matrix_norm,
        }
        for name, call in functions.items():
            yield function(library, name, call, SQUARE, real=real)
