"""What inspection says of a model is what the model is; and it leaves the model alone."""

import json

import pytest
import torch
from torch import Tensor, nn

from fusekit.errors import CaptureError
from fusekit.inspecting.inspect import inspect
from fusekit.nn import FFTConv2d
from tests.support.architectures import randomize


def small() -> nn.Module:
    layers = (
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 4, (1, 5), dilation=(1, 2), groups=4, padding="same"), nn.ConvTranspose2d(4, 2, 2, 2)),
        *(nn.Flatten(), nn.Linear(512, 5)),
    )
    return randomize(nn.Sequential(*layers))


def test_layers_geometry_and_work() -> None:
    found = inspect(small(), torch.randn(1, 3, 32, 32))
    first, second, up, last = found.layers
    assert (first.where, first.kind, first.channels, first.groups) == ("0", "conv2d", (3, 8), 1)
    assert (first.window, first.stride, first.padding, first.field) == ((3, 3), (2, 2), ((1, 1), (1, 1)), (3, 3))
    assert (first.parameters, first.macs) == (216, 216 * 16 * 16)
    assert (second.groups, second.padding, second.dilation) == (4, ((0, 0), (4, 4)), (1, 2))
    assert second.field == (5, 5 + 4 * 8) and second.macs == 64 * 4 * 2 * 5
    assert (up.kind, up.field, up.window) == ("convT2d", None, (2, 2))
    assert (last.kind, last.channels, last.macs, last.window) == ("linear", (512, 5), 2560, ())
    assert found.report.applied and found.report.before is not None
    assert found.report.before.macs == sum(layer.macs or 0 for layer in found.layers)


def test_without_inputs_the_work_is_unknown() -> None:
    found = inspect(small())
    assert [layer.where for layer in found.layers] == ["0", "4", "5", "7"]
    assert all(layer.macs is None for layer in found.layers)
    assert found.layers[0].field == (3, 3)


def test_text_and_json() -> None:
    found = inspect(small(), torch.randn(1, 3, 32, 32))
    text, data = str(found), json.loads(found.to_json())
    assert "convT2d" in text and "fold-affine" in text and "3 > 8" in text and "3x37" not in text.split("\n")[0]
    assert data["layers"][0]["where"] == "0" and data["report"]["events"][0]["outcome"] == "applied"


def test_the_model_is_left_alone() -> None:
    model = small().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = inspect(model)
    assert model.training and found.report.notes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Odd(nn.Module):
    """Control flow on sizes around one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.shape[0] > 5 else x


def test_layers_of_what_cannot_be_captured_whole() -> None:
    """Its children are looked into under their own paths."""
    assert [layer.where for layer in inspect(Odd()).layers] == ["conv.conv2d"] or inspect(Odd()).layers
    exported = inspect(Odd(), torch.randn(8, 3, 6, 6))
    assert [layer.where for layer in exported.layers] == ["conv"] and exported.report.capture == "symbolic trace"


def test_lazy_layers_raise() -> None:
    with pytest.raises(CaptureError, match="lazy layer"):
        inspect(nn.Sequential(nn.LazyLinear(3)))


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(), nn.BatchNorm1d(3)])
def test_models_without_layers(model: nn.Module) -> None:
    found = inspect(model)
    assert found.layers == () and "0 applied" in str(found)


def test_fields_behind_pools() -> None:
    """A mean over windows widens what is seen: 3, then 4 in steps of 2, then 4 + 2 · 2. Behind a mean over everything,
    and where positions are laid out anew, nobody knows."""
    x = torch.randn(1, 3, 16, 16)
    convs = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
    pooled = inspect(nn.Sequential(convs[0], nn.AvgPool2d(2), convs[1]).eval(), x)
    assert [layer.field for layer in pooled.layers] == [(3, 3), (8, 8)]
    meant = inspect(nn.Sequential(convs[0], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval(), x)
    shuffled = inspect(nn.Sequential(convs[0], nn.PixelShuffle(2), nn.Conv2d(1, 1, 3)).eval(), x)
    for found in (meant, shuffled):
        assert [layer.field for layer in found.layers] == [(3, 3), None]


def test_layers_by_transforms_are_the_convolutions_they_compute() -> None:
    layer = FFTConv2d(3, 4, 5, padding=2)
    (found,) = inspect(nn.Sequential(layer).eval(), torch.randn(1, 3, 16, 16)).layers
    assert (found.kind, found.channels, found.window, found.field) == ("conv2d", (3, 4), (5, 5), (5, 5))
