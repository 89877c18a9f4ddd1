"""Quaternion functions against Hamilton products written out, and the laws that make them what they are."""

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as plain
from hypothesis import given, settings
from torch import Tensor

from fusekit.nn import functional as F
from fusekit.nn.functional.quaternion.rotation import unit_weight
from fusekit.testing.strategies import relative_error
from tests.support import quaternion_reference as reference
from tests.support.quaternion_reference import drawn

CONV = (plain.conv1d, plain.conv2d, plain.conv3d)


@given(st.data())
@settings(max_examples=60)
def test_products_are_hamiltons(data: st.DataObject) -> None:
    """a ⊗ b, |ab| = |a||b|, (ab)* = b* a*, a a* = |a|², on any axis."""
    count, dim = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([0, 1, -1, -3]))
    a, b = (drawn(data, 2, 3, 4 * count).movedim(-1, dim) for _ in range(2))
    ab = F.hamilton_product(a, b, dim)
    wanted = reference.blocks(reference.hamilton(*(reference.numbers(v.movedim(dim, -1)) for v in (a, b))))
    assert relative_error(ab.movedim(dim, -1), wanted) < 1e-14
    modulus, star = F.quaternion_modulus, F.quaternion_conjugate
    assert relative_error(modulus(ab, dim), modulus(a, dim) * modulus(b, dim)) < 1e-13
    assert relative_error(star(ab, dim), F.hamilton_product(star(b, dim), star(a, dim), dim)) < 1e-14
    square = F.hamilton_product(a, star(a, dim), dim).chunk(4, dim)
    assert relative_error(square[0], modulus(a, dim).square()) < 1e-13
    assert all(float(part.abs().max()) < 1e-13 for part in square[1:])
    assert float((modulus(F.quaternion_normalize(a, dim), dim) - 1).abs().max()) < 1e-14


def test_zero_stays_zero_when_normalized() -> None:
    assert torch.equal(F.quaternion_normalize(torch.zeros(8)), torch.zeros(8))


@given(st.data())
@settings(max_examples=50)
def test_linear(data: st.DataObject) -> None:
    outs, ins, batch = (data.draw(st.integers(low, 3)) for low in (1, 1, 0))
    w, x, b = (drawn(data, *shape) for shape in ((4, outs, ins), (batch, 2, 4 * ins), (4 * outs,)))
    wanted = reference.linear(x, w) + b
    assert relative_error(F.quaternion_linear(x, w, b), wanted) < 1e-13
    assert torch.equal(F.quaternion_linear_lean(x, w, b), F.quaternion_linear(x, w, b))


@given(st.integers(1, 3), st.booleans(), st.data())
@settings(max_examples=60)
def test_convolution_is_a_product_at_each_tap(n: int, rotates: bool, data: st.DataObject) -> None:
    """Groups of quaternions, strides, dilations and pads, as one real convolution."""
    groups, outs, ins = (data.draw(st.integers(1, 2)) for _ in range(3))
    window = tuple(data.draw(st.integers(1, 3)) for _ in range(n))
    stride, padding, dilation = (data.draw(st.integers(low, 2)) for low in (1, 0, 1))
    w = drawn(data, 4, groups * outs, ins, *window)
    x = drawn(data, 1, 4 * groups * ins, *(5,) * n)
    function = F.quaternion_rotation_conv if rotates else F.quaternion_conv
    ours = function(x, w, None, stride=stride, padding=padding, dilation=dilation, groups=groups)
    taps = torch.zeros_like(ours)
    for tap in torch.cartesian_prod(*[torch.arange(k) for k in window]).reshape(-1, n).tolist():
        # the value each window has under this tap, by a real convolution with a single one
        one = torch.zeros(1, 1, *window, dtype=torch.float64)
        one[(0, 0, *tap)] = 1
        seen = CONV[n - 1](x.flatten(0, 1).unsqueeze(1), one, None, stride, padding, dilation)
        seen = seen.reshape(4, groups, ins, -1).permute(3, 1, 0, 2)  # [position, group, 4, in]
        at_tap = w[(..., *tap)]
        product = reference.rotation if rotates else reference.linear
        for g in range(groups):
            y = product(seen[:, g].flatten(1), at_tap[:, g * outs : (g + 1) * outs])  # [position, 4 out]
            own = y.mT.unflatten(0, (4, outs)).reshape(4, outs, *ours.shape[2:])
            taps.unflatten(1, (4, groups, outs))[0, :, g] += own
    assert relative_error(ours, taps) < 1e-12


