"""Networks over an algebra in fewer products: where it pays, in both runtimes, and beside other layers."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

import fusekit
from fusekit.algebra.products.product_conv import by_products
from fusekit.algebra.work import EAGER
from fusekit.nn import (
    ComplexConv2d,
    QuaternionBatchNorm,
    QuaternionConv2d,
    QuaternionLinear,
)
from fusekit.optimizing.race import Clock, module_of
from fusekit.passes import PASSES
from fusekit.passes.use_product import UseProduct
from fusekit.rewriting.price import work_of
from fusekit.runtimes import runtime
from tests.support.algebra_kernels import names_of, quaternion_conv
from tests.support.architectures import randomize
from tests.support.compare import assert_same, report_of
from tests.support.graphs import Calls


def network(width: int = 16, dtype: torch.dtype = torch.float64) -> nn.Module:
    layers = (
        QuaternionConv2d(4, 4 * width, 3, padding=1),
        nn.ReLU(),
        QuaternionConv2d(4 * width, 4 * width, 3, padding=1),
        nn.ReLU(),
        QuaternionConv2d(4 * width, 4 * width, 3, stride=2),
        nn.ReLU(),
        QuaternionConv2d(4 * width, 4, 3, stride=2),
    )
    return randomize(nn.Sequential(*layers)).to(dtype).eval()


@pytest.mark.parametrize("target", ["torch", "onnxruntime"])
def test_a_network(target: str) -> None:
    """By price alone the wide layers; where two meet their matrices become one; standard layers, and what trains."""
    model, x = network(64), torch.randn(1, 4, 14, 14, dtype=torch.float64)
    fast: Any = fusekit.optimize(model, x, strict=True, target=target)
    assert names_of(fast).count("use-product") >= 2
    assert [m.groups for m in fast.modules() if isinstance(m, nn.Conv2d)].count(8) == names_of(fast).count(
        "use-product"
    )
    assert_same(fast, model, x)
    assert_same(fast, model, torch.randn(3, 4, 11, 16, dtype=torch.float64))
    trained = {name for name, _ in fast.named_parameters()}
    assert trained and not any("mixing" in name for name in trained)
    fast(x).sum().backward()
    assert all(parameter.grad is not None for parameter in fast.parameters())


def test_where_two_layers_meet() -> None:
    layers = [QuaternionConv2d(256, 256, 3, bias=False), QuaternionConv2d(256, 256, 3)]
    model, x = randomize(nn.Sequential(*layers)).double().eval(), torch.randn(1, 256, 8, 8, dtype=torch.float64)
    fast: Any = fusekit.optimize(model, x, strict=True)
    assert names_of(fast) == ["use-product", "use-product", "merge-mixings"]
    assert sorted(tuple(b.shape) for b in fast.buffers()) == [(4, 8), (8, 4), (8, 8)]
    assert_same(fast, model, x)


def test_numbers_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """fusekit's complex layers keep the two parts of a number together. Three products for four blocks are too few to
    take without a clock."""
    monkeypatch.setattr(UseProduct, "gain", 0.9)
    conv = ComplexConv2d(128, 128, 3, dtype=torch.complex128).eval()
    model = Calls(lambda m, x: torch.view_as_real(m.conv(x)), conv=conv)
    x = torch.randn(1, 128, 14, 14, dtype=torch.complex128)
    fast: Any = fusekit.optimize(model, x, strict=True)
    assert "use-product" in names_of(fast)
    assert_same(fast, model, x)


def test_a_linear_layer() -> None:
    model = QuaternionLinear(4 * 256, 4 * 256).double().eval()
    for shape in ((1, 1024), (2, 3, 1024)):
        x = torch.randn(shape, dtype=torch.float64)
        fast: Any = fusekit.optimize(model, x, strict=True)
        assert names_of(fast) == ["use-product"]
        assert_same(fast, model, x)


def test_behind_a_batch_norm() -> None:
    """One that the parts of a number share folds into the blocks; a scale for each channel takes them apart."""
    x = torch.randn(1, 256, 9, 9, dtype=torch.float64)
    for norm, found in ((QuaternionBatchNorm(256), True), (nn.BatchNorm2d(256), False)):
        model = randomize(nn.Sequential(QuaternionConv2d(256, 256, 3), norm)).double().eval()
        fast = fusekit.optimize(model, x, strict=True)
        assert ("use-product" in names_of(fast)) == found
        assert_same(fast, model, x)


def test_without_sizes_and_narrow() -> None:
    assert "use-product" not in names_of(fusekit.optimize(network(64)))
    fast = fusekit.optimize(network(1), torch.randn(1, 4, 14, 14, dtype=torch.float64))
    assert "use-product" not in names_of(fast)
    assert any(e.rewrite == "use-product" and "does not pay" in e.reason for e in report_of(fast).refused)


def test_no_word_of_it_in_other_networks() -> None:
    model = randomize(nn.Sequential(nn.Conv2d(4, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3))).eval()
    fast = fusekit.optimize(model, torch.randn(1, 4, 14, 14))
    assert not [e for e in report_of(fast).events if e.rewrite in ("use-product", "drop-blocks", "merge-mixings")]


@pytest.mark.parametrize("dynamic", [True, False])
def test_in_onnx_runtime(dynamic: bool, tmp_path: Path) -> None:
    model, x = network(32, torch.float32), torch.randn(1, 4, 14, 14)
    path = tmp_path / "m.onnx"
    verdict = fusekit.export(model, path, x, dynamic=dynamic)
    assert verdict.ok and verdict.report is not None
    assert "use-product" in [e.rewrite for e in verdict.report.applied]
    nodes = [node.op_type for node in onnx.load(str(path)).graph.node]
    assert "MatMul" in nodes and not any(node.domain for node in onnx.load(str(path)).graph.node)
    assert ("Shape" in nodes) == dynamic


def test_seven_nodes(tmp_path: Path) -> None:
    """A layer by itself: reshape, mix, reshape, convolve, reshape, mix, reshape."""
    model = randomize(QuaternionConv2d(128, 128, 3, padding=1)).eval()
    fusekit.export(model, tmp_path / "m.onnx", torch.randn(1, 128, 14, 14), dynamic=False)
    nodes = [node.op_type for node in onnx.load(str(tmp_path / "m.onnx")).graph.node]
    assert nodes == ["Reshape", "MatMul", "Reshape", "Conv", "Reshape", "MatMul", "Reshape"]


def test_an_optimized_network_again() -> None:
    model, x = network(64), torch.randn(1, 4, 14, 14, dtype=torch.float64)
    fast = fusekit.optimize(model, x)
    again = fusekit.optimize(fast, x, strict=True)
    assert_same(again, model, x)


def test_prices() -> None:
    """Fewer multiplications and more memory: it pays for wide layers only."""
    for width, pays in ((2, False), (32, True)):
        conv = quaternion_conv(width, width)
        shape = (1, 4 * width, 14, 14)
        before, after = (work_of(m, [shape], 4, EAGER).price for m in (conv, by_products(conv)))
        assert (after < PASSES["use-product"].gain * before) == pays


@pytest.mark.parametrize("target", ["torch", "onnxruntime"])
def test_candidates_run_in_their_dtype(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is proposed is in float64 until it is committed; what is timed is not."""
    conv = quaternion_conv(dtype=torch.float32)
    module = module_of(by_products(conv), torch.float32)
    assert {t.dtype for t in (*module.parameters(), *module.buffers())} == {torch.float32}
    maps: list[Any] = [conv, by_products(conv)]
    assert Clock(runtime(target)).times(maps, (1, 12, 5, 5), torch.float32) is not None
