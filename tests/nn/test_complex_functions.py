"""Activations, pooling, dropout, interpolation and initial values: formulas, the values at 0, statistics."""

import cmath
import math

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor

import fusekit.nn as fnn
import fusekit.nn.functional as FF
import fusekit.nn.init as finit
from fusekit.nn.init.criterion import Criterion
from fusekit.testing.strategies import gaussian, relative_error
from tests.support.complex_layers import DOUBLE

SPECIAL = [0j, 1 + 0j, -1 + 0j, 1j, -1j, complex(-0.0, -1), complex(-1, -0.0), 3 + 4j, -3 + 4j, -3 - 4j, 3 - 4j]


def at(*values: complex) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def by_hand(z: complex, name: str, b: float = -0.5) -> complex:
    """The formulas of the papers, through modulus and angle."""
    modulus, angle = abs(z), cmath.phase(z)
    if name == "crelu":
        return complex(max(z.real, 0), max(z.imag, 0))
    if name == "zrelu":
        return z if z.real >= 0 and z.imag >= 0 else 0j
    if name == "cardioid":
        return 0.5 * (1 + math.cos(angle)) * z
    if name == "modrelu":
        return max(modulus + b, 0) * cmath.exp(1j * angle) if z else 0j
    raise AssertionError(name)


@pytest.mark.parametrize("name", ["crelu", "zrelu", "cardioid", "modrelu"])
def test_activations_are_those_of_the_papers(name: str) -> None:
    values = SPECIAL + torch.randn(50, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)).tolist()
    for b in (-0.5, 0.0, 0.5):
        x = at(*values)
        y = FF.modrelu(x, b) if name == "modrelu" else getattr(FF, name)(x)
        assert (y - at(*(by_hand(z, name, b) for z in values))).abs().max() < 1e-14


def test_what_is_chosen_at_zero_and_on_the_axes() -> None:
    zero = at(0j)
    assert FF.modrelu(zero, 0.5).item() == 0
    assert FF.modrelu(zero, 0.5, at_zero="real").item() == 0.5
    assert FF.modrelu(zero, -0.5, at_zero="real").item() == 0
    x = at(*SPECIAL)
    assert relative_error(FF.modrelu(x[1:], 0.5, at_zero="real"), FF.modrelu(x[1:], 0.5)) < 1e-15
    assert FF.zrelu(at(1, 1j)).tolist() == [1, 1j]
    assert FF.zrelu(at(1, 1j, 1 + 1j), axes=False).tolist() == [0, 0, 1 + 1j]
    with pytest.raises(ValueError, match="at_zero must be"):
        FF.modrelu(zero, 0.5, at_zero="angle")  # type: ignore[arg-type]
    for form in (FF.ctanh, FF.csigmoid):
        with pytest.raises(ValueError, match="form must be"):
            form(zero, "analytic")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["crelu", "zrelu", "cardioid", "ctanh", "csigmoid"])
@pytest.mark.parametrize("dtype", [torch.complex64, DOUBLE])
def test_gradients_are_finite_everywhere(name: str, dtype: torch.dtype) -> None:
    """At 0, on the axes, at subnormal and at huge numbers."""
    tiny = torch.finfo(dtype).tiny
    x = torch.tensor([*SPECIAL, tiny * (1 + 1j), tiny / 8, 1e30 + 1j, -1e30 - 1e30j], dtype=dtype, requires_grad=True)
    y = getattr(FF, name)(x)
    torch.view_as_real(y).sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("at_zero", ["zero", "real"])
def test_modrelu_has_finite_gradients_at_zero(at_zero: str) -> None:
    x = torch.zeros(3, dtype=DOUBLE, requires_grad=True)
    bias = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64, requires_grad=True)
    torch.view_as_real(FF.modrelu(x, bias, at_zero=at_zero)).sum().backward()  # type: ignore[arg-type]
    assert x.grad is not None and x.grad.isfinite().all()
    assert bias.grad is not None and bias.grad.isfinite().all()
    small = torch.tensor([3e-300 + 4e-300j], dtype=DOUBLE)
    assert relative_error(FF.modrelu(small, 1.0), at(0.6 + 0.8j)) < 1e-14


@given(st.complex_numbers(max_magnitude=30, allow_nan=False))
def test_analytic_tanh_and_sigmoid(z: complex) -> None:
    """cmath is the reference near the poles too; torch's sigmoid is 1 / (1 + exp(-z)) with its overflow."""
    expected = cmath.tanh(z)
    assert abs(FF.ctanh(at(z), "holomorphic").item() - expected) <= 1e-12 * max(
        abs(expected) ** 2, abs(expected), 1e-300
    )
    half = cmath.tanh(z / 2)
    expected = 0.5 * (1 + half)
    assert abs(FF.csigmoid(at(z), "holomorphic").item() - expected) <= 1e-12 * max(1, abs(half) ** 2)