@given(st.integers(1, 3), st.data())
@settings(max_examples=40)
def test_transposed_convolutions(n: int, data: st.DataObject) -> None:
    """With `conjugate` the adjoint of the convolution, ⟨W x, y⟩ = ⟨x, W' y⟩; without, that of the conjugate weight."""
    groups, outs, ins = (data.draw(st.integers(1, 2)) for _ in range(3))
    window = tuple(data.draw(st.integers(1, 3)) for _ in range(n))
    stride, dilation = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    padding = data.draw(st.integers(0, 1))
    w = drawn(data, 4, groups * outs, ins, *window)
    reach = max(dilation * (k - 1) for k in window)
    x = drawn(data, 1, 4 * groups * ins, *(reach + 4,) * n)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    forward = F.quaternion_conv(x, w, **geometry)  # type: ignore[arg-type]
    y = torch.randn(forward.shape, dtype=torch.float64)
    # the sizes of x that its stride does not reach come back as output padding
    rest = [
        size + 2 * padding - dilation * (k - 1) - 1 - stride * (out - 1)
        for size, k, out in zip(x.shape[2:], window, forward.shape[2:], strict=True)
    ]
    back = F.quaternion_conv_transpose(y, w, None, output_padding=rest, conjugate=True, **geometry)
    assert float((forward * y).sum()) == pytest.approx(float((x * back).sum()), rel=1e-9, abs=1e-9)
    star = w * torch.tensor([1, -1, -1, -1], dtype=w.dtype).reshape(4, *(1,) * (n + 2))
    other = F.quaternion_conv_transpose(y, star, None, output_padding=rest, **geometry)  # type: ignore[arg-type]
    assert relative_error(other, back) < 1e-13


def test_transposed_pointwise_is_the_linear_map() -> None:
    """w ⊗ x, not w* ⊗ x: a window of one tap says which."""
    w, x = torch.randn(4, 3, 2, 1, dtype=torch.float64), torch.randn(2, 12, 5, dtype=torch.float64)
    wanted = reference.linear(x.mT, w[..., 0].mT).mT
    assert relative_error(F.quaternion_conv_transpose(x, w), wanted) < 1e-14


@given(st.data())
@settings(max_examples=50)
def test_rotation_turns_and_keeps_norms(data: st.DataObject) -> None:
    """R(q) v = q v q*; R(pq) = R(p) R(q); norms of vectors stay; the inverse turns back; real parts are dropped."""
    w, v = drawn(data, 4, 1, 1), drawn(data, 5, 4)
    p = drawn(data, 4, 1, 1)
    turned = F.quaternion_rotation_linear(v, w)
    assert relative_error(turned, reference.rotation(v, w)) < 1e-13
    assert torch.equal(turned[:, 0], torch.zeros(5, dtype=torch.float64))
    norm = torch.linalg.vector_norm
    assert relative_error(norm(turned, dim=1), norm(v[:, 1:], dim=1)) < 1e-13
    back = F.quaternion_rotation_linear(turned, w, inverse=True)
    assert relative_error(back[:, 1:], v[:, 1:]) < 1e-13
    both = F.hamilton_product(p, w, 0)
    in_turn = F.quaternion_rotation_linear(turned, p)
    assert relative_error(F.quaternion_rotation_linear(v, both), in_turn) < 1e-13


