"""However a model spells a map, as a module, a function, an operator or a method, and whichever way it is captured, the
node reads as that map."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusekit.algebra import (
    Affine,
    Conv,
    Cut,
    Flatten,
    GlobalMean,
    Identity,
    MergeLeading,
    Normalization,
    Pad,
    Picking,
)
from fusekit.capture.exported import export
from fusekit.ir import Unread
from fusekit.ir.read import read
from fusekit.ir.spelling import is_spelled
from fusekit.model import Inputs
from fusekit.model.own_copy import own_copy
from fusekit.testing.strategies import relative_error
from tests.support.graphs import Calls, captured, result_of

aten = torch.ops.aten
TOLERANCE = 1e-12

_W = torch.randn(4, 3, 3, 3, dtype=torch.float64)
_WT = torch.randn(3, 2, 3, 3, dtype=torch.float64)
_G = torch.rand(3, 1, 1, dtype=torch.float64) + 0.5
_B = torch.randn(4, dtype=torch.float64)
_ROW = torch.rand(6, dtype=torch.float64) + 0.5
_NORM = {"mean": _ROW[:3], "var": _ROW[3:], "w": _ROW[1:4], "b": _ROW[2:5]}
_L = torch.randn(5, 6, dtype=torch.float64)


class Renamed(nn.BatchNorm2d):
    """Inherits all that it computes."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=0.2)


