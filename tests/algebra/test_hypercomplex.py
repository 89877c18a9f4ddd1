"""Hypercomplex algebras: their laws in float64, the block weights made of them, and the layers over any of them."""

import copy
import pickle

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from fusekit import nn as fnn
from fusekit.algebra import (
    COMPLEX,
    DUAL,
    DUAL_QUATERNION,
    OCTONION,
    QUATERNION,
    REAL,
    SPLIT_COMPLEX,
    SPLIT_QUATERNION,
    HypercomplexAlgebra,
)
from fusekit.algebra.products.hypercomplex import block_kernel
from fusekit.nn import functional as F
from fusekit.testing.strategies import relative_error
from tests.support.quaternion_reference import drawn

clifford = HypercomplexAlgebra.clifford
MATRICES = HypercomplexAlgebra(  # 2x2 matrices on the units E11, E12, E21, E22
    "matrices",
    torch.einsum("ax,bc,dy->abcdxy", *[torch.eye(2)] * 3).reshape(4, 4, 4),
    torch.tensor([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]]),
)
ASSOCIATIVE = (
    *(REAL, COMPLEX, SPLIT_COMPLEX, DUAL, QUATERNION, SPLIT_QUATERNION, DUAL_QUATERNION, MATRICES),
    *(clifford(2), clifford(0, 3), clifford(1, 1, 1), clifford(3, 0, 1)),
    *(QUATERNION.tensor(COMPLEX), SPLIT_COMPLEX.tensor(DUAL), QUATERNION.tensor(QUATERNION)),
)
ALL = (*ASSOCIATIVE, OCTONION, QUATERNION.doubled(1), OCTONION.tensor(DUAL))
COMMUTATIVE = ("real", "complex", "split-complex", "dual", "split-complex ⊗ dual")
algebras = st.sampled_from(ALL)


@given(st.sampled_from(ASSOCIATIVE), st.data())
@settings(max_examples=60)
def test_regular_representations(algebra: HypercomplexAlgebra, data: st.DataObject) -> None:
    """L(ab) = L(a) L(b), R(ab) = R(b) R(a), and the two commute."""
    a, b = (drawn(data, 2, algebra.n) for _ in range(2))
    ab = algebra.product(a, b)
    assert relative_error(algebra.left(ab), algebra.left(a) @ algebra.left(b)) < 1e-14
    assert relative_error(algebra.right(ab), algebra.right(b) @ algebra.right(a)) < 1e-14
    assert relative_error(algebra.left(a) @ algebra.right(b), algebra.right(b) @ algebra.left(a)) < 1e-14


@given(algebras, st.data())
@settings(max_examples=60)
def test_products_and_conjugates(algebra: HypercomplexAlgebra, data: st.DataObject) -> None:
    """L(a) b = a b = R(b) a, bilinear; (ab)* = b* a*; a** = a."""
    a, b, c = (drawn(data, 3, algebra.n) for _ in range(3))
    plain = torch.einsum("ni,nj,ijk->nk", a, b, algebra.constants)
    assert relative_error(algebra.product(a, b), plain) < 1e-14
    assert relative_error((algebra.right(b) @ a.unsqueeze(-1)).squeeze(-1), plain) < 1e-14
    assert relative_error(algebra.product(a, b + 2 * c), plain + 2 * algebra.product(a, c)) < 1e-13
    star = algebra.conjugate
    assert relative_error(star(plain), algebra.product(star(b), star(a))) < 1e-14
    assert relative_error(star(star(a)), a) < 1e-15


@pytest.mark.parametrize("algebra", ALL, ids=repr)
def test_predicates_and_unit(algebra: HypercomplexAlgebra) -> None:
    assert algebra.is_associative() == (algebra in ASSOCIATIVE)
    assert algebra.is_commutative() == (algebra.name in COMMUTATIVE)
    e = algebra.unit()
    assert relative_error(algebra.left(e), torch.eye(algebra.n, dtype=torch.float64)) < 1e-12
    assert relative_error(algebra.right(e), torch.eye(algebra.n, dtype=torch.float64)) < 1e-12