def test_rotation_scale_bias_and_zero_weight() -> None:
    w, x = torch.randn(4, 2, 3, dtype=torch.float64), torch.randn(5, 12, dtype=torch.float64)
    scale, bias = torch.randn(2, 3, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    one_by_one = torch.stack(
        [F.quaternion_rotation_linear(x.unflatten(1, (4, 3))[..., i], w[:, :, i : i + 1]) for i in range(3)], -1
    )
    wanted = (one_by_one * scale.repeat(4, 1)).sum(-1) + bias
    assert relative_error(F.quaternion_rotation_linear(x, w, bias, scale), wanted) < 1e-13
    still = F.quaternion_rotation_linear(x, torch.zeros(4, 3, 3, dtype=torch.float64))
    assert bool(still.isfinite().all())
    nothing = torch.zeros(4, 1, 1, dtype=torch.float64, requires_grad=True)
    F.quaternion_rotation_linear(x[:, :4], nothing).sum().backward()
    assert nothing.grad is not None and bool(nothing.grad.isfinite().all())


def test_norms_of_rotation_weights() -> None:
    """The two ways speechbrain has leave |q| < 1, by 1e-4 / |w|; the exact one does not."""
    w = torch.randn(4, 30, dtype=torch.float64)
    size = torch.linalg.vector_norm(w, dim=0)
    lengths = {norm: torch.linalg.vector_norm(unit_weight(w, norm), dim=0) for norm in ("exact", "shifted", "softened")}
    assert relative_error(lengths["exact"], torch.ones_like(size)) < 1e-15
    assert relative_error(lengths["shifted"], size / (size + 1e-4)) < 1e-15
    assert relative_error(lengths["softened"], size / (size.square() + 1e-4).sqrt()) < 1e-15
    with pytest.raises(ValueError, match="norm must be 'exact', 'shifted' or 'softened', got 'l2'"):
        unit_weight(w, "l2")  # type: ignore[arg-type]


@given(st.booleans(), st.data())
@settings(max_examples=30)
def test_lean_backward_is_autograd(bias: bool, data: st.DataObject) -> None:
    """The same gradients of x, w, b, in any number of leading axes."""
    lead = tuple(data.draw(st.integers(0, 3)) for _ in range(data.draw(st.integers(0, 2))))
    outs, ins = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    values = [drawn(data, *lead, 4 * ins), drawn(data, 4, outs, ins)]
    values += [drawn(data, 4 * outs)] if bias else []
    grads = []
    for function in (F.quaternion_linear, F.quaternion_linear_lean):
        leaves = [value.clone().requires_grad_() for value in values]
        function(*leaves).pow(3).sum().backward()
        grads.append([leaf.grad for leaf in leaves])
    for ours, theirs in zip(*grads, strict=True):
        assert ours is not None and theirs is not None
        assert relative_error(ours, theirs) < 1e-13


def test_lean_backward_twice_partly_and_under_vmap() -> None:
    x, w, b = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((3, 8), (4, 2, 2), (8,)))
    assert torch.autograd.gradcheck(F.quaternion_linear_lean, (x, w, b))
    assert torch.autograd.gradgradcheck(F.quaternion_linear_lean, (x, w, b))
    frozen = F.quaternion_linear_lean(x, w.detach(), b.detach())
    assert torch.equal(
        torch.autograd.grad(frozen.sum(), x)[0], torch.autograd.grad(F.quaternion_linear(x, w, b).sum(), x)[0]
    )
    mapped = torch.vmap(F.quaternion_linear_lean, (0, None, None))(x, w, b).detach()
    assert relative_error(mapped, F.quaternion_linear(x, w, b).detach()) < 1e-14


def test_lean_keeps_a_quarter() -> None:
    """What waits for the backward pass, besides x: the components, which are the parameters, and no block matrix."""

    def kept(function: object, x: Tensor, w: Tensor) -> int:
        found: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            if tensor.untyped_storage().data_ptr() not in (
                x.untyped_storage().data_ptr(),
                w.untyped_storage().data_ptr(),
            ):
                found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            y = function(x, w)  # type: ignore[operator]
        del y
        return sum(found.values())

    x, w = torch.randn(2, 32, requires_grad=True), torch.randn(4, 8, 8, requires_grad=True)
    assert kept(F.quaternion_linear_lean, x, w) == 0
    assert kept(F.quaternion_linear, x, w) >= 4 * w.numel() * 4