class Calling(nn.BatchNorm2d):
    """A forward of its own, which calls that of its base."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Doubling(nn.BatchNorm2d):
    """Another scale than the one that is stored."""

    @property
    def eps(self) -> float:
        return 0.7

    @eps.setter
    def eps(self, value: float) -> None:
        pass


SPELLINGS: dict[str, tuple[type, Callable[[Any, Any], Any], dict[str, Any]]] = {
    "x * g": (Affine, lambda m, x: x * m.g, {"g": _G}),
    "g * x": (Affine, lambda m, x: m.g * x, {"g": _G}),
    "x * 2": (Affine, lambda m, x: x * 2, {}),
    "0.5 * x": (Affine, lambda m, x: 0.5 * x, {}),
    "torch.mul": (Affine, lambda m, x: torch.mul(x, m.g), {"g": _G}),
    "torch.mul, const first": (Affine, lambda m, x: torch.mul(m.g, x), {"g": _G}),
    "torch.multiply, by name": (Affine, lambda m, x: torch.multiply(x, other=m.g), {"g": _G}),
    "x.mul": (Affine, lambda m, x: x.mul(m.g), {"g": _G}),
    "g.mul(x)": (Affine, lambda m, x: m.g.mul(x), {"g": _G}),
    "x + g": (Affine, lambda m, x: x + m.g, {"g": _G}),
    "3 + x": (Affine, lambda m, x: 3 + x, {}),
    "torch.add, alpha": (Affine, lambda m, x: torch.add(x, m.g, alpha=3), {"g": _G}),
    "torch.add, const first, alpha": (Affine, lambda m, x: torch.add(m.g, x, alpha=-2), {"g": _G}),
    "x.add, alpha": (Affine, lambda m, x: x.add(m.g, alpha=0.5), {"g": _G}),
    "x - g": (Affine, lambda m, x: x - m.g, {"g": _G}),
    "g - x": (Affine, lambda m, x: m.g - x, {"g": _G}),
    "1 - x": (Affine, lambda m, x: 1 - x, {}),
    "torch.sub, alpha": (Affine, lambda m, x: torch.sub(x, m.g, alpha=2), {"g": _G}),
    "torch.subtract, const first": (Affine, lambda m, x: torch.subtract(m.g, x), {"g": _G}),
    "torch.sub, const first, alpha": (Affine, lambda m, x: torch.sub(m.g, x, alpha=2), {"g": _G}),
    "x.sub": (Affine, lambda m, x: x.sub(1.5), {}),
    "x / g": (Affine, lambda m, x: x / m.g, {"g": _G}),
    "x / 255": (Affine, lambda m, x: x / 255, {}),
    "torch.div": (Affine, lambda m, x: torch.div(x, m.g), {"g": _G}),
    "torch.true_divide": (Affine, lambda m, x: torch.true_divide(x, 3), {}),
    "x.div": (Affine, lambda m, x: x.div(m.g), {"g": _G}),
    "a row": (Affine, lambda m, x: x * m.g, {"g": _ROW}),
    "F.batch_norm": (Affine, lambda m, x: F.batch_norm(x, m.mean, m.var, m.w, m.b, eps=0.1), _NORM),
    "F.batch_norm, plain": (Affine, lambda m, x: F.batch_norm(x, m.mean, m.var), _NORM),
    "nn.BatchNorm2d": (Affine, lambda m, x: m.f(x), {"f": nn.BatchNorm2d(3, eps=0.3).double()}),
    "F.instance_norm": (
        Affine,
        lambda m, x: F.instance_norm(x, m.mean, m.var, m.w, m.b, use_input_stats=False, eps=0.1),
        _NORM,
    ),
    "nn.InstanceNorm2d": (
        Affine,
        lambda m, x: m.f(x),
        {"f": nn.InstanceNorm2d(3, affine=True, track_running_stats=True).double()},
    ),
    "nn.SyncBatchNorm": (Affine, lambda m, x: m.f(x), {"f": nn.SyncBatchNorm(3, eps=0.3).double()}),
    "a norm of one's own": (Affine, lambda m, x: m.f(x), {"f": Renamed(3).double()}),
    "a norm that calls its base": (Affine, lambda m, x: m.f(x), {"f": Calling(3).double()}),
    "x[:, :, 1:-1]": (Cut, lambda m, x: x[:, :, 1:-1], {}),
    "x[:, [2, 1, 0]]": (Picking, lambda m, x: x[:, [2, 1, 0]], {}),
    "x[:, index]": (Picking, lambda m, x: x[:, m.i, :], {"i": torch.tensor([2, 0, 0])}),
    "x.flip": (Picking, lambda m, x: x.flip(1), {}),
    "torch.index_select": (Picking, lambda m, x: torch.index_select(x, 1, m.i), {"i": torch.tensor([2, 0])}),
    "nn.ChannelShuffle": (Picking, lambda m, x: m.f(x), {"f": nn.ChannelShuffle(3)}),
    "x[..., ::2]": (Cut, lambda m, x: x[..., ::2], {}),
    "x.view(x.size(0), -1)": (Flatten, lambda m, x: x.view(x.size(0), -1), {}),
    "x.reshape of its shape": (Flatten, lambda m, x: torch.reshape(x, (x.shape[0], -1)), {}),
    "x.flatten(0, 1)": (MergeLeading, lambda m, x: x.flatten(0, 1), {}),
    "x.mean((2, 3))": (GlobalMean, lambda m, x: x.mean((2, 3)), {}),
    "nn.LayerNorm": (Normalization, lambda m, x: m.f(x), {"f": nn.LayerNorm(6, eps=0.1).double()}),
    "F.layer_norm": (Normalization, lambda m, x: F.layer_norm(x, (6,), m.g), {"g": _ROW}),
    "nn.RMSNorm": (Normalization, lambda m, x: m.f(x), {"f": nn.RMSNorm(6).double()}),
    "nn.GroupNorm": (Normalization, lambda m, x: m.f(x), {"f": nn.GroupNorm(3, 3, eps=0.1).double()}),
    "F.conv2d": (Conv, lambda m, x: F.conv2d(x, m.w, m.b, 2, 1), {"w": _W, "b": _B}),
    "F.conv2d, by name": (Conv, lambda m, x: F.conv2d(input=x, weight=m.w, stride=(1, 2), dilation=2), {"w": _W}),
    "torch.conv2d": (Conv, lambda m, x: torch.conv2d(x, m.w, bias=m.b, padding=(0, 2)), {"w": _W, "b": _B}),
    "F.conv2d, same": (Conv, lambda m, x: F.conv2d(x, m.w, padding="same", dilation=2), {"w": _W[:, :, :2, :2]}),
    "F.conv_transpose2d": (Conv, lambda m, x: F.conv_transpose2d(x, m.w, None, 2, 1, 1), {"w": _WT}),
    "F.conv_transpose2d, by name": (
        Conv,
        lambda m, x: F.conv_transpose2d(x, m.w, padding=1, output_padding=1, dilation=2, stride=2),
        {"w": _WT},
    ),
    "F.linear": (Conv, lambda m, x: F.linear(x, m.w), {"w": _L}),
    "nn.Linear": (Conv, lambda m, x: m.f(x), {"f": nn.Linear(6, 5).double()}),
    "nn.Conv2d": (Conv, lambda m, x: m.f(x), {"f": nn.Conv2d(3, 6, 3, 2, 2, groups=3).double()}),
    "nn.Conv2d, same": (Conv, lambda m, x: m.f(x), {"f": nn.Conv2d(3, 4, (2, 4), padding="same").double()}),
    "nn.Conv2d, valid": (Conv, lambda m, x: m.f(x), {"f": nn.Conv2d(3, 4, 2, padding="valid").double()}),
    "nn.ConvTranspose2d": (Conv, lambda m, x: m.f(x), {"f": nn.ConvTranspose2d(3, 3, 3, 2, 1, 1, groups=3).double()}),
    "F.pad": (Pad, lambda m, x: F.pad(x, (1, 2, 0, 1)), {}),
    "F.pad, by name": (Pad, lambda m, x: F.pad(x, pad=[1, 1], mode="constant", value=0.0), {}),
    "F.pad, crop": (Pad, lambda m, x: F.pad(x, (-1, 0)), {}),
    "nn.ZeroPad2d": (Pad, lambda m, x: m.f(x), {"f": nn.ZeroPad2d((1, 0, 2, 1))}),
    "nn.ConstantPad2d(0)": (Pad, lambda m, x: m.f(x), {"f": nn.ConstantPad2d(2, 0.0)}),
    "F.pad of nothing": (Identity, lambda m, x: F.pad(x, (0, 0, 0, 0)), {}),
    "x + 0": (Identity, lambda m, x: x + 0, {}),
    "x[:, :, 0:]": (Identity, lambda m, x: x[:, :, 0:], {}),
    "x * 1": (Identity, lambda m, x: 1 * x, {}),
    "x / 1": (Identity, lambda m, x: x / 1.0, {}),
    "nn.Dropout": (Identity, lambda m, x: m.f(x), {"f": nn.Dropout(0.3)}),
    "F.dropout": (Identity, lambda m, x: F.dropout(x, 0.3, m.training), {}),
    "nn.Identity": (Identity, lambda m, x: m.f(x), {"f": nn.Identity()}),
}


@pytest.mark.parametrize("way", ["symbolic", "exported", "no example"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_reads(name: str, way: str) -> None:
    """Modules, functions, operators and methods, by all the ways in, mean what they compute."""
    kind, body, parts = SPELLINGS[name]
    torch.manual_seed(0)
    model = Calls(body, **parts).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    if way == "exported":
        graph = export(own_copy(model), Inputs.of(x))
    else:
        graph = captured(model, x if way == "symbolic" else None)
    node = result_of(graph)
    if way == "exported" and node.op == "placeholder":
        assert kind is Identity  # torch.export leaves no trace of it
        return
    reading = read(graph, node)
    if way == "no example" and (reading is None or isinstance(reading.map, Unread)):
        assert kind not in (Conv, Pad)  # rank and dtype of the input are not known, nothing is guessed
        return
    if way == "exported" and kind not in (Affine, Conv, Pad) and reading is None:
        return  # nor how many channels it has
    if way == "exported" and reading is not None and isinstance(reading.map, Unread):
        assert "an axis whose size is unknown" in reading.map.reason  # the model takes one channel as well as three
        return
    assert reading is not None
    assert not isinstance(reading.map, Unread)
    assert isinstance(reading.map, kind), reading.map
    with torch.no_grad():
        assert relative_error(reading.map(x), model(x)) <= TOLERANCE


def test_a_layer_that_computes_with_something_of_its_own_is_no_norm() -> None:
    """A class that replaces what the forward of its base looks up is entered, not taken for its base."""
    layer = Doubling(3).double().eval()
    assert not is_spelled(layer) and is_spelled(Renamed(3)) and not is_spelled(Calling(3))
    graph = captured(layer, torch.zeros(2, 3, 4, 4, dtype=torch.float64))
    reading = read(graph, result_of(graph))
    assert reading is not None and isinstance(reading.map, Affine)
    assert torch.allclose(reading.map.scale, torch.full((3,), 1.7, dtype=torch.float64).rsqrt())


def test_an_instance_norm_of_one_image_without_a_batch_stays_a_layer() -> None:
    """Its channels are the first axis there."""
    norm = nn.InstanceNorm2d(3, track_running_stats=True)
    graph = captured(nn.Sequential(norm).eval(), torch.zeros(3, 5, 5))
    assert result_of(graph).op == "call_module"


def test_batch_norm_reads_from_its_own_rank_where_the_inputs_is_unknown() -> None:
    """Conv without example inputs: the layer documents a batch, so the channels of the norm are known."""
    graph = captured(nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4)))
    reading = read(graph, result_of(graph))
    assert reading is not None and isinstance(reading.map, Affine)
    assert reading.map.axis == -2
    graph = captured(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)))
    reading = read(graph, result_of(graph))
    assert reading is not None and isinstance(reading.map, Unread)
