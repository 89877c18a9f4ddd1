"""Convolutions by Winograd's filters: exact in every geometry, refused where the windows do not fit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import onnx
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

import fusekit
from fusekit.algebra import Conv, Mixing, WinogradConv
from fusekit.algebra.kernel import coarsen
from fusekit.algebra.products.winograd_conv import cut, join
from fusekit.errors import Inapplicable
from fusekit.passes import PASSES
from fusekit.passes.use_winograd import UseWinograd
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.testing.strategies import convs, gaussians, inputs_of, relative_error
from tests.support.architectures import randomize
from tests.support.compare import assert_same, call, error_of, report_of


@st.composite
def short(draw: st.DrawFn) -> Conv:
    """Two to five taps on the last axis, anything on the others."""
    n = draw(st.integers(1, 3))
    like = draw(convs(n=n))
    kernel = draw(gaussians(1, 2, 3, *like.window[:-1], draw(st.integers(2, 5))))
    bias = draw(gaussians(2)) if draw(st.booleans()) else None
    geometry = (*like.stride[:-1], 1), like.padding, (*like.dilation[:-1], 1)
    return Conv(kernel, bias, *geometry)


@given(st.data(), st.integers(1, 6))
def test_any_filter_in_any_geometry(data: st.DataObject, outputs: int) -> None:
    conv = data.draw(short())
    x = data.draw(inputs_of(conv))
    fast = WinogradConv(conv, outputs)
    assert relative_error(fast(x), conv(x)) <= 1e-11
    assert fast.output_shape(tuple(x.shape)) == tuple(conv(x).shape)
    assert fast(x).is_contiguous()
    columns = cut(x, conv.n, outputs, fast.taps, *conv.padding[-1])
    assert tuple(columns.shape) == fast.cut_shape(tuple(x.shape))
    tiles = columns.shape[-1]
    assert fast.macs(tuple(x.shape)) == (
        fast.before.macs(tuple(columns.shape))
        + fast.products.macs(tuple(columns.shape))
        + fast.after.macs(fast.products.output_shape(tuple(columns.shape)))
    )
    assert tiles * outputs >= conv(x).shape[-1] > (tiles - 1) * outputs


@given(st.data(), st.integers(1, 4), st.integers(0, 3), st.integers(0, 3))
def test_what_is_cut_is_joined(data: st.DataObject, outputs: int, low: int, high: int) -> None:
    """Of windows that do not overlap, join is the inverse of cut."""
    x = data.draw(gaussians(*(2,) * data.draw(st.integers(0, 1)), 3, 2, data.draw(st.integers(1, 6))))
    y = join(cut(x, 2, outputs, 1, low, high), x, 2, outputs, 1, low, high)
    assert torch.equal(y, nn.functional.pad(x, (low, high)))


def test_half_the_multiplications() -> None:
    """F(4, 3): six products for twelve; and a mixing on either side."""
    conv = Conv.from_torch(torch.randn(64, 64, 3, 3), None, padding=((1, 1), (1, 1)))
    fast = WinogradConv(conv)
    shape = (1, 64, 16, 16)
    assert fast.products.macs(fast.cut_shape(shape)) * 2 == conv.macs(shape)
    assert tuple(fast.products.kernel.shape) == (6, 64, 64, 3, 1)
    assert [tuple(m.matrix.shape) for m in (fast.after, fast.before)] == [(4, 6), (6, 6)]


def test_the_bias_is_exact() -> None:
    conv = Conv.from_torch(torch.zeros(3, 2, 3), torch.tensor([0.1, 1 / 3, -7.3], dtype=torch.float64))
    y = WinogradConv(conv)(torch.randn(1, 2, 9, dtype=torch.float64))
    assert conv.bias is not None and torch.equal(y, conv.bias[:, None].expand(1, 3, 7))


@pytest.mark.parametrize("outputs", [2, 4])
def test_rounding_in_single_precision(outputs: int) -> None:
    """Near the direct sum's: no more than four times it, for the filters in use. Processors add the direct sum in
    different orders: 3.0 times with AVX-512, 3.4 times with AVX2."""
    generator = torch.Generator().manual_seed(0)
    kernel, x = torch.randn(32, 64, 3, 3, generator=generator), torch.randn(1, 64, 16, 16, generator=generator)
    conv = Conv.from_torch(kernel, None, padding=((1, 1), (1, 1)))
    exact = conv(x.double())
    direct, fast = (relative_error(m(x).double(), exact) for m in (conv, WinogradConv(conv, outputs)))
    assert direct < 1e-6 and fast <= 4 * max(direct, 2e-7)


REFUSED: dict[str, Callable[[Conv], Conv]] = {
    "stride": lambda c: replace(c, stride=(1, 2)),
    "dilation": lambda c: replace(c, dilation=(1, 2)),
    "groups": lambda c: Conv.from_torch(torch.randn(4, 2, 3, 3), None, groups=2),
    "transposed": lambda c: replace(c, transposed=True),
    "complex": lambda c: replace(c, kernel=c.kernel.to(torch.complex128)),
    "one tap": lambda c: replace(c, kernel=c.kernel[..., :1]),
    "linear": lambda c: Conv.from_torch(torch.randn(3, 3), None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    conv = Conv.from_torch(torch.randn(3, 2, 3, 3), None)
    assert WinogradConv(conv).taps == 3
    with pytest.raises(Inapplicable, match="plain dense|last axis"):
        WinogradConv(REFUSED[name](conv))


def test_no_output() -> None:
    conv = Conv.from_torch(torch.randn(3, 2, 3), None)
    with pytest.raises(ValueError, match="3 taps have no output on 2 columns"):
        WinogradConv(conv)(torch.randn(1, 2, 2))


# --- whole models ------------------------------------------------------------------------------------------------


def wide(dtype: torch.dtype = torch.float64, width: int = 384) -> nn.Module:
    layers = (nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 8, 1))
    return randomize(nn.Sequential(*layers)).to(dtype).eval()


def names_of(module: Any) -> list[str]:
    return [event.rewrite for event in report_of(module).applied]


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a clock had said that it is faster."""
    monkeypatch.setattr(UseWinograd, "gain", 3.0)


