"""Initial quaternion weights: what they are drawn from, and what a layer makes of its input's variance."""

import math

import pytest
import torch
from torch import Tensor

from fusekit import nn as fnn
from fusekit.nn import functional as F
from fusekit.nn import init
from fusekit.nn.init.criterion import Criterion


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("criterion", ["glorot", "he"])
@pytest.mark.parametrize("window", [None, 3, (3, 2)])
def test_polar_form(criterion: Criterion, window: int | tuple[int, ...] | None) -> None:
    """|w| ~ s χ(4), a uniform phase, an axis uniform on the sphere, each independent of the others."""
    ins, outs = 40, 60
    w = init.quaternion_init(ins, outs, window, criterion, generator=seeded(), dtype=torch.float64)
    taps = math.prod(w.shape[3:])
    assert w.shape == (4, outs, ins, *(() if window is None else (window,) if isinstance(window, int) else window))
    s = 1 / math.sqrt(2 * taps * (ins + outs if criterion == "glorot" else ins))
    modulus = torch.linalg.vector_norm(w, dim=0).flatten() / s
    count = modulus.numel()
    # of χ(4): mean √2 Γ(5/2) / Γ(2), E r² = 4, E r⁴ = 24
    assert float(modulus.mean()) == pytest.approx(math.sqrt(2) * math.gamma(2.5), rel=5 / math.sqrt(count))
    assert float(modulus.square().mean()) == pytest.approx(4, rel=5 / math.sqrt(count))
    assert float(modulus.pow(4).mean()) == pytest.approx(24, rel=12 / math.sqrt(count))
    vector = w[1:].flatten(1)
    size = torch.linalg.vector_norm(vector, dim=0)
    axis, phase = vector / size, torch.atan2(size, w[0].flatten())  # |φ|, the axis taking its sign
    assert kolmogorov(phase / math.pi) < 2 / math.sqrt(count)
    assert all(kolmogorov((component + 1) / 2) < 2 / math.sqrt(count) for component in axis)  # Archimedes
    values = torch.stack([modulus, phase, *axis, axis[0] * axis[1]])
    correlation = torch.corrcoef(values) - torch.eye(len(values), dtype=torch.float64)
    assert float(correlation.abs().max()) < 5 / math.sqrt(count)
    shares = w.square().flatten(1).mean(1) / (4 * s * s)
    assert torch.allclose(
        shares, torch.tensor([1 / 2, 1 / 6, 1 / 6, 1 / 6], dtype=torch.float64), atol=4 / math.sqrt(count)
    )


def kolmogorov(sample: Tensor) -> float:
    """The largest distance of the sample's distribution from the uniform one on [0, 1]."""
    ordered = sample.sort().values
    grid = torch.arange(1, len(ordered) + 1, dtype=ordered.dtype) / len(ordered)
    return float((ordered - grid).abs().max())


@pytest.mark.parametrize(("criterion", "gain"), [("glorot", 2 * 48 / (48 + 32)), ("he", 2.0)])
def test_variance_through_a_layer(criterion: Criterion, gain: float) -> None:
    """Var y = 2 n / (n + m) Var x by Glorot, 2 Var x by He, for linear layers, convolutions and transposed ones."""
    torch.manual_seed(0)
    linear = fnn.QuaternionLinear(4 * 48, 4 * 32, criterion=criterion)
    y = linear(torch.randn(400, 4 * 48))
    assert float(y.detach().var()) == pytest.approx(gain, rel=0.08)
    conv = fnn.QuaternionConv2d(4 * 48, 4 * 32, 3, criterion=criterion)
    y = conv(torch.randn(4, 4 * 48, 8, 8))
    assert float(y.detach().var()) == pytest.approx(gain, rel=0.08)
    transposed = fnn.QuaternionConvTranspose2d(4 * 48, 4 * 32, 3, criterion=criterion)
    y = transposed(torch.randn(4, 4 * 48, 10, 10))[..., 2:-2, 2:-2]
    assert float(y.detach().var()) == pytest.approx(gain, rel=0.08)


def test_unitary() -> None:
    """|w| = 1 to the last bits, uniform on S³: each component has mean 0, variance 1 / 4 and E x⁴ = 1 / 8."""
    w = init.unitary_init(50, 60, 3, generator=seeded(), dtype=torch.float64)
    assert w.shape == (4, 60, 50, 3)
    assert float((torch.linalg.vector_norm(w, dim=0) - 1).abs().max()) < 1e-15
    for component in w:
        assert float(component.mean()) == pytest.approx(0, abs=0.02)
        assert float(component.square().mean()) == pytest.approx(0.25, abs=0.01)
        assert float(component.pow(4).mean()) == pytest.approx(0.125, abs=0.01)


def test_generators() -> None:
    """The generator given, or torch's own; numpy's has no part in it, and no two layers get the same moduli."""
    one, same, other = (init.quaternion_init(3, 5, generator=seeded(n)) for n in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    torch.manual_seed(3)
    first, second = fnn.QuaternionLinear(8, 8), fnn.QuaternionLinear(8, 8)
    torch.manual_seed(3)
    assert torch.equal(fnn.QuaternionLinear(8, 8).weight, first.weight)
    moduli = [F.quaternion_modulus(layer.weight.detach().flatten()) for layer in (first, second)]
    assert not torch.allclose(moduli[0], moduli[1])
    layer = fnn.QuaternionGRU(8, 8)
    layer.reset_parameters(seeded())
    again = layer.weight_ih_l0.detach().clone()  # type: ignore[operator]
    layer.reset_parameters(seeded())
    assert torch.equal(layer.weight_ih_l0, again)  # type: ignore[arg-type]


def test_recurrent_gates_are_drawn_one_by_one() -> None:
    """Each gate with the fans of its own matrix, not of all of them."""
    layer = fnn.QuaternionLSTM(4 * 40, 4 * 40)
    layer.reset_parameters(seeded())
    for gate in layer.weight_hh_l0.chunk(4, 1):  # type: ignore[operator]
        assert float(gate.detach().square().sum(0).mean()) == pytest.approx(4 / (2 * 80), rel=0.1)
    unitary = fnn.QuaternionGRU(8, 8, init="unitary")
    sizes = torch.linalg.vector_norm(unitary.weight_hh_l0.detach(), dim=0)  # type: ignore[operator]
    assert torch.allclose(sizes, torch.ones(6, 2))


def test_in_place_and_errors() -> None:
    w = torch.empty(4, 2, 3, 5, dtype=torch.float32)
    assert init.quaternion_chi_(w, "he") is w and init.quaternion_unitary_(w) is w
    assert not w.requires_grad
    assert init.quaternion_init(0, 3).shape == (4, 3, 0)
    with pytest.raises(ValueError, match=r"expected a weight \[4, out, in, \*window\], got shape \[3, 2, 2\]"):
        init.quaternion_chi_(torch.empty(3, 2, 2))
    with pytest.raises(ValueError, match="criterion must be 'glorot' or 'he', got 'x'"):
        init.quaternion_chi_(torch.empty(4, 2, 2), "x")  # type: ignore[arg-type]