def test_frozen_weights_compute_the_same() -> None:
    """Whether something trains is no part of a formula: speechbrain's drops the bias and the scale once frozen."""
    x, w = torch.randn(3, 8), torch.randn(4, 2, 2)
    b, s = torch.randn(8), torch.randn(2, 2)
    for function, values in (
        (F.quaternion_linear, (w, b)),
        (F.quaternion_linear_lean, (w, b)),
        (F.quaternion_rotation_linear, (w, b, s)),
    ):
        thawed = function(x, *(v.clone().requires_grad_() for v in values))
        assert torch.equal(function(x, *values), thawed.detach())
        assert not torch.allclose(function(x, w), thawed.detach())


def test_groups_of_channels_are_torchs() -> None:
    """What speechbrain and Orkis compute: torch's own groups of the real kernel, which mix components."""
    x, w = torch.randn(2, 16, 5, dtype=torch.float64), torch.randn(4, 4, 2, 3, dtype=torch.float64)
    kernel = F.hamilton_kernel(w)
    mixed = F.quaternion_conv(x, w, groups=2, groups_of="channels")
    assert torch.equal(mixed, plain.conv1d(x, kernel, groups=2))
    assert relative_error(F.quaternion_conv(x, w, groups=2), mixed) > 0.1
    with pytest.raises(ValueError, match="groups_of must be 'quaternions' or 'channels', got 'x'"):
        F.quaternion_conv(x, w, groups=2, groups_of="x")  # type: ignore[arg-type]


@given(st.integers(0, 2), st.data())
@settings(max_examples=30)
def test_renorm(dim: int, data: st.DataObject) -> None:
    """torch.renorm of the moduli, one factor for the four components; zero slices stay, nothing is written."""
    w = drawn(data, 4, 3, 2, 2)
    w.select(dim + 1, 0).zero_()
    before = w.clone()
    bound = data.draw(st.sampled_from([0.1, 1.0, 50.0]))
    moduli = torch.linalg.vector_norm(w, dim=0)
    ours = F.quaternion_renorm(w, bound, dim)
    assert torch.equal(w, before)
    assert relative_error(torch.linalg.vector_norm(ours, dim=0), torch.renorm(moduli, 2, dim, bound)) < 1e-14
    cosine = plain.cosine_similarity(ours, w, dim=0)[moduli > 0]
    assert relative_error(cosine, torch.ones_like(cosine)) < 1e-14
    assert relative_error(F.quaternion_renorm(ours, bound, dim), ours) < 1e-6
    assert F.quaternion_renorm_(w, bound, dim) is w and torch.equal(w, ours)


def test_renorm_trains_and_refuses() -> None:
    w = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: F.quaternion_renorm(w, 0.7), (w,))
    assert F.quaternion_renorm_(w, 0.7).requires_grad
    with pytest.raises(ValueError, match=r"expected a positive max_norm, got 0"):
        F.quaternion_renorm(w, 0)


def test_shape_check() -> None:
    assert F.check_quaternion_shape((2, 12)) == 3
    assert F.check_quaternion_shape((8, 5, 5), 0) == 2
    with pytest.raises(ValueError, match=r"axis -1 of a tensor of shape \[2, 6\]: expected a multiple of 4 .* got 6"):
        F.check_quaternion_shape((2, 6))
    with pytest.raises(ValueError, match=r"expected a shape with an axis 2, got \[4, 4\]"):
        F.check_quaternion_shape((4, 4), 2)
    with pytest.raises(ValueError, match="expected a multiple of 4"):
        F.hamilton_product(torch.ones(6), torch.ones(8))
