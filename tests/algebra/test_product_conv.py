"""Layers over an algebra in fewer products: found in any kernel, exact in every geometry, left alone otherwise."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

import fusekit
from fusekit.algebra import (
    COMPLEX,
    DUAL,
    DUAL_QUATERNION,
    QUATERNION,
    SPLIT_COMPLEX,
    SPLIT_QUATERNION,
    Conv,
    HypercomplexAlgebra,
    Mixing,
)
from fusekit.algebra.products.bilinear import HAMILTON, Bilinear
from fusekit.algebra.products.blocks import blocks_of
from fusekit.algebra.products.mixing import GroupedLinear
from fusekit.algebra.products.product_conv import by_products, with_products, without_zero_blocks
from fusekit.errors import Inapplicable
from fusekit.nn import (
    QuaternionRotationConv2d,
)
from fusekit.passes.use_product import UseProduct
from fusekit.testing.strategies import convs, gaussians, inputs_of, relative_error
from tests.support.algebra_kernels import kernel_of, names_of, quaternion_conv
from tests.support.architectures import randomize
from tests.support.compare import assert_same

ALGEBRAS = (COMPLEX, SPLIT_COMPLEX, DUAL, QUATERNION, SPLIT_QUATERNION)


# --- the map -----------------------------------------------------------------------------------------------------


@given(st.data(), st.sampled_from(ALGEBRAS), st.booleans(), st.booleans())
def test_every_algebra_in_every_geometry(
    data: st.DataObject, algebra: HypercomplexAlgebra, right: bool, inner: bool
) -> None:
    like = data.draw(convs(n=data.draw(st.integers(0, 2)), in_channels=2, out_channels=3, transposed=None))
    kernel = kernel_of(algebra, data.draw(gaussians(algebra.n, 3, 2, *like.window)), right=right, inner=inner)
    bias = data.draw(gaussians(3 * algebra.n)) if data.draw(st.booleans()) else None
    conv = replace(like, kernel=kernel, bias=bias)
    x = data.draw(inputs_of(conv))
    fast = by_products(conv)
    assert relative_error(fast(x), conv(x)) <= 1e-12
    assert fast.output_shape(tuple(x.shape)) == tuple(conv(x).shape)
    products = next(m for m in fast.maps if isinstance(m, Conv | GroupedLinear))
    counts = {"complex": 3, "split-complex": 2, "dual": 3, "quaternion": 8, "split-quaternion": 7}
    assert len(products.kernel) == counts[algebra.name]
    assert products.macs(fast.maps[-1].output_shape(tuple(x.shape))) * algebra.n**2 == (
        conv.macs(tuple(x.shape)) * counts[algebra.name]
    )


@pytest.mark.parametrize("bias", [True, False])
def test_a_bias_goes_into_hamiltons_products(bias: bool) -> None:
    conv = quaternion_conv()
    conv = conv if bias else replace(conv, bias=None)
    after, products, before = by_products(conv).maps
    assert after.bias is None and before.bias is None
    if bias:
        parts = products.bias.unflatten(0, (8, 2))
        assert torch.equal(parts[[1, 0, 2, 3]], torch.ones(4, 2).double()) and not bool(parts[4:].any())
        numbers = Conv.from_torch(kernel_of(COMPLEX, torch.randn(2, 3, 2, 3).double())[0], torch.randn(6).double())
        assert by_products(numbers).maps[0].bias is None, "Gauss's three have a product for each part, too"
    else:
        assert products.bias is None


def test_a_bias_that_no_product_gives() -> None:
    """It is added behind: where an output reads no product."""
    conv = quaternion_conv()
    kernel = conv.kernel.clone()
    kernel[:, :2] = 0
    conv = replace(conv, kernel=kernel)
    x = torch.randn(2, 12, 5, 5, dtype=torch.float64)
    fast = without_zero_blocks(conv)
    assert fast.maps[0].bias is not None
    assert relative_error(fast(x), conv(x)) <= 1e-14


@given(st.data())
def test_any_algorithm_for_the_product_is_right(data: st.DataObject) -> None:
    """One product a block; a detour that multiplies and divides."""
    conv = quaternion_conv()
    (blocks,) = (found for found in blocks_of(conv) if found.n == 4)
    x = data.draw(gaussians(data.draw(st.integers(0, 2)), 12, 4, 5))
    direct = with_products(conv, blocks, Bilinear.direct(blocks.tensor))
    assert len(direct.maps[1].kernel) == 16 and relative_error(direct(x), conv(x)) <= 1e-13
    scale = data.draw(gaussians(8))
    other = Bilinear(HAMILTON.a * scale[:, None], HAMILTON.b, HAMILTON.c / scale)
    assert relative_error(with_products(conv, blocks, other)(x), conv(x)) <= 1e-11


@pytest.mark.parametrize("n", [2, 3, 4])
def test_learned_algebras(n: int) -> None:
    """PHM: the blocks of Σ_u A_u ⊗ F_u, A_u of anything."""
    generator = torch.Generator().manual_seed(n)
    matrices = torch.randn(n, n, n, generator=generator, dtype=torch.float64)
    weight = torch.randn(n, 3, 2, 3, 3, generator=generator, dtype=torch.float64)
    algebra = HypercomplexAlgebra.from_matrices(matrices)
    conv = Conv.from_torch(algebra.block(weight), torch.ones(3 * n).double(), padding=((1, 1), (2, 0)))
    x = torch.randn(2, 2 * n, 6, 5, dtype=torch.float64)
    fast = by_products(conv)
    assert relative_error(fast(x), conv(x)) <= 1e-12
    assert fast.maps[1].groups <= {2: 3, 3: 5, 4: 7}[n]


def test_parts_that_are_zero() -> None:
    """Complex weights that are real or imaginary take two products; quaternions of two parts six."""
    x = torch.randn(1, 6, 4, 4, dtype=torch.float64)
    for part in (0, 1):
        weight = torch.zeros(2, 2, 3, 3, 3, dtype=torch.float64)
        weight[part] = torch.randn(2, 3, 3, 3)
        conv = Conv.from_torch(kernel_of(COMPLEX, weight)[0], None)
        fast = by_products(conv)
        assert relative_error(fast(x), conv(x)) <= 1e-14
        assert [m.groups for m in fast.maps if isinstance(m, Conv)] == [2]
        assert len(fast.maps) == (1 if part == 0 else 2), "a diagonal takes no mixing"


def test_dual_quaternions() -> None:
    """Three quaternion products; two where the dual part is zero."""
    x = torch.randn(2, 8, 5, dtype=torch.float64)
    for zero, count in ((8, 24), (4, 16)):
        weight = torch.randn(8, 2, 1, 3, dtype=torch.float64)
        weight[zero:] = 0
        conv = Conv.from_torch(kernel_of(DUAL_QUATERNION, weight)[0], torch.ones(16).double())
        fast = by_products(conv)
        assert relative_error(fast(x), conv(x)) <= 1e-13
        assert [m.groups for m in fast.maps if isinstance(m, Conv)] == [count]


def test_rotations_read_and_write_three_parts() -> None:
    model = randomize(QuaternionRotationConv2d(64, 64, 3, padding=1)).double().eval()
    x = torch.randn(1, 64, 12, 12, dtype=torch.float64)
    fast: Any = fusekit.optimize(model, x, strict=True)
    assert names_of(fast) == ["drop-blocks"]
    assert [tuple(m.weight.shape) for m in fast.modules() if isinstance(m, nn.Conv2d)] == [(48, 48, 3, 3)]
    assert_same(fast, model, x)
    weight = torch.randn(6, 6, 3, 3, dtype=torch.float64)
    kernel = torch.zeros(1, 8, 8, 3, 3, dtype=torch.float64)
    kernel[0, 2:, 2:] = weight
    conv = Conv(kernel, torch.cat([torch.zeros(2), torch.ones(6)]).double(), (1, 1), ((1, 1),) * 2, (1, 1))
    fast, x = without_zero_blocks(conv), torch.randn(1, 8, 5, 4, dtype=torch.float64)
    assert fast.maps[0].bias is None and tuple(fast.maps[1].kernel.shape) == (1, 6, 6, 3, 3)
    assert relative_error(fast(x), conv(x)) <= 1e-14


def test_unbatched_and_empty() -> None:
    conv = quaternion_conv()
    fast = by_products(conv)
    for shape in ((12, 5, 5), (0, 12, 5, 5), (1, 12, 1, 1)):
        x = torch.randn(shape, dtype=torch.float64)
        assert fast(x).shape == conv(x).shape and relative_error(fast(x), conv(x)) <= 1e-14
    linear = Conv.from_torch(kernel_of(QUATERNION, torch.randn(4, 2, 3).double())[0], torch.ones(8).double())
    for rows in ((12,), (0, 12), (2, 3, 12), (2, 1, 3, 12)):
        x = torch.randn(rows, dtype=torch.float64)
        assert relative_error(by_products(linear)(x), linear(x)) <= 1e-14


# --- mixings -----------------------------------------------------------------------------------------------------


@given(st.data(), st.booleans(), st.booleans())
def test_a_mixing_is_a_kronecker_product(data: st.DataObject, reads_inner: bool, writes_inner: bool) -> None:
    out, inputs, channels = (data.draw(st.integers(1, 3)) for _ in range(3))
    matrix, x = data.draw(gaussians(out, inputs)), data.draw(gaussians(2, inputs * channels, 3))
    mixing = Mixing(matrix, 1, data.draw(gaussians(out * channels)), reads_inner, writes_inner)
    planes = x.reshape(2, channels, inputs, 3).transpose(1, 2).flatten(1, 2) if reads_inner else x
    y = torch.einsum("ij,bjx->bix", torch.kron(matrix, torch.eye(channels, dtype=torch.float64)), planes)
    y = y.reshape(2, out, channels, 3).transpose(1, 2).flatten(1, 2) if writes_inner else y
    assert mixing.bias is not None
    assert relative_error(mixing(x), y + mixing.bias[:, None]) <= 1e-14
    assert mixing.output_shape((2, inputs * channels, 3)) == (2, out * channels, 3)
    single = Mixing(matrix.float(), 1, None, reads_inner, writes_inner)
    assert relative_error(single(x.float()).double(), y) <= 1e-5, "another way in single precision"


def test_blocks_must_divide_the_channels() -> None:
    mixing = Mixing(torch.ones(3, 2), 1)
    with pytest.raises(ValueError, match="2 blocks do not divide the channels"):
        mixing(torch.ones(1, 3, 4))
    with pytest.raises(ValueError, match="do not divide"):
        mixing(torch.ones(4))
    with pytest.raises(Inapplicable, match="not those of the other"):
        mixing @ Mixing(torch.ones(3, 2), 1)
    with pytest.raises(Inapplicable, match="not those of the other"):
        mixing @ Mixing(torch.ones(2, 2), 1, writes_inner=True)
    with pytest.raises(TypeError):
        mixing @ quaternion_conv()  # type: ignore[operator]


# --- what is left alone ------------------------------------------------------------------------------------------


def off(conv: Conv, entry: float) -> Conv:
    kernel = conv.kernel.clone()
    kernel[0, 1, 2, 0, 0] += entry
    return replace(conv, kernel=kernel)


LEFT_ALONE: dict[str, Callable[[], Conv]] = {
    "a trained kernel": lambda: replace(quaternion_conv(), kernel=torch.randn(1, 8, 12, 3, 3)),
    "one entry off": lambda: off(quaternion_conv(), 1e-9),
    "one of many entries off": lambda: off(quaternion_conv(16, 16), 1e-9),
    "a sign": lambda: off(quaternion_conv(), -2 * float(quaternion_conv().kernel[0, 1, 2, 0, 0])),
    "all zero": lambda: replace(quaternion_conv(), kernel=torch.zeros(1, 8, 12, 3, 3)),
    "all zero, in eights": lambda: Conv.from_torch(torch.zeros(16, 8, 3), None),
    "odd channels": lambda: Conv.from_torch(torch.randn(5, 7, 3), None),
    "one channel": lambda: Conv.from_torch(torch.randn(1, 1, 3), None),
    "groups": lambda: Conv.from_torch(quaternion_conv().kernel[0].repeat(2, 1, 1, 1), None, groups=2),
    "complex numbers": lambda: Conv.from_torch(torch.randn(4, 4, 3, dtype=torch.complex128), None),
    "few entries": lambda: Conv.from_torch(torch.randn(2, 2), None),
    "scaled by row": lambda: replace(
        quaternion_conv(), kernel=quaternion_conv().kernel * torch.arange(1.0, 9.0)[:, None, None, None]
    ),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_no_blocks(name: str) -> None:
    conv = LEFT_ALONE[name]()
    with pytest.raises(Inapplicable):
        by_products(conv)
    if "all zero" not in name:
        with pytest.raises(Inapplicable):
            without_zero_blocks(conv)


def test_shapes_alone_tell_nothing() -> None:
    for law in (by_products, without_zero_blocks):
        with pytest.raises(Inapplicable, match="only plain dense kernels"):
            law(quaternion_conv().on_meta())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_only_on_request(dtype: torch.dtype) -> None:
    conv = quaternion_conv(dtype=dtype)
    with pytest.raises(Inapplicable, match="half=True"):
        UseProduct().propose(conv)
    assert len(UseProduct(half=True).propose(conv).maps) == 3