def test_octonions_are_alternative_and_no_more() -> None:
    """Their left regular representation is no homomorphism: the maps compose, the numbers do not."""
    assert OCTONION.is_alternative() and not OCTONION.is_associative()
    a, b = torch.randn(2, 8, dtype=torch.float64)
    assert relative_error(OCTONION.left(OCTONION.product(a, b)), OCTONION.left(a) @ OCTONION.left(b)) > 0.1
    norm = torch.linalg.vector_norm
    assert float(norm(OCTONION.product(a, b)) / (norm(a) * norm(b))) == pytest.approx(1, abs=1e-14)
    assert not OCTONION.doubled().is_alternative()  # sedenions


def test_constructions_agree() -> None:
    """Clifford algebras, Cayley-Dickson and tensor products give the same structure constants."""
    pairs = (
        (clifford(0, 1), COMPLEX),
        (clifford(1), SPLIT_COMPLEX),
        (clifford(0, 0, 1), DUAL),
        (clifford(0, 2), QUATERNION),
        (DUAL.tensor(QUATERNION), DUAL_QUATERNION),
        (REAL.tensor(OCTONION), OCTONION),
    )
    for one, other in pairs:
        assert torch.equal(one.constants, other.constants), (one, other)
    ours, theirs = clifford(0, 2).conjugation, QUATERNION.conjugation
    assert ours is not None and theirs is not None and torch.equal(ours, theirs)


def test_multiplication_tables() -> None:
    assert QUATERNION.table("1ijk").split("\n") == [
        "· 1  i  j  k",
        "1 1  i  j  k",
        "i i -1  k -j",
        "j j -k -1  i",
        "k k  j -i -1",
    ]
    assert DUAL.table().split("\n")[-1].split() == ["e1", "e1", "0"]
    assert repr(clifford(1, 2)) == "HypercomplexAlgebra(Cl(1, 2, 0), n=8)"
    halves = HypercomplexAlgebra("halves", torch.full((2, 2, 2), 0.5))
    assert "0.5 1 + 0.5 e1" in halves.table()


def test_dual_quaternions_move_space() -> None:
    """q v q* with the conjugation of the quaternion parts, v = 1 + ε x, of a rotation by 90° about k and a shift."""
    root = 0.5**0.5
    turn = torch.tensor([root, 0, 0, root, 0, 0, 0, 0], dtype=torch.float64)
    shift = torch.tensor([1, 0, 0, 0, 0, 0.5, 1, 1.5], dtype=torch.float64)  # 1 + ε t / 2
    point = torch.tensor([1, 0, 0, 0, 0, 1, 0, 0], dtype=torch.float64)
    product, star = DUAL_QUATERNION.product, DUAL_QUATERNION.conjugate
    motion = product(shift, turn)
    dual = torch.tensor([1.0] * 4 + [-1.0] * 4, dtype=torch.float64)
    moved = product(product(motion, point), star(motion) * dual)
    assert torch.allclose(moved, torch.tensor([1, 0, 0, 0, 0, 1, 3, 3], dtype=torch.float64))


def test_errors_name_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"expected structure constants of shape \[n, n, n\], got \[2, 2, 3\]"):
        HypercomplexAlgebra("bad", torch.ones(2, 2, 3))
    with pytest.raises(ValueError, match=r"conjugation of shape \[1, 1\], got \[2, 2\]"):
        HypercomplexAlgebra("bad", torch.ones(1, 1, 1), torch.eye(2))
    with pytest.raises(ValueError, match=r"element of quaternion is a tensor \[\*, 4\], got shape \[2, 3\]"):
        QUATERNION.product(torch.ones(2, 3), torch.ones(2, 4))
    bare = HypercomplexAlgebra("bare", COMPLEX.constants)
    with pytest.raises(ValueError, match="bare has no conjugation"):
        bare.conjugate(torch.ones(2))
    with pytest.raises(ValueError, match="bare has no conjugation, which doubling needs"):
        bare.doubled()
    with pytest.raises(ValueError, match="nothing has no unit"):
        HypercomplexAlgebra("nothing", torch.zeros(2, 2, 2)).unit()
    with pytest.raises(ValueError, match="numbers of generators, got p = -1"):
        clifford(-1)
    with pytest.raises(ValueError, match="out_features: expected a positive multiple of 8, .* got 12"):
        fnn.HypercomplexLinear(8, 12, OCTONION)
    with pytest.raises(ValueError, match="in_channels: expected a multiple of 2 times groups = 2, got 6"):
        fnn.HypercomplexConv1d(6, 8, 3, COMPLEX, groups=2)
    with pytest.raises(ValueError, match="positive number of units, got 0"):
        fnn.HypercomplexLinear(8, 8, 0)


