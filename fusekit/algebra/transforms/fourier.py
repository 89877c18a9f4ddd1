"""One axis of a discrete Fourier transform as real matrices: its matrix, its two factors, or a chirp.

    X[k] = s Σ_i x[i] e^{∓2πi ki/n}

A spectrum of real samples is kept for k <= n/2. Real and imaginary parts follow each other, [re_0 .. re_m, im_0 ..
im_m]. The transform of n points to or from these is one real matrix A, read from cosines and sines at angles that are
reduced while they are integers. With n = n_1 n_2, i = n_2 i_1 + i_2 and k = k_1 + n_1 k_2 it is a product

    A = P L_2 L_1       L_1 = e^{∓2πi k_1 i_1 / n_1}       L_2 = e^{∓2πi (k_1 + n_1 k_2) i_2 / n}, a matrix for each k_1

where the twiddle factors are inside L_2, and P only puts the frequencies in order. Of real samples, k_1 <= n_1/2 is
enough: a frequency above n/2 is computed as the conjugate of its mirror image, whose sign is inside L_2, too. That is
4 n (n_1 + n_2) multiplications in place of 4 n², and n (n_1 + 2 n_2) in place of n² of real samples. From a spectrum to
real samples the matrix is the transposed one, with every frequency counted twice except for its own mirror images.

Where n has no small factors, ki = (k² + i² - (k - i)²) / 2 makes a convolution of it, by transforms of m points:

    X[k] = c̄[k] Σ_i (x[i] c̄[i]) c[k - i]        c[j] = e^{±πi j²/n},  m >= 2 n - 1

Sources: J. W. Cooley, J. W. Tukey (1965); L. I. Bluestein (1970).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["complex", "to real", "of real"]

# The price of a transform counts multiplications for each of the n points. What is moved is counted as so many of them,
# and so is the start of a product (ONNX Runtime 1.32, one thread, AVX-512: 42 multiplications and 0.5 entries a ns, a
# product of a batch 150 ns; at 64 transforms side by side).
MOVED = 80.0
CALL = 100.0
CHIRP = 150.0


@dataclass(frozen=True)
class Axis:
    """A transform of `n` points. `kind`: of complex or real samples, or to real ones; `sign`: of the exponent; `scale`:
    s in the formula."""

    n: int
    kind: Kind
    sign: int
    scale: float = 1.0

    @property
    def kept(self) -> int:
        """The number of frequencies."""
        return self.n if self.kind == "complex" else self.n // 2 + 1

    @property
    def forward(self) -> "Axis":
        """The transform of real samples whose transposed matrix this one's is made of."""
        return Axis(self.n, "of real", -self.sign)


@dataclass(frozen=True)
class Factored:
    """A = P L_2 L_1, or its mirror image A = L_1 L_2 P to real samples. `first`: L_1 [rows, columns]; `second`: L_2
    [k_1, rows, columns]; `order`: which row each row of P takes."""

    first: Tensor
    second: Tensor
    order: tuple[int, ...]


def price(axis: Axis, first: int) -> float:
    """Of the transform with n_1 = `first`; n_1 = 1 stands for one matrix."""
    parts = 2 if axis.kind == "complex" else 1
    if first == 1:
        return 2.0 * parts * axis.kept
    second = axis.n // first
    rows = first if axis.kind == "complex" else first // 2 + 1
    return 2 * parts * rows + 4 * rows * second / first + parts * MOVED + CALL / second


@lru_cache(maxsize=1024)
def first_factor(axis: Axis) -> int:
    """n_1 of the cheapest way; 1: one matrix."""
    factors = [d for d in range(1, axis.n) if axis.n % d == 0] or [1]
    return min(factors, key=lambda first: price(axis, first))


@lru_cache(maxsize=1024)
def chirp_points(axis: Axis) -> int | None:
    """m, if a complex transform is cheaper by a chirp; None if not."""
    if axis.kind != "complex" or axis.n < 32:
        return None
    own = price(axis, first_factor(axis))
    points = min(_smooth(2 * axis.n - 1), key=lambda m: m * _best(m))
    return points if 2 * points / axis.n * _best(points) + CHIRP < own else None


def _best(n: int) -> float:
    axis = Axis(n, "complex", -1)
    return price(axis, first_factor(axis))


