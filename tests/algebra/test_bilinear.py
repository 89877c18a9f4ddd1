"""Bilinear algorithms: each computes its product, the instances over the integers, and short ones are found."""

from collections.abc import Callable
from fractions import Fraction

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

from fusekit.algebra import COMPLEX, OCTONION, QUATERNION, SPLIT_QUATERNION, HypercomplexAlgebra
from fusekit.algebra.products.bilinear import GAUSS, HAMILTON, KNOWN, STRASSEN, Bilinear, known, product_tensor
from fusekit.algebra.products.polyadic import algorithm, decompose
from fusekit.algebra.products.toom_cook import POINTS, toom_cook, winograd
from fusekit.testing.strategies import gaussian, gaussians, relative_error


@st.composite
def algorithms(draw: st.DrawFn) -> Bilinear:
    """Any matrices: each is an algorithm for some product."""
    products, w, x, y = (draw(st.integers(1, 4)) for _ in range(4))
    return Bilinear(gaussian(draw, products, w), gaussian(draw, products, x), gaussian(draw, y, products))


def product_of(tensor: Tensor, w: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("owx,w,x->o", tensor, w, x)


def filter_tensor(m: int, r: int) -> Tensor:
    """y_i = Σ_j w_j x_{i+j}."""
    tensor = torch.zeros(m, r, m + r - 1, dtype=torch.float64)
    for i in range(m):
        for j in range(r):
            tensor[i, j, i + j] = 1
    return tensor


# --- laws --------------------------------------------------------------------------------------------------------


@given(st.data())
def test_the_product_is_that_of_its_tensor(data: st.DataObject) -> None:
    b = data.draw(algorithms())
    w, x = data.draw(gaussians(b.a.shape[1])), data.draw(gaussians(b.b.shape[1]))
    assert relative_error(b(w, x), product_of(b.tensor, w, x)) <= 1e-12


LAWS: dict[str, Callable[[Bilinear], tuple[Bilinear, Tensor]]] = {
    "swapped": lambda b: (b.swapped(), b.tensor.transpose(1, 2)),
    "transposed": lambda b: (b.transposed(), b.tensor.permute(2, 1, 0)),
    "twice transposed": lambda b: (b.transposed().transposed(), b.tensor),
    "balanced": lambda b: (b.balanced(), b.tensor),
    "direct": lambda b: (Bilinear.direct(b.tensor), b.tensor),
}


@pytest.mark.parametrize("name", LAWS)
@given(st.data())
def test_laws(name: str, data: st.DataObject) -> None:
    drawn = data.draw(algorithms())
    made, tensor = LAWS[name](drawn)
    assert made.computes(tensor)
    assert made.rank == (drawn.a.shape[1] * drawn.b.shape[1] if name == "direct" else drawn.rank)


@given(st.data())
def test_one_in_the_other(data: st.DataObject) -> None:
    """T ⊗ T', in as many products as both have together."""
    outer, inner = data.draw(algorithms()), data.draw(algorithms())
    both = outer.kron(inner)
    shape = [a * b for a, b in zip(outer.tensor.shape, inner.tensor.shape, strict=True)]
    assert both.computes(torch.einsum("owx,pvz->opwvxz", outer.tensor, inner.tensor).reshape(shape))
    assert both.rank == outer.rank * inner.rank
    assert both.stability == pytest.approx(outer.stability * inner.stability)


@given(st.data())
def test_of_other_variables(data: st.DataObject) -> None:
    b = data.draw(algorithms())
    w, x = data.draw(gaussians(b.a.shape[1], 3)), data.draw(gaussians(b.b.shape[1], 2))
    y = data.draw(gaussians(3, len(b.c)))
    changed = torch.einsum("po,owx,wv,xz->pvz", y, b.tensor, w, x)
    assert b.of(w=w, x=x, y=y).computes(changed) and b.of().computes(b.tensor)


@given(st.data())
def test_products_of_zero_are_left_out(data: st.DataObject) -> None:
    b = data.draw(algorithms())
    keep = torch.rand(b.rank, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99)))) < 0.5
    assume(bool(keep.any()))
    which = data.draw(st.integers(0, 2))
    masked = [b.a, b.b, b.c.mT]
    masked[which] = masked[which] * keep[:, None]
    sparse = Bilinear(masked[0], masked[1], masked[2].mT)
    assert sparse.without_zeros().rank == int(keep.sum()) and sparse.without_zeros().computes(sparse.tensor)