def by_numbers(algebra: HypercomplexAlgebra, w: Tensor, x: Tensor) -> Tensor:
    """y_o = Σ_i w_oi x_i, product by product, from w [n, out, in] and x [*, n in]."""
    numbers = x.unflatten(-1, (algebra.n, -1)).transpose(-1, -2)  # [*, in, n]
    products = algebra.product(w.movedim(0, -1), numbers.unsqueeze(-3))  # [*, out, in, n]
    return products.sum(-2).transpose(-1, -2).flatten(-2)


@given(algebras, st.data())
@settings(max_examples=50)
def test_linear_is_a_sum_of_products(algebra: HypercomplexAlgebra, data: st.DataObject) -> None:
    outs, ins = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    w, x = drawn(data, algebra.n, outs, ins), drawn(data, data.draw(st.integers(0, 2)), algebra.n * ins)
    bias = drawn(data, algebra.n * outs)
    ours = F.hypercomplex_linear(x, algebra.constants, w, bias)
    assert relative_error(ours, by_numbers(algebra, w, x) + bias) < 1e-13


@given(algebras, st.booleans(), st.data())
@settings(max_examples=60)
def test_convolutions_are_sums_of_products(algebra: HypercomplexAlgebra, transposed: bool, data: st.DataObject) -> None:
    """Group by group and tap by tap; the transposed one against its definition, tap by tap as well."""
    n, groups, k = algebra.n, data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    first, second = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    w = drawn(data, n, groups * first, second, k)
    ins = (first if transposed else second) * groups
    outs = (second if transposed else first) * groups
    x = drawn(data, 2, n * ins, 4)
    bias = drawn(data, n * outs)
    function = F.hypercomplex_conv_transpose if transposed else F.hypercomplex_conv
    ours = function(x, algebra.constants, w, bias, groups=groups)
    steps = 4 + k - 1 if transposed else 4 - k + 1
    wanted = torch.zeros(2, n, groups, outs // groups, steps, dtype=torch.float64)
    for g in range(groups):
        own = w[:, g * first : (g + 1) * first]
        given_x = x.unflatten(1, (n, groups, -1))[:, :, g].flatten(1, 2)  # the numbers of group g
        for at in range(4):
            for tap in range(k):
                t = at + tap if transposed else at - tap
                if 0 <= t < steps:
                    weight = own[..., tap].mT if transposed else own[..., tap]
                    wanted[:, :, g, :, t] += by_numbers(algebra, weight, given_x[..., at]).unflatten(1, (n, -1))
    assert relative_error(ours, wanted.flatten(1, 3) + bias[:, None]) < 1e-13


def test_parameterised_is_a_sum_of_kronecker_products() -> None:
    """Σ A_i ⊗ F_i, Zhang et al. 2021, equation (3)."""
    matrices, w = torch.randn(3, 3, 3, dtype=torch.float64), torch.randn(3, 4, 2, dtype=torch.float64)
    algebra = HypercomplexAlgebra.from_matrices(matrices)
    wanted = torch.stack([torch.kron(a, f) for a, f in zip(matrices, w, strict=True)]).sum(0)
    assert relative_error(algebra.block(w), wanted) < 1e-14
    assert torch.equal(algebra.left(torch.eye(3, dtype=torch.float64)), matrices)


LAYERS = (
    (lambda **o: fnn.HypercomplexLinear(8, 4, QUATERNION, **o), (2, 8)),
    (lambda **o: fnn.HypercomplexLinear(6, 3, 3, **o), (2, 6)),
    (lambda **o: fnn.HypercomplexLinear(4, 4, SPLIT_COMPLEX, learned=True, **o), (2, 4)),
    (lambda **o: fnn.HypercomplexConv1d(4, 4, 3, DUAL, 2, 1, groups=2, **o), (2, 4, 6)),
    (lambda **o: fnn.HypercomplexConv2d(3, 6, 2, 3, padding="same", padding_mode="circular", **o), (1, 3, 3, 4)),
    (lambda **o: fnn.HypercomplexConv3d(2, 2, 2, COMPLEX, **o), (1, 2, 2, 3, 3)),
    (lambda **o: fnn.HypercomplexConvTranspose1d(4, 8, 3, QUATERNION, 2, 1, 1, **o), (2, 4, 4)),
    (lambda **o: fnn.HypercomplexConvTranspose2d(4, 4, 2, 2, groups=2, **o), (1, 4, 2, 3)),
    (lambda **o: fnn.HypercomplexConvTranspose3d(2, 2, 2, COMPLEX, dilation=2, **o), (1, 2, 2, 2, 2)),
)


@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_layers_train_copy_and_travel(number: int) -> None:
    make, shape = LAYERS[number]
    layer = make(dtype=torch.float64)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]
    assert ("constants" in names) == ("learned" in repr(layer) or "units" in repr(layer))

    def of(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(of, (x, *layer.parameters()))
    y = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), y)
    fresh = make(dtype=torch.float64)
    assert not torch.equal(fresh(x), y)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x), y)
    assert layer.to(torch.float32)(x.float()).dtype == torch.float32
    assert layer(x.float()[:0]).shape == (0, *y.shape[1:])
    assert torch.allclose(layer(x.float()[0]), layer(x.float())[0], atol=1e-6)


