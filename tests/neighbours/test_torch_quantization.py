"""Quantization in PyTorch, after fusekit. Before it, the weights are integers already, and no law holds for them."""

import warnings
from typing import Any

import pytest
import torch

import fusekit
from tests.support.neighbour_networks import FEWEST, Told, error, images, layers, net

X = images()
MOST_OF_INT8 = 0.05
AFTER = "quantize the result of `optimize`: what is quantized before cannot be folded, and is refused."


def fast() -> Any:
    model = fusekit.optimize(net(), (X,))
    assert layers(model) == FEWEST
    return model


@pytest.mark.neighbour("torchao", "`quantize_`, weights and activations in int8", advice=AFTER)
@pytest.mark.parametrize("config", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
def test_torchao(config: str, told: Told) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    model = fast()
    quantization.quantize_(model, getattr(quantization, config)())
    assert type(model.head.weight).__name__ != "Parameter"
    wrong = error(model(X), net()(X))
    told(f"{config}: error {wrong:.1e}")
    assert wrong < MOST_OF_INT8
    before = net()
    quantization.quantize_(before, getattr(quantization, config)())
    with pytest.raises(fusekit.FusekitError):
        fusekit.optimize(before, (X,))


@pytest.mark.neighbour("torchao", "`prepare_pt2e`, `convert_pt2e`", advice=AFTER)
def test_pt2e(told: Told) -> None:
    pt2e = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
    x86 = pytest.importorskip("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
    program = torch.export.export(fast(), (X,)).module()
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = pt2e.prepare_pt2e(program, quantizer)
    for seed in range(10, 18):
        prepared(images(seed=seed))
    converted = pt2e.convert_pt2e(prepared)
    assert sum("quantize" in str(node.target) for node in converted.graph.nodes) >= 2 * FEWEST
    wrong = error(converted(X), net()(X))
    told(f"error {wrong:.1e}")
    assert wrong < MOST_OF_INT8


@pytest.mark.neighbour("torch", "`torch.ao.quantization`, by fx", advice=AFTER)
@pytest.mark.filterwarnings("ignore")
def test_fx(told: Told) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and in use
        quantization = pytest.importorskip("torch.ao.quantization")
        by_fx = pytest.importorskip("torch.ao.quantization.quantize_fx")
        prepared = by_fx.prepare_fx(fast(), quantization.get_default_qconfig_mapping("x86"), (X,))
        for seed in range(10, 18):
            prepared(images(seed=seed))
        converted = by_fx.convert_fx(prepared)
    assert "quantize_per_tensor" in converted.code
    wrong = error(converted(X), net()(X))
    told(f"error {wrong:.1e}")
    assert wrong < MOST_OF_INT8
    with pytest.raises(fusekit.FusekitError):
        fusekit.optimize(converted, (X,))