def _smooth(least: int) -> list[int]:
    """Products of two numbers of about the same size, from `least` on."""
    root = math.isqrt(least)
    return [root * -(-least // root), (root + 1) * -(-least // (root + 1)), 1 << (least - 1).bit_length()]


def matrix(axis: Axis) -> Tensor:
    """A [rows, columns] in float64."""
    if axis.kind == "to real":
        return axis.scale * matrix(axis.forward).mT * counted(axis.n).repeat(2)
    cos, sin = wave(axis.n, axis.sign, torch.outer(torch.arange(axis.kept), torch.arange(axis.n)))
    real = torch.cat([cos, sin])
    return axis.scale * (real if axis.kind == "of real" else torch.cat([real, torch.cat([-sin, cos])], 1))


def factored(axis: Axis, first: int) -> Factored:
    """The factors of A for n_1 = `first`, in float64."""
    if axis.kind == "to real":
        return _mirrored(axis, first)
    n, second = axis.n, axis.n // first
    rows = first if axis.kind == "complex" else first // 2 + 1
    k1, i1 = torch.arange(rows), torch.arange(first)
    cos, sin = wave(first, axis.sign, torch.outer(k1, i1))
    level = torch.stack([cos, sin], 1).flatten(0, 1)  # [(k_1, part), i_1]
    if axis.kind == "complex":
        level = torch.cat([level, torch.stack([-sin, cos], 1).flatten(0, 1)], 1)
    k2 = torch.arange(second)
    k = k1[:, None] + first * k2
    cos, sin = wave(n, axis.sign, k[..., None] * k2)
    conjugate = torch.where((k > n // 2) & (axis.kind != "complex"), -1.0, 1.0)[..., None]
    re, im = torch.cat([cos, -sin], 2), conjugate * torch.cat([sin, cos], 2)
    return Factored(axis.scale * level, torch.cat([re, im], 1), _order(axis, first, rows))


def _order(axis: Axis, first: int, rows: int) -> tuple[int, ...]:
    """Where each frequency stands among [k_1, (part, k_2)]: the real parts, then the imaginary ones."""
    second = axis.n // first
    places = []
    for k in range(axis.kept):
        k = k if k % first < rows else axis.n - k
        places.append(k % first * 2 * second + k // first % second)
    return (*places, *(place + second for place in places))


def _mirrored(axis: Axis, first: int) -> Factored:
    """The transposed factors. A frequency that stands at two places is read twice and counts half at each."""
    forward = factored(axis.forward, first)
    second = axis.n // first
    rows = first // 2 + 1
    k = (torch.arange(rows)[:, None] + first * torch.arange(second)).flatten()
    k = torch.where(k > axis.n // 2, axis.n - k, k)
    times = torch.bincount(k, minlength=axis.kept)
    weight = (counted(axis.n) / times)[k].reshape(rows, 1, second)
    source = torch.stack([k, k + axis.kept]).reshape(2, rows, second).transpose(0, 1).flatten()
    level = forward.second.mT * torch.cat([weight, weight], 2)
    return Factored(axis.scale * forward.first.mT, level, tuple(source.tolist()))


def chirp(axis: Axis, points: int) -> tuple[Tensor, Tensor]:
    """c̄ [2, n] and the transform of c [2, m], scaled for the inverse; real and imaginary parts in float64."""
    n, j = axis.n, torch.arange(axis.n)
    own = torch.stack(wave(2 * n, axis.sign, j * j))
    c = torch.zeros(points, dtype=torch.complex128)
    c[:n] = torch.complex(own[0], -own[1])
    c[points - n + 1 :] = c[1:n].flip(0)
    spectrum = torch.fft.fft(c) * (axis.scale / points)
    return own, torch.stack([spectrum.real, spectrum.imag])


def wave(n: int, sign: int, turns: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of sign · 2π turns / n in float64; `turns` are integers, and zeros are exact."""
    turns = turns % n
    angles = turns.double() * (sign * 2 * math.pi / n)
    cos = torch.where(4 * turns % (2 * n) == n, 0.0, torch.cos(angles))
    return cos, torch.where(2 * turns % n == 0, 0.0, torch.sin(angles))


def counted(n: int) -> Tensor:
    """[n // 2 + 1]: how often each frequency of a one-sided spectrum counts for real samples: twice, except for
    frequencies 0 and n/2, which are their own mirror images."""
    times = torch.full((n // 2 + 1,), 2.0, dtype=torch.float64)
    times[0] = 1
    if n % 2 == 0:
        times[-1] = 1
    return times
