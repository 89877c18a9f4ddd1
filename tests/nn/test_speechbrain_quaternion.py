"""speechbrain's quaternion operators by their own names, against the library's formulas written out in float64."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fusekit.nn import speechbrain_quaternion
from tests.support.strategies import relative_error

q_ops: Any = speechbrain_quaternion

SIGNATURES = {  # of speechbrain 1.0's q_ops, in their order
    "quaternion_linear_op": "input r_weight i_weight j_weight k_weight bias",
    "quaternion_linear_rotation_op": "input r_weight i_weight j_weight k_weight bias scale zero_kernel",
    "quaternion_conv_op": "input r_weight i_weight j_weight k_weight bias stride padding groups dilation conv1d",
    "quaternion_conv_rotation_op": (
        "input r_weight i_weight j_weight k_weight bias scale zero_kernel stride padding groups dilation conv1d"
    ),
    "quaternion_init": "in_features out_features kernel_size criterion",
    "unitary_init": "in_features out_features kernel_size criterion",
    "affect_init": "r_weight i_weight j_weight k_weight init_func init_criterion",
    "affect_conv_init": "r_weight i_weight j_weight k_weight kernel_size init_func init_criterion",
    "check_quaternion_input": "input_shape",
    "renorm_quaternion_weights_inplace": "r_weight i_weight j_weight k_weight max_norm",
}


def test_signatures_are_the_librarys() -> None:
    found = {name: " ".join(inspect.signature(getattr(q_ops, name)).parameters) for name in SIGNATURES}
    assert found == SIGNATURES
    assert sorted([*SIGNATURES, "QuaternionLinearCustomBackward"]) == q_ops.__all__
    assert inspect.signature(q_ops.quaternion_init).parameters["criterion"].default == "glorot"
    assert inspect.signature(q_ops.unitary_init).parameters["criterion"].default == "he"
    forward = inspect.signature(q_ops.QuaternionLinearCustomBackward.forward).parameters
    assert " ".join(forward) == f"ctx {SIGNATURES['quaternion_linear_op']}"


def parameters(seed: int, *shape: int, count: int = 4) -> Any:
    source = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=source, dtype=torch.float64)) for _ in range(count)]


def blocks(weights: Sequence[Tensor], across: int) -> Tensor:
    """The Hamilton product as a block matrix, of which `across` is the axis of inputs."""
    r, i, j, k = weights
    table = ((r, -i, -j, -k), (i, r, -k, j), (j, k, r, -i), (k, -j, i, r))
    return torch.cat([torch.cat(list(row), across) for row in table], 1 - across)


def rotations(weights: Sequence[Tensor], norm: Tensor, scale: Tensor | float, across: int) -> Tensor:
    """The rotation matrices of w / norm, times the scale. A row of `table` is joined along `across`."""
    r, i, j, k = (w / norm for w in weights)
    zero = torch.zeros_like(r)
    table = (
        (zero, zero, zero, zero),
        (zero, 1 - 2 * (j * j + k * k), 2 * (i * j - r * k), 2 * (i * k + r * j)),
        (zero, 2 * (i * j + r * k), 1 - 2 * (i * i + k * k), 2 * (j * k - r * i)),
        (zero, 2 * (i * k - r * j), 2 * (j * k + r * i), 1 - 2 * (i * i + j * j)),
    )
    return torch.cat([torch.cat([scale * part for part in row], across) for row in table], 1 - across)


def modulus(weights: Sequence[Tensor], more: float = 0.0) -> Tensor:
    return torch.stack([w.square() for w in weights]).sum(0).add(more).sqrt()


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans(), st.integers(0, 999))
def test_linear(into: int, out: int, flat: bool, learned: bool, seed: int) -> None:
    """Biases that require no gradient are left out, and both forms have the same gradients."""
    weights, x = parameters(seed, into, out), parameters(seed + 1, 5, 4 * into, count=1)[0]
    bias = parameters(seed + 2, 4 * out, count=1)[0].requires_grad_(learned)
    given = x if flat else x.detach()[None].requires_grad_()
    expected = given @ blocks(weights, 0) + (bias if learned else 0)
    found = q_ops.quaternion_linear_op(given, *weights, bias)
    assert relative_error(found.detach(), expected.detach()) < 1e-14
    if flat:
        custom = q_ops.QuaternionLinearCustomBackward.apply(x, *weights, bias)
        assert torch.equal(custom, found)
        ends = [x, *weights, *([bias] if learned else [])]
        direction = torch.randn_like(expected)
        for ours, theirs in zip(*(torch.autograd.grad(y, ends, direction) for y in (custom, expected)), strict=True):
            assert relative_error(ours, theirs) < 1e-13


def test_only_the_gradients_that_are_needed() -> None:
    weights, (x,), (bias,) = parameters(0, 2, 3), parameters(1, 5, 8, count=1), parameters(2, 12, count=1)
    frozen = [weights[0], *(w.detach() for w in weights[1:])]
    y = q_ops.QuaternionLinearCustomBackward.apply(x.detach(), *frozen, bias.detach())
    (found,) = torch.autograd.grad(y.square().sum(), [weights[0]])
    (expected,) = torch.autograd.grad((x.detach() @ blocks(frozen, 0)).square().sum(), [weights[0]])
    assert relative_error(found, expected) < 1e-13


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans(), st.integers(0, 999))
def test_linear_rotation(into: int, out: int, flat: bool, learned: bool, seed: int) -> None:
    weights, (x,), (bias,) = (
        parameters(seed, into, out),
        parameters(1, 5, 4 * into, count=1),
        parameters(2, 4 * out, count=1),
    )
    (scale,) = parameters(seed + 3, into, out, count=1)
    scale.requires_grad_(learned)
    x = x if flat else x[None]
    factor = scale if learned else 1.0
    expected = x @ rotations(weights, modulus(weights) + 1e-4, factor, 1) + bias
    zero = torch.zeros(into, out)
    assert relative_error(q_ops.quaternion_linear_rotation_op(x, *weights, bias, scale, zero), expected) < 1e-13


@settings(max_examples=40)
@given(
    st.booleans(),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 2),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
    st.integers(0, 999),
)
def test_convolutions(
    one: bool, groups: int, stride: int, dilation: int, turned: bool, learned: bool, seed: int
) -> None:
    """Plain and rotating, with groups of real channels, with a bias or without."""
    window = (3,) if one else (3, 2)
    weights = parameters(seed, 2 * groups, 1, *window)
    (x,) = parameters(seed + 1, 2, 4 * groups, *(9,) * len(window), count=1)
    (bias,), (scale,) = parameters(seed + 2, 8 * groups, count=1), parameters(seed + 3, 2 * groups, 1, *window, count=1)
    scale.requires_grad_(learned)
    geometry = (stride, 1, groups, dilation, one)
    if turned:
        kernel = rotations(weights, modulus(weights, 1e-4), scale if learned else 1.0, 1)
        zero = torch.zeros_like(scale)
        found = q_ops.quaternion_conv_rotation_op(x, *weights, bias, scale, zero, *geometry)
    else:
        kernel = blocks(weights, 1)
        found = q_ops.quaternion_conv_op(x, *weights, bias, *geometry)
    convolve = F.conv1d if one else F.conv2d
    expected = convolve(x, kernel, bias, stride, 1, dilation, groups)
    assert found.shape == expected.shape and relative_error(found, expected) < 1e-13


def test_a_window_of_other_axes_is_refused() -> None:
    weights, (x,) = parameters(0, 2, 1, 3), parameters(1, 1, 4, 9, count=1)
    with pytest.raises(ValueError, match=r"with 2 axes of window, got shape \[2, 1, 3\]"):
        q_ops.quaternion_conv_op(x, *weights, parameters(2, 8, count=1)[0], 1, 0, 1, 1, False)


@pytest.mark.parametrize("criterion", ["glorot", "he"])
@pytest.mark.parametrize("window", [None, 3, (2, 3)], ids=str)
def test_initial_numbers_are_drawn_as_in_the_library(window: int | tuple[int, ...] | None, criterion: str) -> None:
    """From one seed: moduli by numpy, then directions and phases one number at a time."""
    into, out = 3, 4
    taps = 1 if window is None else int(np.prod(window))
    shape = (into, out) if window is None else (out, into, *np.atleast_1d(window).tolist())
    torch.manual_seed(5)
    np.random.seed(5)
    f = 2 * (into + out) * taps if criterion == "glorot" else 2 * into * taps
    moduli = np.sqrt(np.random.chisquare(4, shape)) / np.sqrt(f)
    count = int(np.prod(shape))
    drawn = [torch.FloatTensor(count).uniform_(-1, 1) for _ in range(3)]
    for n in range(count):
        length = math.sqrt(sum(float(part[n]) ** 2 for part in drawn)) + 1e-4
        for part in drawn:
            part[n] /= length
    phase = torch.rand(shape).uniform_(-math.pi, math.pi)
    expected = [moduli * np.cos(phase.numpy())]
    expected += [moduli * part.reshape(shape).numpy() * np.sin(phase.numpy()) for part in drawn]
    torch.manual_seed(5)
    for ours, theirs in zip(q_ops.quaternion_init(into, out, window, criterion), expected, strict=True):
        assert ours.shape == shape and relative_error(ours, torch.from_numpy(theirs)) < 1e-6


def test_units_and_their_layers() -> None:
    torch.manual_seed(5)
    units = torch.stack(q_ops.unitary_init(3, 4, (2, 2)))
    assert units.shape == (4, 4, 3, 2, 2)
    torch.manual_seed(5)
    drawn = [torch.FloatTensor(48).uniform_(-1, 1) for _ in range(4)]
    length = torch.stack(drawn).norm(dim=0) + 1e-4
    assert relative_error(units, torch.stack(drawn).div(length).reshape(units.shape)) < 1e-6
    linear, conv = parameters(0, 3, 4), parameters(0, 4, 3, 2, 2)
    torch.manual_seed(5)
    q_ops.affect_conv_init(*conv, (2, 2), q_ops.unitary_init, "he")
    assert torch.equal(torch.stack([w.detach().float() for w in conv]), units)
    torch.manual_seed(6)
    q_ops.affect_init(*linear, q_ops.quaternion_init, "he")
    torch.manual_seed(6)
    assert torch.equal(torch.stack([w.detach() for w in linear]), torch.stack(q_ops.quaternion_init(3, 4, None, "he")))
    assert all(w.requires_grad and w.dtype is torch.float64 for w in linear)


def test_shapes_are_checked() -> None:
    for shape in ((8,), (2, 8), (2, 3, 4)):
        q_ops.check_quaternion_input(shape)
    with pytest.raises(ValueError, match=r"1 to 3 axes, got \[1, 2, 3, 4\]"):
        q_ops.check_quaternion_input((1, 2, 3, 4))
    with pytest.raises(ValueError, match="multiple of 4"):
        q_ops.check_quaternion_input((2, 6))


@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 3), (4, 2, 3, 3)], ids=str)
def test_renorm(shape: tuple[int, ...]) -> None:
    weights = parameters(1, *shape)
    before = [w.detach().clone() for w in weights]
    size = modulus(before)
    expected = torch.renorm(size, 2, 0, 0.5) / size
    q_ops.renorm_quaternion_weights_inplace(*weights, 0.5)
    for now, was in zip(weights, before, strict=True):
        assert relative_error(now.detach(), was * expected) < 1e-12
    zeros = parameters(2, *shape)
    with torch.no_grad():
        for w in zeros:
            w[0] = 0
    q_ops.renorm_quaternion_weights_inplace(*zeros, 0.5)
    assert all(bool((w[0] == 0).all()) for w in zeros)
