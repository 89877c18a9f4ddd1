"""Whitening: unit covariance, statistics that converge, the forms other libraries have, extreme inputs."""

import copy
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

import fusekit.nn as fnn
import fusekit.nn.functional as FF
from fusekit.nn.functional.complex.norm import EpsIn
from fusekit.testing.strategies import gaussian, relative_error
from tests.support.complex_layers import DOUBLE

NORMS = {0: fnn.ComplexBatchNorm1d, 1: fnn.ComplexBatchNorm1d, 2: fnn.ComplexBatchNorm2d, 3: fnn.ComplexBatchNorm3d}


def covariance(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Mean [C, 2] and covariance [C, 2, 2] of the parts, by numpy's definition (biased)."""
    parts = torch.view_as_real(x).movedim(axis, 0).reshape(x.shape[axis], -1, 2)
    mean = parts.mean(1)
    centred = parts - mean.unsqueeze(1)
    return mean, centred.mT @ centred / centred.shape[1]


def skewed(n: int, channels: int = 3, batch: int = 40) -> Tensor:
    """Parts of different size that are correlated, off the origin."""
    generator = torch.Generator().manual_seed(n)
    z = torch.randn((batch, channels, *(3,) * n), dtype=DOUBLE, generator=generator)
    scale = torch.arange(1, channels + 1, dtype=torch.float64).reshape(-1, *(1,) * n)
    return (z + 0.6 * z.conj() + 0.2j * z) * scale + (3 - 2j)


@torch.no_grad()
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_whitened_covariance_is_the_identity(n: int) -> None:
    norm = NORMS[n](3, eps=1e-14, affine=False, dtype=DOUBLE)
    x = skewed(n)
    mean, cov = covariance(norm(x), 1)
    assert mean.abs().max() < 1e-13
    assert (cov - torch.eye(2, dtype=torch.float64)).abs().max() < 1e-12
    fresh = NORMS[n](3, eps=1e-14, dtype=DOUBLE)
    assert (covariance(fresh(x), 1)[1] - torch.eye(2, dtype=torch.float64) / 2).abs().max() < 1e-12  # E |y|² = 1


@torch.no_grad()
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_running_statistics_converge_to_those_of_the_data(n: int) -> None:
    """Momentum as torch's: after k steps on one batch 1 - 0.9^k of the way; None: the plain mean of all batches."""
    x = skewed(n)
    count = x.numel() // 3
    mean, cov = covariance(x, 1)
    target = cov[:, [0, 1, 0], [0, 1, 1]] * count / (count - 1)
    norm, whole = NORMS[n](3, dtype=DOUBLE), NORMS[n](3, momentum=None, dtype=DOUBLE)
    first = norm.get_buffer("running_covar").clone()
    for _ in range(3):
        norm(x)
        whole(x)
    assert relative_error(norm.get_buffer("running_mean"), torch.view_as_complex(mean) * (1 - 0.9**3)) < 1e-13
    assert relative_error(norm.get_buffer("running_covar"), target + 0.9**3 * (first - target)) < 1e-13
    assert relative_error(whole.get_buffer("running_covar"), target) < 1e-13
    assert int(whole.get_buffer("num_batches_tracked")) == 3
    expected = whole(x)
    whole.eval()
    close = relative_error(whole(x), expected)
    assert 1e-5 < close < 1.0 / count  # biased in training, unbiased in evaluation, as torch's


@torch.no_grad()
def test_without_statistics_and_in_evaluation() -> None:
    x = skewed(2)
    norm = fnn.ComplexBatchNorm2d(3, track_running_stats=False, dtype=DOUBLE)
    assert norm.running_mean is None
    trained = norm(x)
    assert relative_error(norm.eval()(x), trained) < 1e-14
    fresh = fnn.ComplexBatchNorm2d(3, eps=1e-14, dtype=DOUBLE).eval()
    assert relative_error(fresh(x), x) < 1e-12  # a fresh layer is the identity
    fresh.reset_parameters()
    assert relative_error(fresh(x[:0]), x[:0]) == 0


@torch.no_grad()
@pytest.mark.parametrize("n", [0, 1, 2, 3])
@pytest.mark.parametrize("training", [True, False])
def test_every_entry_of_the_two_matrices_counts(n: int, training: bool) -> None:
    """Against V^-1/2 by eigenvectors, with a full Γ, whose product with it is not symmetric."""
    x, norm = skewed(n), NORMS[n](3, dtype=DOUBLE)
    generator = torch.Generator().manual_seed(0)
    gamma = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    norm.get_parameter("weight").copy_(gamma)
    norm.get_parameter("bias").copy_(torch.randn(3, dtype=DOUBLE, generator=generator))
    mean, cov = covariance(x, 1)
    if not training:
        norm.eval()
        mean, half = torch.randn(3, 2, dtype=torch.float64, generator=generator), cov @ cov.mT
        cov = half / half.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
        norm.get_buffer("running_mean").copy_(torch.view_as_complex(mean))
        norm.get_buffer("running_covar").copy_(cov[:, [0, 1, 0], [0, 1, 1]])
    values, vectors = torch.linalg.eigh(cov + 1e-5 * torch.eye(2, dtype=torch.float64))
    whole = gamma[:, [[0, 2], [2, 1]]] @ vectors @ torch.diag_embed(values.rsqrt()) @ vectors.mT
    centred = torch.view_as_real(x).movedim(1, -2) - mean
    y = torch.view_as_complex((whole @ centred.unsqueeze(-1)).squeeze(-1).contiguous()) + norm.get_parameter("bias")
    assert relative_error(norm(x), y.movedim(-1, 1)) < 1e-12


@torch.no_grad()
@given(st.data())
def test_naive_and_whitening_agree_where_the_parts_are_uncorrelated(data: st.DataObject) -> None:
    """Γ diagonal and Vri = 0: whitening is batch norm of the parts apart."""
    whitening = fnn.ComplexBatchNorm1d(2, dtype=DOUBLE).eval()
    naive = fnn.NaiveComplexBatchNorm1d(2, dtype=DOUBLE).eval()
    draw = data.draw
    for i, part in enumerate((naive.bn_r, naive.bn_i)):
        part.get_buffer("running_var").copy_(gaussian(draw, 2).abs() + 0.1)  # type: ignore[arg-type]
        part.get_buffer("running_mean").copy_(gaussian(draw, 2))  # type: ignore[arg-type]
        nn.init.normal_(part.get_parameter("weight"))
        nn.init.normal_(part.get_parameter("bias"))
        whitening.get_buffer("running_covar")[:, i] = part.get_buffer("running_var")
        torch.view_as_real(whitening.get_buffer("running_mean"))[:, i] = part.get_buffer("running_mean")
        whitening.get_parameter("weight")[:, i] = part.get_parameter("weight")
        torch.view_as_real(whitening.get_parameter("bias"))[:, i] = part.get_parameter("bias")
    x = torch.view_as_complex(gaussian(draw, 3, 2, 4, 2))  # type: ignore[arg-type]
    assert relative_error(whitening(x), naive(x)) < 1e-13


@torch.no_grad()
@pytest.mark.parametrize("n", [1, 2, 3])
def test_naive_is_two_real_layers(n: int) -> None:
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[n]
    naive = getattr(fnn, f"NaiveComplexBatchNorm{n}d")(3, dtype=DOUBLE)
    real, imaginary = kind(3).double(), kind(3).double()
    x = skewed(n)
    assert relative_error(naive(x), torch.complex(real(x.real), imaginary(x.imag))) < 1e-14
    state = {f"bn_r.{k}": v for k, v in real.state_dict().items()}
    state |= {f"bn_i.{k}": v for k, v in imaginary.state_dict().items()}
    assert all(torch.equal(v, state[k]) for k, v in naive.state_dict().items())


@torch.no_grad()
def test_where_eps_stands() -> None:
    """ "store": eps is in running_covar and evaluation adds none. "both": there, and once more. Large eps shows it."""
    x, eps = skewed(2), 0.5
    _, cov = covariance(x, 1)
    count = x.numel() // 3
    plain = cov * count / (count - 1)
    eye = torch.eye(2, dtype=torch.float64)
    stored = (cov + eps * eye) * count / (count - 1)
    used: dict[EpsIn, Tensor] = {"use": plain + eps * eye, "store": stored, "both": stored + eps * eye}
    for form, matrix in used.items():
        norm = fnn.ComplexBatchNorm2d(3, eps, momentum=1.0, affine=False, dtype=DOUBLE, eps_in=form)
        norm(x)
        norm.eval()
        values, vectors = torch.linalg.eigh(matrix)
        root = vectors @ torch.diag_embed(values.rsqrt()) @ vectors.mT
        centred = torch.view_as_real(x).movedim(1, -2) - covariance(x, 1)[0]
        expected = torch.view_as_complex((root @ centred.unsqueeze(-1)).squeeze(-1).contiguous()).movedim(-1, 1)
        assert relative_error(norm(x), expected) < 1e-12, form
        assert ("eps_in" in repr(norm)) == (form != "use")
    with pytest.raises(ValueError, match="eps_in must be"):
        fnn.ComplexBatchNorm2d(3, eps_in="eval")  # type: ignore[arg-type]


def test_correlated_parts_of_any_size_give_numbers() -> None:
    """Im z = Re z, in float32: Vrr Vii - Vri² is lost in rounding, negative as often as not."""
    for scale in (1e-12, 1.0, 1e4, 1e8):
        for seed in range(20):
            real = torch.randn(16, 2, 3, generator=torch.Generator().manual_seed(seed)) * scale
            for layer in (fnn.ComplexBatchNorm1d(2), fnn.ComplexLayerNorm((2, 3))):
                x = torch.complex(real, real * (1 + 1e-7 * seed)).requires_grad_()
                y = layer(x)
                y.abs().square().sum().backward()
                assert y.isfinite().all()
                assert x.grad is not None and x.grad.isfinite().all()
                evaluated = layer.eval()(x)
                assert evaluated.isfinite().all()


@torch.no_grad()
def test_layer_norm_whitens_each_sample() -> None:
    x = skewed(2, batch=4).movedim(1, -1)  # [4, 3, 3, 3]
    plain = fnn.ComplexLayerNorm((3, 3), eps=1e-14, elementwise_affine=False, dtype=DOUBLE)
    mean, cov = covariance(plain(x).flatten(0, 1).flatten(1), 0)
    assert mean.abs().max() < 1e-12
    assert (cov - torch.eye(2, dtype=torch.float64)).abs().max() < 1e-11
    norm = fnn.ComplexLayerNorm(3, dtype=DOUBLE)
    nn.init.normal_(norm.get_parameter("weight"))
    nn.init.normal_(norm.get_parameter("bias"))
    rr, ii, ri = norm.get_parameter("weight").unbind(-1)
    z = FF.complex_layer_norm(x, (3,))
    expected = torch.complex(rr * z.real + ri * z.imag, ri * z.real + ii * z.imag) + norm.get_parameter("bias")
    assert relative_error(norm(x), expected) < 1e-14
    one = fnn.ComplexLayerNorm(1, dtype=DOUBLE)
    assert one(x[..., :1]).abs().max() == 0
    assert fnn.ComplexLayerNorm(3, bias=False).bias is None


def test_normalize_is_that_of_the_parts() -> None:
    x = skewed(1)
    y = FF.complex_normalize(x)
    for part in (y.real, y.imag):
        assert abs(float(part.mean())) < 1e-14
        assert math.isclose(float(part.std()), 1, rel_tol=1e-13)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected 4 axes, got shape \[2, 3\]"):
        fnn.ComplexBatchNorm2d(3)(torch.zeros(2, 3, dtype=torch.complex64))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        fnn.ComplexBatchNorm1d(3)(torch.zeros(1, 3, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"expected an input \[\*, 4\], got shape \[2, 3\]"):
        fnn.ComplexLayerNorm(4)(torch.zeros(2, 3, dtype=torch.complex64))


def test_a_bias_in_parts_loads() -> None:
    """complexPyTorch keeps the bias as [C, 2]; the rest of its state has our names and shapes."""
    norm = fnn.ComplexBatchNorm2d(3)
    state = copy.deepcopy(norm.state_dict())
    state["bias"] = torch.randn(3, 2)
    norm.load_state_dict(state)
    assert torch.equal(torch.view_as_real(norm.get_parameter("bias")), state["bias"])
