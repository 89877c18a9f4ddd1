"""The Fourier layer on real tensors: torch.fft over any axes, signs, scales and numbers of points."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch import Tensor

from fusekit.algebra.transforms.fourier import Axis, Kind
from fusekit.nn import fourier
from fusekit.nn.fourier import Fourier

NORMS = {0.0: "backward", 0.5: "ortho", 1.0: "forward"}
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 12, 30, 64, 97, 100, 509, 600]


def by_torch(layer: Fourier, z: Tensor, sizes: list[int] | None) -> Tensor:
    norm, opposite = NORMS[layer.power], NORMS[1 - layer.power]
    there = {
        "complex": (torch.fft.fftn, torch.fft.ifftn),
        "of real": (torch.fft.rfftn, torch.fft.ihfftn),
        "to real": (torch.fft.hfftn, torch.fft.irfftn),
    }[layer.kind]
    forwards = layer.sign < 0
    given = z.real if layer.kind == "of real" else z
    result: Tensor = there[not forwards](given, s=sizes, dim=layer.dims, norm=norm if forwards else opposite)
    return result


@st.composite
def calls(draw: st.DrawFn) -> tuple[Fourier, Tensor, list[int] | None]:
    rank = draw(st.integers(1, 4))
    dims = draw(st.permutations(range(-rank, 0)))[: draw(st.integers(1, min(rank, 3)))]
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 5, 9]), min_size=rank, max_size=rank))
    shape[dims[-1]] = draw(st.sampled_from(LENGTHS[1:]))
    sizes = draw(st.none() | st.lists(st.sampled_from([1, 2, 6, 10, 101, 256]), min_size=len(dims), max_size=len(dims)))
    kind: Kind = draw(st.sampled_from(["complex", "of real", "to real"]))
    layer = Fourier(kind, dims, draw(st.sampled_from([-1, 1])), draw(st.sampled_from([0.0, 0.5, 1.0])))
    source = torch.Generator().manual_seed(sum(shape))
    return layer, torch.randn(shape, generator=source, dtype=torch.complex128), sizes


@settings(max_examples=80, deadline=None)
@given(calls(), st.booleans())
def test_it_is_torchs(call: tuple[Fourier, Tensor, list[int] | None], real: bool) -> None:
    layer, z, sizes = call
    if real:
        z = z.real + 0j
    im = None if real or layer.kind == "of real" else z.imag
    found = layer(z.real, im, *(sizes or ()))
    found = found if isinstance(found, Tensor) else torch.complex(*found)
    expected = by_torch(layer, z, sizes)
    assert found.shape == expected.shape
    assert float((found - expected).norm()) < 1e-12 * float(expected.norm()) + 1e-13


def test_tables_of_free_sizes_are_the_matrices() -> None:
    """What a program computes from a size, for each kind; and torch's own beyond the longest."""
    kinds: tuple[Kind, ...] = ("complex", "of real", "to real")
    for kind in kinds:
        for n in (1, 2, 5, 8, 30):
            count = n // 2 + 1 if kind == "to real" else n
            parts = [torch.randn(3, count, dtype=torch.float64) for _ in range(1 if kind == "of real" else 2)]
            for sign in (-1, 1):
                expected = fourier._known(parts, 1, Axis(n, kind, sign, n**-0.5))
                table = fourier._free(parts, 1, kind, n, sign, 0.5)
                own = fourier._by_torch(parts, 1, kind, n, sign, 0.5)
                for ours, theirs, third in zip(table, expected, own, strict=True):
                    assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)
                    assert torch.allclose(third, theirs, rtol=1e-12, atol=1e-12)


def test_it_is_as_exact_as_torch_in_float32() -> None:
    for n in (100, 400, 509, 1000, 1009, 1024):
        x = torch.randn(64, n, dtype=torch.complex64)
        exact = torch.fft.fft(x.to(torch.complex128))
        found = torch.complex(*Fourier("complex", (-1,), -1, 0.0)(x.real, x.imag))
        assert float((found - exact).norm() / exact.norm()) < 1e-6