def test_initial_variance_is_glorots() -> None:
    """Var of the real weight's entries 2 / (fan_in + fan_out) for algebras with zeros in their tables, and learned."""
    generator = torch.Generator().manual_seed(0)
    for algebra in (QUATERNION, DUAL, DUAL_QUATERNION, OCTONION):
        layer = fnn.HypercomplexConv2d(algebra.n * 24, algebra.n * 16, 3, algebra)
        layer.reset_parameters(generator)
        entries = layer.real_weight().detach()
        assert float(entries.square().mean()) * algebra.n * 20 * 9 == pytest.approx(1, rel=0.05)
    total = 0.0
    for _ in range(60):
        layer = fnn.HypercomplexConv2d(4 * 6, 4 * 4, 3, 4)
        layer.reset_parameters(generator)
        total += float(layer.real_weight().detach().square().mean()) * 4 * 5 * 9
    assert total / 60 == pytest.approx(1, rel=0.1)


def test_learned_constants_find_an_algebra() -> None:
    """From data of a complex linear map a layer of 2 learned units finds the map, which no diagonal pair would."""
    torch.manual_seed(0)
    truth = fnn.HypercomplexLinear(4, 4, COMPLEX, dtype=torch.float64)
    layer = fnn.HypercomplexLinear(4, 4, 2, dtype=torch.float64)
    x = torch.randn(64, 4, dtype=torch.float64)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    wanted = truth(x).detach()
    for _ in range(400):
        loss = nn.functional.mse_loss(layer(x), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-6


def test_block_kernel_keeps_dtype_and_bits() -> None:
    """0 and ±1 times a weight, in the weight's own dtype: nothing is rounded."""
    w = torch.randn(4, 2, 3, dtype=torch.bfloat16)
    block = block_kernel(QUATERNION.constants.to(w), w)
    assert block.dtype == torch.bfloat16
    assert torch.equal(block, F.hamilton_kernel(w))
