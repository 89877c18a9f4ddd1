"""Structure that is in the weights and not in their sizes: whole models, and what must not be found."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fusekit
from fusekit.algebra import Conv
from fusekit.algebra.dead import without_dead_channels
from fusekit.algebra.factor import LARGEST, factored
from fusekit.algebra.values import used_along
from fusekit.errors import Inapplicable
from fusekit.testing.strategies import relative_error
from tests.support.architectures import ResNet50, randomize
from tests.support.compare import assert_same, normal, report_of


def applied(module: Any) -> list[str]:
    return [event.rewrite for event in report_of(module).applied]


def binomial(taps: int) -> Tensor:
    """Pascal's row: exact in floating point, and so is its square."""
    row = torch.ones(1, dtype=torch.float64)
    for _ in range(taps - 1):
        row = F.pad(row, (0, 1)) + F.pad(row, (1, 0))
    return row / row.sum()


def product(*factors: Tensor) -> Tensor:
    """Σ_r B[o, r] A[r, i, u, v] for integer factors: the product is exact in float32."""
    b, a = (torch.randint(-4, 5, tuple(f.shape)).float() for f in factors)
    return torch.einsum("or,riuv->oiuv", b, a)


def test_a_pruned_network_of_usual_width() -> None:
    """Filters of zeros are dropped, however large the kernels, before anything takes them for a low rank."""
    layers = (nn.Conv2d(16, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 64, 3, padding=1))
    model: Any = randomize(nn.Sequential(*layers)).double().eval()
    with torch.no_grad():
        for name in ("weight", "bias"):
            model[0].get_parameter(name)[::2] = 0.0
    x = normal(1, 16, 28, 28)
    fast: Any = fusekit.optimize(model, x)
    assert applied(fast) == ["drop-channels"]
    assert [tuple(m.weight.shape[:2]) for m in fast.modules() if isinstance(m, nn.Conv2d)] == [(64, 16), (64, 64)]
    assert_same(fast, model, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_blur_is_separable(dtype: torch.dtype, tmp_path: Any) -> None:
    """15 x 15 taps become 15 + 15, with stride and uneven padding, exact at the border."""
    model = nn.Sequential(nn.ZeroPad2d((7, 6, 7, 7)), nn.Conv2d(32, 32, 15, groups=32, stride=(1, 2), bias=True))
    row = binomial(15)
    with torch.no_grad():
        model[1].get_parameter("weight").copy_((row[:, None] * row).expand(32, 1, 15, 15))
    model.to(dtype).eval()
    x = normal(2, 32, 40, 41).to(dtype)
    fast = fusekit.optimize(model, x)
    assert "factor-kernel" in applied(fast)
    windows = sorted(tuple(m.kernel_size) for m in fast.modules() if isinstance(m, nn.Conv2d))
    assert windows == [(1, 15), (15, 1)]
    if dtype is torch.float64:
        for size in (40, 15, 16, 3):
            assert_same(fast, model, normal(2, 32, size, size))
    else:
        assert fusekit.export(model, tmp_path / "blur.onnx", (x,)).ok


def test_low_rank_in_channels() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Linear(9, 9)).eval()
    with torch.no_grad():
        model[0].get_parameter("weight").copy_(product(torch.empty(64, 8), torch.empty(8, 64, 3, 3)))
    fast = fusekit.optimize(model, torch.randn(1, 64, 56, 9))
    assert applied(fast) == ["factor-kernel"]
    layers = [m for m in fast.modules() if isinstance(m, nn.Conv2d)]
    assert sorted((m.in_channels, m.out_channels, m.kernel_size[0]) for m in layers) == [(8, 64, 1), (64, 8, 3)]
    assert_same(fusekit.optimize(model.double(), normal(1, 64, 56, 9)), model, normal(1, 64, 9, 9))


def test_a_product_is_not_folded_again() -> None:
    """The result optimized once more stays as it is."""
    model = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1)).eval()
    with torch.no_grad():
        model[0].get_parameter("weight").copy_(product(torch.empty(64, 8), torch.empty(8, 64, 3, 3)))
    once = fusekit.optimize(model, torch.randn(1, 64, 40, 40))
    again = fusekit.optimize(once, torch.randn(1, 64, 40, 40))
    assert applied(once) == ["factor-kernel"] and not applied(again)


@pytest.mark.parametrize("shape", [(64, 64, 3, 3), (300, 300, 1, 1), (8, 1, 7, 7), (64, 64)])
def test_random_kernels_are_no_products(shape: tuple[int, ...]) -> None:
    """Nor are they with a perturbation far below single precision on top of a product."""
    groups = shape[0] if shape[1] == 1 else 1
    with pytest.raises(Inapplicable):
        factored(Conv.from_torch(torch.randn(shape), None, groups=groups))
    row = torch.randn(shape[0], 1, dtype=torch.float64)
    exact = (row * torch.randn(1, math.prod(shape[1:]), dtype=torch.float64)).reshape(shape)
    if groups == 1:
        assert factored(Conv.from_torch(exact, None)).options
        with pytest.raises(Inapplicable):
            factored(Conv.from_torch(exact + 1e-9 * torch.randn(shape, dtype=torch.float64), None))
    assert LARGEST < 300


def test_groups_of_different_rank() -> None:
    """The factors have room for the largest, wherever it stands."""
    torch.manual_seed(0)
    for ranks in ((1, 2), (2, 1)):
        kernel = torch.cat([product(torch.empty(12, rank), torch.empty(rank, 12, 3, 3)) for rank in ranks])
        conv = Conv.from_torch(kernel.double(), normal(24), padding=((1, 1), (1, 1)), groups=2)
        x = normal(2, 24, 7, 6)
        for option in factored(conv).options:
            assert relative_error(option(x), conv(x)) < 1e-12