@given(st.data())
def test_rounding_stays_below_its_bound(data: st.DataObject) -> None:
    """Of factors of at most one, by stability units of rounding and a few for the sums."""
    b = data.draw(st.sampled_from([algorithm for _, _, algorithm in KNOWN]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
    w, x = (torch.rand(size, generator=generator) * 2 - 1 for size in (b.a.shape[1], b.b.shape[1]))
    error = (b(w, x).double() - product_of(b.tensor, w.double(), x.double())).abs().max()
    assert float(error) <= 16 * b.stability * torch.finfo(torch.float32).eps


# --- instances ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "tensor", "given_"), KNOWN, ids=[f"{name} {i}" for i, (name, *_) in enumerate(KNOWN)])
def test_instances_are_exact_over_the_rationals(name: str, tensor: Tensor, given_: Bilinear) -> None:
    """Their entries are multiples of a quarter, so float64 computes without rounding."""
    for matrix in (given_.a, given_.b, given_.c):
        assert torch.equal(matrix * 4, (matrix * 4).round())
    assert torch.equal(given_.tensor, tensor) and given_.computes(tensor) and known(tensor) is given_


def test_how_many_products_and_how_stable() -> None:
    counts = {name: algorithm.rank for name, _, algorithm in KNOWN}
    assert counts == {
        "complex": 3,
        "split-complex": 2,
        "dual": 3,
        "quaternion": 8,
        "split-quaternion": 7,
        "bicomplex": 6,
        "dual quaternion": 24,
    }
    assert (GAUSS.stability, HAMILTON.stability, HAMILTON.swapped().stability) == (4, 12, 12)
    direct = Bilinear.direct(product_tensor(QUATERNION))
    assert (direct.rank, direct.stability) == (16, 4)


def test_strassen() -> None:
    w, x = torch.randn(2, 2, 2, dtype=torch.float64)
    assert torch.allclose(STRASSEN(w.flatten(), x.flatten()), (w @ x).flatten()) and STRASSEN.rank == 7


def test_conjugates_and_the_right_product() -> None:
    star = QUATERNION.conjugation
    assert star is not None
    a, b = torch.randn(2, 5, 4, dtype=torch.float64)
    assert torch.allclose(HAMILTON.of(w=star)(a, b), QUATERNION.product(QUATERNION.conjugate(a), b))
    assert torch.allclose(HAMILTON.swapped()(a, b), QUATERNION.product(b, a))
    assert torch.allclose(GAUSS(a[:, :2], b[:, :2]), COMPLEX.product(a[:, :2], b[:, :2]))


def test_what_is_not_known() -> None:
    assert known(product_tensor(OCTONION)) is None and known(-product_tensor(COMPLEX)) is None
    assert not HAMILTON.computes(product_tensor(COMPLEX)) and not HAMILTON.computes(product_tensor(SPLIT_QUATERNION))
    off = Bilinear(HAMILTON.a, HAMILTON.b, HAMILTON.c + 1e-11)
    assert not off.computes(product_tensor(QUATERNION))


def test_matrices_must_fit() -> None:
    with pytest.raises(ValueError, match=r"expected matrices a \[P, w\]"):
        Bilinear(torch.ones(3, 2), torch.ones(2, 2), torch.ones(2, 3))
    with pytest.raises(ValueError, match="got shapes"):
        Bilinear(torch.ones(3), torch.ones(3, 2), torch.ones(2, 3))
    assert repr(HAMILTON) == "Bilinear(4 x 4 -> 4 in 8 products)"


# --- short filters -----------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_polynomials_and_filters(m: int, r: int, data: st.DataObject) -> None:
    points = data.draw(st.permutations(POINTS[:8]))[: m + r - 2]
    tensor = torch.zeros(m + r - 1, r, m, dtype=torch.float64)
    for i in range(r):
        for j in range(m):
            tensor[i + j, i, j] = 1
    product, short = toom_cook(m, r, points), winograd(m, r, points)
    assert product.rank == short.rank == m + r - 1
    scale = 1e-15 * max(1.0, product.stability)  # what rounding of the entries may do
    assert float((product.tensor - tensor).abs().max()) <= scale
    assert float((short.tensor - filter_tensor(m, r)).abs().max()) <= 1e-15 * max(1.0, short.stability)


def test_the_usual_filters() -> None:
    assert torch.equal(winograd(2, 3).tensor, filter_tensor(2, 3)), "no rounding at 0, 1, -1"
    assert winograd(4, 3).computes(filter_tensor(4, 3)) and winograd(4, 3).rank == 6
    assert winograd(1, 1).rank == 1 and torch.equal(winograd(1, 1).tensor, torch.ones(1, 1, 1).double())
    nested = winograd(2, 3).kron(winograd(2, 3))
    assert nested.rank == 16 and nested.stability == winograd(2, 3).stability ** 2, "F(2 x 2, 3 x 3): 16 for 36"


@pytest.mark.parametrize("points", [(), (Fraction(0),) * 3, (Fraction(0), Fraction(1))])
def test_points_must_differ(points: tuple[Fraction, ...]) -> None:
    with pytest.raises(ValueError, match="all different"):
        winograd(2, 3, points)


# --- the search --------------------------------------------------------------------------------------------------


@settings(max_examples=8)
@given(st.integers(2, 3), st.integers(0, 2**16))
def test_any_product_in_fewer(n: int, seed: int) -> None:
    """2 or 3 products for 4 blocks, 5 for 9."""
    tensor = torch.rand(n, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    found = algorithm(tensor)
    assert found.computes(tensor) and found.rank <= {2: 3, 3: 5}[n]
    assert algorithm(tensor.clone()) is found, "found once"


def test_seven_for_four_units() -> None:
    tensor = torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = algorithm(tensor)
    assert found.rank == 7 and found.computes(tensor)


def test_products_with_a_part_missing() -> None:
    """A quaternion of two parts is a pair of complex products; one part alone only permutes and negates."""
    tensor = product_tensor(QUATERNION)
    assert [algorithm(tensor[:, :count]).rank for count in (1, 2)] == [4, 6]
    assert algorithm(product_tensor(COMPLEX)[:, 1:]).rank == 2


def test_finding_nothing() -> None:
    assert decompose(product_tensor(COMPLEX), 2) is None, "its rank is 3"
    zero = torch.zeros(2, 2, 2, dtype=torch.float64)
    assert algorithm(zero).rank == 0 and algorithm(zero).computes(zero)
    units = HypercomplexAlgebra.clifford(3)
    assert algorithm(product_tensor(units)).rank == 64, "too large to look for"
