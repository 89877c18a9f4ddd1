"""One axis of a Fourier transform as matrices: whatever the way, it is torch's transform, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fusekit.algebra.transforms.fourier import Axis, Kind, chirp, chirp_points, factored, first_factor, matrix, price

KINDS = st.sampled_from(["complex", "of real", "to real"])
SIGNS = st.sampled_from([-1, 1])


def planar(z: Tensor) -> Tensor:
    return torch.cat([z.real, z.imag])


def example(axis: Axis) -> tuple[Tensor, Tensor]:
    """Random samples or a spectrum, and its transform by torch."""
    source = torch.Generator().manual_seed(axis.n)
    z = torch.randn(axis.n, generator=source, dtype=torch.complex128)
    if axis.kind == "to real":
        half = z[: axis.kept]
        y = torch.fft.hfft(half, axis.n) if axis.sign < 0 else torch.fft.irfft(half, axis.n, norm="forward")
        return planar(half), axis.scale * y
    if axis.kind == "of real":
        y = torch.fft.rfft(z.real) if axis.sign < 0 else torch.fft.ihfft(z.real, norm="forward")
        return z.real, axis.scale * planar(y)
    y = torch.fft.fft(z) if axis.sign < 0 else torch.fft.ifft(z, norm="forward")
    return planar(z), axis.scale * planar(y)


def by_factors(axis: Axis, first: int, x: Tensor) -> Tensor:
    made, second = factored(axis, first), axis.n // first
    bins = made.second.shape[0]
    if axis.kind == "to real":
        inner = made.second @ x[list(made.order)].reshape(bins, 2 * second, 1)
        return (made.first @ inner.reshape(-1, second)).flatten()
    outer = (made.first @ x.reshape(-1, second)).reshape(bins, 2 * second, 1)
    return (made.second @ outer).flatten()[list(made.order)]


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 130), KINDS, SIGNS, st.sampled_from([1.0, 0.5]))
def test_each_way_is_the_transform(n: int, kind: Kind, sign: int, scale: float) -> None:
    axis = Axis(n, kind, sign, scale)
    x, expected = example(axis)
    bound = 1e-12 * float(expected.norm()) + 1e-13
    assert float((matrix(axis) @ x - expected).norm()) < bound
    for first in (d for d in range(1, n + 1) if n % d == 0):
        assert float((by_factors(axis, first, x) - expected).norm()) < bound


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 60), SIGNS, st.integers(0, 9))
def test_a_chirp_is_the_transform(n: int, sign: int, more: int) -> None:
    axis = Axis(n, "complex", sign, 0.5)
    x, expected = example(axis)
    points = 2 * n - 1 + more
    own, spectrum = (torch.complex(*parts) for parts in chirp(axis, points))
    z = torch.fft.fft(own * torch.complex(*x.chunk(2)), points) * spectrum
    found = own * torch.fft.ifft(z, norm="forward")[:n]
    assert float((planar(found) - expected).norm()) < 1e-12 * float(expected.norm())


def test_zeros_are_exact() -> None:
    """So that a real mean has no imaginary part."""
    full = matrix(Axis(8, "complex", -1))
    assert full[4, :8].tolist() == [1, -1] * 4 and not full[[8, 12], :8].any() and not full[2, [1, 3, 5, 7]].any()
    assert bool((matrix(Axis(8, "to real", 1))[:, 5] == 0).all())


@pytest.mark.parametrize("kind", ["complex", "of real", "to real"])
def test_the_cheapest_way_is_taken(kind: Kind) -> None:
    """One matrix for small or prime numbers, two factors of about the root else; a chirp for large primes."""
    assert first_factor(Axis(16, kind, -1)) == first_factor(Axis(97, kind, -1)) == 1
    axis = Axis(1024, kind, -1)
    assert 16 <= first_factor(axis) <= 64
    assert price(axis, first_factor(axis)) < price(axis, 1) / 4
    large = Axis(2039, kind, -1)
    assert (chirp_points(large) is not None) == (kind == "complex") and chirp_points(axis) is None