@pytest.mark.usefixtures("wanted")
def test_a_network() -> None:
    """The convolution in it is torch's own, and all of it trains."""
    model, x = wide(width=64), torch.randn(1, 64, 9, 10, dtype=torch.float64)
    fast: Any = fusekit.optimize(model, x, strict=True, target="onnxruntime")
    assert names_of(fast) == ["use-winograd"]
    assert next((m.groups, m.kernel_size) for m in fast.modules() if isinstance(m, nn.Conv2d)) == (6, (3, 1))
    assert_same(fast, model, x)
    for shape in ((2, 64, 3, 29), (1, 64, 1, 1), (64, 5, 6)):
        assert_same(fast, model, torch.randn(shape, dtype=torch.float64))
    fast(x).sum().backward()
    assert all(parameter.grad is not None for parameter in fast.parameters())
    assert not any("mixing" in name for name, _ in fast.named_parameters())


def test_not_without_a_clock_and_not_for_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = wide(torch.float32), torch.randn(1, 384, 14, 28)
    for target, gain, reason in (
        ("onnxruntime", 0.0, "only a measurement can tell"),
        ("torch", 3.0, "copies"),
    ):
        monkeypatch.setattr(UseWinograd, "gain", gain)
        report = report_of(fusekit.optimize(model, x, target=target))
        (event,) = [event for event in report.events if event.rewrite == "use-winograd"]
        assert reason in event.reason


@pytest.mark.usefixtures("wanted")
@pytest.mark.parametrize("dynamic", [True, False])
def test_in_onnx_runtime(dynamic: bool, tmp_path: Path) -> None:
    model, x = wide(torch.float32), torch.randn(1, 384, 14, 28)
    verdict = fusekit.export(model, tmp_path / "m.onnx", x, dynamic=dynamic)
    assert verdict.ok and verdict.report is not None
    applied = [event.rewrite for event in verdict.report.applied]
    nodes = [node.op_type for node in onnx.load(str(tmp_path / "m.onnx")).graph.node]
    assert ("use-winograd" in applied) == (nodes.count("MatMul") == 2)
    assert "use-winograd" in applied and all(not node.domain for node in onnx.load(str(tmp_path / "m.onnx")).graph.node)
    assert ("dynamic axes: input[0, 2, 3]" in str(verdict)) == dynamic


def narrow() -> tuple[nn.Module, Tensor]:
    return wide(width=32), torch.randn(1, 32, 28, 28, dtype=torch.float64)


def strided() -> tuple[nn.Module, Tensor]:
    layer = nn.Conv2d(128, 128, 3, stride=2).double().eval()
    return layer, torch.randn(1, 128, 28, 28, dtype=torch.float64)


@pytest.mark.parametrize("make", [narrow, strided])
def test_left_alone(make: Callable[[], tuple[nn.Module, Tensor]]) -> None:
    model, x = make()
    report = report_of(fusekit.optimize(model, x, strict=True))
    assert not [event for event in report.events if event.rewrite == "use-winograd"]


def test_prices() -> None:
    """It pays where channels are many; on small maps the weights, twice as many, are what counts."""
    for width, size, ratio in ((64, 56, 0.9), (256, 56, 0.7), (64, 7, 1.0)):
        conv = Conv.from_torch(torch.randn(width, width, 3, 3), None, padding=((1, 1), (1, 1)))
        shape = (1, width, size, size)
        prices = [m.work(shape, 4, ONNX_RUNTIME.rates).price for m in (WinogradConv(conv), conv)]
        found = prices[0] / prices[1]
        assert (found < PASSES["use-winograd"].hope) == (ratio < 0.8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_not_in_half_precision(dtype: torch.dtype) -> None:
    conv = Conv.from_torch(torch.randn(64, 64, 3, dtype=dtype), None)
    with pytest.raises(Inapplicable, match="half precision"):
        PASSES["use-winograd"].propose(conv)


@pytest.mark.usefixtures("wanted")
def test_single_precision_stays_near() -> None:
    model, x = wide(torch.float32), torch.randn(1, 384, 14, 28)
    fast: Any = fusekit.optimize(model, x, target="onnxruntime")
    assert names_of(fast) == ["use-winograd"] and error_of(call(fast, x), call(model, x)) <= 4e-6


def test_groups_are_kept_apart() -> None:
    """What a coarsened kernel computes is the same."""
    conv = Conv.from_torch(torch.randn(4, 2, 3, dtype=torch.float64), None, groups=2)
    dense = replace(conv, kernel=coarsen(conv.kernel, 1))
    x = torch.randn(1, 4, 9, dtype=torch.float64)
    assert relative_error(WinogradConv(dense)(x), conv(x)) <= 1e-14
    assert isinstance(WinogradConv(dense).before, Mixing)