def test_nothing_is_found_in_a_trained_network() -> None:
    report = report_of(fusekit.optimize(randomize(ResNet50(10)), torch.rand(1, 3, 32, 32)))
    structure = {"drop-channels", "drop-linear-channels", "trim-window", "find-groups", "factor-kernel"}
    assert not structure & {event.rewrite for event in report.events}


class Pruned(nn.Module):
    """Two convolutions around an activation, some channels masked as pruning does."""

    def __init__(self, spelling: str, padding: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 8, 3, padding=padding)
        self.spelling = spelling
        self.act = {"module": nn.ReLU(), "in place": nn.ReLU(inplace=True)}.get(spelling, nn.Identity())
        with torch.no_grad():
            self.first.weight[:12], self.first.bias[:12] = 0, -1.0  # type: ignore[index]
            self.second.weight[:, 10:20] = 0

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        y = self.first(x)
        kept = y if self.spelling == "kept" else None
        if self.spelling in ("module", "in place"):
            y = self.act(y)
        elif self.spelling == "function":
            y = F.relu(y)
        elif self.spelling == "method":
            y = y.relu()
        elif self.spelling == "sigmoid":
            y = torch.sigmoid(y)
        elif self.spelling == "clamp":
            y = F.relu6(y, True)
        z: Tensor = self.second(y)
        return z if kept is None else (z, kept)


@pytest.mark.parametrize("spelling", ["module", "in place", "function", "method", "sigmoid", "clamp"])
@pytest.mark.parametrize("given", [False, True])
def test_pruned_channels_are_dropped(spelling: str, given: bool) -> None:
    """Twelve of 32 give what no ReLU lets through, ten are not read, two of them both: twelve count, sixteen stay."""
    model = Pruned(spelling).double().eval()
    x = normal(2, 3, 12, 11)
    fast = fusekit.optimize(model, x if given else None)
    assert applied(fast) == ["drop-channels"]
    # a sigmoid makes the twelve a constant that the padded border would see
    left = 24 if spelling == "sigmoid" else 16
    assert [m.out_channels for m in fast.modules() if isinstance(m, nn.Conv2d)] == [left, 8]
    assert_same(fast, model, x)
    assert dict(fast.named_children()).keys() >= {"first", "second"}


def test_a_constant_channel_joins_the_bias_where_nothing_is_padded() -> None:
    model = Pruned("sigmoid", padding=0).double().eval()
    x = normal(2, 3, 12, 11)
    fast = fusekit.optimize(model, x)
    assert [m.out_channels for m in fast.modules() if isinstance(m, nn.Conv2d)] == [16, 8]
    assert_same(fast, model, x)


def test_a_constant_channel_before_a_transposed_convolution_stays() -> None:
    """Its outputs near the border see fewer taps of it than those inside."""
    inner = Conv.from_torch(normal(16, 2, 1, 1), normal(16))
    inner.kernel[:, :12] = 0
    outer = Conv.from_torch(normal(16, 3, 3, 3), None, transposed=True)
    with pytest.raises(Inapplicable, match="no channel"):
        without_dead_channels(outer, None, inner)
    silent = replace(inner, bias=None)
    x = normal(2, 2, 4, 5)
    fewer = without_dead_channels(outer, None, silent)
    assert fewer.maps[0].in_channels == 8
    assert relative_error(fewer(x), outer(silent(x))) < 1e-13


class Bent(nn.Module):
    """Pruned channels whose constant the function's own numbers decide."""

    def __init__(self, bend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.bend = Pruned("none", padding=0), bend

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner.second(self.bend(self.inner.first(x)))
        return result


@pytest.mark.parametrize(
    "bend",
    [
        lambda y: F.leaky_relu(y, 0.5),
        lambda y: F.leaky_relu(y, negative_slope=0.25),
        lambda y: F.hardtanh(y, -0.3, 0.4),
        lambda y: F.hardtanh(y, min_val=-0.3),
        lambda y: F.elu(y, alpha=0.5),
        lambda y: torch.ops.aten.leaky_relu.default(y, 0.5),
        lambda y: torch.ops.aten.hardtanh.default(y, -0.3, 0.4),
    ],
)
def test_a_function_keeps_its_numbers(bend: Callable[[Tensor], Tensor]) -> None:
    model = Bent(bend).double().eval()
    x = normal(2, 3, 12, 11)
    fast = fusekit.optimize(model, x, strict=True)
    assert applied(fast) == ["drop-channels"]
    assert_same(fast, model, x)


def test_channels_that_others_read_stay() -> None:
    model = Pruned("kept").double().eval()
    x = normal(2, 3, 12, 11)
    fast = fusekit.optimize(model, x)
    assert not applied(fast)
    assert_same(fast, model, x)


def test_an_activation_in_place_that_others_see_is_left_alone() -> None:
    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Pruned("none")

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.inner.first(x)
            z = F.relu(y, inplace=True)
            return self.inner.second(z), y

    model = Seen().double().eval()
    x = normal(2, 3, 12, 11)
    fast = fusekit.optimize(model, x)
    assert_same(fast, model, x)


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 2**31), st.sampled_from((0.0, 0.5, 0.95, 1.0))
)
def test_the_first_entries_tell_what_all_entries_do(sizes: list[int], seed: int, dense: float) -> None:
    drawn = torch.rand(sizes, generator=torch.Generator().manual_seed(seed))
    values = torch.where(drawn < dense, drawn + 1, 0.0)
    for axis in range(values.ndim):
        others = [other for other in range(values.ndim) if other != axis]
        expected = values.abs().sum(others) != 0 if others else values != 0
        assert torch.equal(used_along(values, axis), expected)