def test_large_arguments_do_not_overflow() -> None:
    x = at(800 + 1j, -800 + 1j, 1e300 - 3j, -1e300 + 3j)
    assert FF.ctanh(x, "holomorphic").tolist() == [1, -1, 1, -1]
    assert FF.csigmoid(x, "holomorphic").tolist() == [1, 0, 1, 0]
    assert torch.sigmoid(x)[1].isnan()  # what is avoided
    assert FF.csigmoid(at(1), "holomorphic").item().real == pytest.approx(1 / (1 + math.exp(-1)))  # not exp(+1)


def test_slopes_of_the_two_parts() -> None:
    x = torch.randn(2, 3, 4, dtype=DOUBLE)
    weight = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], dtype=torch.float64)
    expected = torch.complex(F.prelu(x.real, weight[:, 0].contiguous()), F.prelu(x.imag, weight[:, 1].contiguous()))
    assert relative_error(FF.cprelu(x, weight), expected) < 1e-15
    assert relative_error(FF.cprelu(x, weight[:1])[:, :1], expected[:, :1]) < 1e-15
    with pytest.raises(ValueError, match=r"expected slopes of shape \[1, 2\]"):
        FF.cprelu(x, weight[:, 0])


@given(st.data())
def test_max_pool_takes_the_sample_of_the_largest_modulus(data: st.DataObject) -> None:
    """Many planes: an index into one plane read as one into all of them would show."""
    n = data.draw(st.integers(1, 3))
    size, stride, dilation = (data.draw(st.integers(1, 3)) for _ in range(3))
    geometry = (size, stride, data.draw(st.integers(0, size // 2)), dilation, data.draw(st.booleans()))
    x = torch.view_as_complex(gaussian(data.draw, 2, 3, *(data.draw(st.integers(7, 8)) for _ in range(n)), 2))  # type: ignore[arg-type]
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[n - 1]
    y, indices = FF.complex_max_pool(x, n, *geometry, return_indices=True)
    modulus, expected = pool(x.abs(), *geometry, return_indices=True)
    assert torch.equal(y.abs(), modulus)
    assert torch.equal(indices, expected)
    for plane in ((0, 0), (1, 2)):
        assert torch.equal(y[plane].flatten(), x[plane].flatten()[expected[plane].flatten()])


@given(st.data())
def test_average_pool_is_that_of_the_parts(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 3))
    size = data.draw(st.integers(1, 3))
    geometry = (size, data.draw(st.integers(1, 3)), data.draw(st.integers(0, size // 2)), data.draw(st.booleans()))
    x = torch.view_as_complex(gaussian(data.draw, 2, 3, *(data.draw(st.integers(3, 5)) for _ in range(n)), 2))  # type: ignore[arg-type]
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[n - 1]
    expected = torch.complex(pool(x.real, *geometry), pool(x.imag, *geometry))
    assert relative_error(FF.complex_avg_pool(x, n, *geometry), expected) < 1e-14
    assert relative_error(getattr(fnn, f"ComplexAvgPool{n}d")(*geometry)(x), expected) < 1e-14
    whole = FF.complex_adaptive_avg_pool(x, n, 1)
    assert relative_error(whole, x.mean(list(range(2, x.ndim)), keepdim=True)) < 1e-13


def test_interpolation() -> None:
    x = torch.randn(1, 2, 3, 4, dtype=DOUBLE)
    options = {"scale_factor": 2, "mode": "bilinear", "align_corners": False}
    parts = torch.complex(F.interpolate(x.real, **options), F.interpolate(x.imag, **options))  # type: ignore[arg-type]
    assert relative_error(fnn.ComplexUpsample(**options)(x), parts) < 1e-14  # type: ignore[arg-type]
    polar = F.interpolate(x.abs(), **options) * torch.exp(1j * F.interpolate(x.angle(), **options))  # type: ignore[arg-type]
    assert relative_error(FF.interpolate_polar(x, **options), polar) < 1e-14


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_dropout_has_one_mask_and_divides_once(n: int) -> None:
    """E y = x; complexPyTorch divides twice (E y = x / (1 - p)), others draw a mask for each part."""
    torch.manual_seed(0)
    x = torch.full((2000, 4, *(2,) * n), 1 + 2j, dtype=DOUBLE)
    layer = getattr(fnn, f"ComplexDropout{n}d" if n else "ComplexDropout")(0.25)
    y = layer(x)
    assert set(y.flatten().tolist()) == {0, (1 + 2j) / 0.75}
    assert abs(float(y.real.mean()) - 1) < 0.03
    if n:
        assert all(len(set(plane.flatten().tolist())) == 1 for plane in y[:50].flatten(0, 1))
        unbatched = layer(x[0])
        assert all(len(set(plane.flatten().tolist())) == 1 for plane in unbatched)
    assert torch.equal(layer.eval()(x), x)
    inplace = type(layer)(0.25, inplace=True)
    z = x.clone()
    assert inplace(z) is z
    assert (z == 0).any()
    with pytest.raises(ValueError, match="between 0 and 1, got 1.5"):
        type(layer)(1.5)
    if n:
        with pytest.raises(ValueError, match="spatial axes, got shape"):
            layer.train()(x.reshape(-1))


@pytest.mark.parametrize("criterion", ["glorot", "he"])
@pytest.mark.parametrize("shape", [(40, 30), (20, 12, 3, 3)])
def test_initial_statistics(criterion: Criterion, shape: tuple[int, ...]) -> None:
    """Rayleigh modulus: E r = σ √(π/2), E r² = 2 σ², Kolmogorov distance; uniform phase; variance by criterion."""
    taps = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * taps, shape[0] * taps
    variance = 2 / fan_in if criterion == "he" else 2 / (fan_in + fan_out)
    draws = [
        finit.complex_rayleigh_(
            torch.empty(shape, dtype=DOUBLE), criterion, generator=torch.Generator().manual_seed(seed)
        )
        for seed in range(20)
    ]
    w = torch.stack(draws).flatten()
    n = w.numel()
    r, sigma = w.abs(), math.sqrt(variance / 2)
    assert abs(float(r.square().mean()) / variance - 1) < 5 / math.sqrt(n)
    ranked = torch.arange(1, n + 1) / n
    rayleigh = 1 - torch.exp(-r.sort().values.square() / (2 * sigma**2))
    assert float((rayleigh - ranked).abs().max()) < 2 / math.sqrt(n)
    phase = (w.angle().sort().values / math.pi + 1) / 2
    assert float((phase - ranked).abs().max()) < 2 / math.sqrt(n)
    transposed = torch.empty(shape[1], shape[0], *shape[2:], dtype=DOUBLE)
    assert finit.complex_variance(transposed, criterion, transposed=True) == pytest.approx(variance)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 2, 3), (5, 1, 2, 2), (1, 1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_unitary_weights(shape: tuple[int, ...], transposed: bool) -> None:
    w = torch.empty(shape, dtype=DOUBLE)
    finit.complex_unitary_(w, "he", gain=2.0, transposed=transposed)
    matrix = (w.transpose(0, 1) if transposed else w).flatten(1)
    gram = matrix @ matrix.mH if matrix.shape[0] <= matrix.shape[1] else matrix.mH @ matrix
    assert relative_error(gram, torch.eye(len(gram), dtype=DOUBLE) * gram[0, 0]) < 1e-13
    variance = 4 * finit.complex_variance(w, "he", transposed=transposed)
    assert float(w.abs().square().mean()) == pytest.approx(variance)
    phases = finit.complex_phase_(torch.empty(500, dtype=DOUBLE))
    assert relative_error(phases.abs(), torch.ones(500, dtype=torch.float64)) < 1e-15
    assert phases.mean().abs() < 0.15


def test_layers_start_with_the_criterion_and_real_weights_are_refused() -> None:
    torch.manual_seed(0)
    for layer in (fnn.ComplexLinear(60, 40), fnn.ComplexConvTranspose1d(30, 20, 3), fnn.ComplexConv2d(20, 30, 3)):
        transposed = "Transpose" in type(layer).__name__
        expected = finit.complex_variance(layer.weight, transposed=transposed)
        assert float(layer.weight.detach().abs().square().mean()) == pytest.approx(expected, rel=0.1)
        assert layer.bias is not None and not layer.bias.any()
    with pytest.raises(TypeError, match="expected a complex tensor, got torch.float32"):
        finit.complex_rayleigh_(torch.empty(2, 2))
    with pytest.raises(ValueError, match="criterion must be 'glorot' or 'he', got 'xavier'"):
        finit.complex_unitary_(torch.empty(2, 2, dtype=DOUBLE), "xavier")  # type: ignore[arg-type]
