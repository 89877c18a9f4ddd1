"""Packed pixels, blocks of positions and repeated entries before a convolution: what folds, what the price refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
from fusekit.algebra import Conv, Interleaved, Nearest, Permute
from fusekit.errors import Inapplicable
from fusekit.runtimes.onnx_runtime import RATES
from fusekit.testing.strategies import relative_error


class Packed(nn.Module):
    """An image as cameras and decoders give it: channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.stem(x.permute(0, 3, 1, 2)).relu()
        return y


def applied(model: nn.Module) -> set[str]:
    return {event.rewrite for event in model.report.applied}  # type: ignore[union-attr]


def test_packed_pixels_are_read_as_they_lie(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Packed(3).double().eval(), torch.randn(2, 12, 15, 3, dtype=torch.float64)
    fast = fusekit.optimize(model, x, target="onnxruntime", measure=False)
    assert "read-interleaved" in applied(fast)
    for size in ((2, 12, 15, 3), (1, 7, 9, 3)):
        x = torch.randn(size, dtype=torch.float64)
        assert relative_error(fast(x), model(x)) < 1e-12
    verdict = fusekit.export(Packed(3).eval(), tmp_path / "model.onnx", x.float(), measure=False)
    assert verdict.ok and "read-interleaved" in {event.rewrite for event in verdict.report.applied}  # type: ignore[union-attr]


@pytest.mark.parametrize(("channels", "target"), [(16, "onnxruntime"), (3, "torch")])
def test_not_with_many_channels_and_not_where_a_permutation_is_a_view(channels: int, target: str) -> None:
    fast = fusekit.optimize(Packed(channels).eval(), torch.randn(2, 12, 15, channels), target=target, measure=False)
    assert "read-interleaved" not in applied(fast)


@pytest.mark.parametrize("padding", [0, 1])
def test_blocks_before_a_convolution(padding: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 8, 3, padding=padding)).double().eval()
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    fast = fusekit.optimize(model, x, measure=False)
    assert applied(fast) == {"fold-blocks"}
    assert [m.kernel_size for m in fast.modules() if isinstance(m, nn.Conv2d)] == [(6, 6)]
    assert relative_error(fast(x), model(x)) < 1e-12


def conv(channels: int, groups: int = 1) -> Conv:
    padding = ((1, 1), (1, 1))
    return Conv.from_torch(torch.randn(channels, channels // groups, 3, 3), None, padding=padding, groups=groups)


def test_thirty_six_taps_become_sixteen() -> None:
    transposed = Nearest((2, 2)).absorbed(conv(4))
    assert transposed.transposed and transposed.window == (4, 4) and transposed.stride == (2, 2)


@pytest.mark.parametrize("factors", [(2, 2), (3, 1)])
@pytest.mark.parametrize("dilation", [(1, 1), (1, 2)])
def test_the_transposed_convolution_is_the_pair(factors: tuple[int, int], dilation: tuple[int, int]) -> None:
    x, weight = torch.randn(2, 3, 5, 6, dtype=torch.float64), torch.randn(4, 3, 3, 2, dtype=torch.float64)
    outer = Conv.from_torch(weight, torch.randn(4, dtype=torch.float64), padding=((2, 0), (0, 1)), dilation=dilation)
    assert relative_error(Nearest(factors).absorbed(outer)(x), outer(Nearest(factors)(x))) < 1e-14


def test_the_convolution_of_a_row_is_the_pair() -> None:
    x, weight = torch.randn(2, 5, 6, 3, dtype=torch.float64), torch.randn(4, 3, 3, 2, dtype=torch.float64)
    outer = Conv.from_torch(weight, None, padding=((2, 0), (0, 1)), stride=(1, 2))
    first = Permute((0, 3, 1, 2))
    assert relative_error(Interleaved(2).absorbed(outer, first)(Interleaved(2)(x)), outer(first(x))) < 1e-14


@pytest.mark.parametrize(("channels", "groups", "pays"), [(64, 1, True), (8, 1, False), (64, 64, False)])
def test_the_price_of_a_transposed_convolution(channels: int, groups: int, *, pays: bool) -> None:
    """As measured in ONNX Runtime: 0.73, 0.96 and 2.2 times the time."""
    shape, upsampling, after = (1, channels, 28, 28), Nearest((2, 2)), conv(channels, groups)
    before = upsampling.work(shape, 4, RATES) + after.work(upsampling.output_shape(shape), 4, RATES)
    assert (upsampling.absorbed(after).work(shape, 4, RATES).price < 0.75 * before.price) == pays


@pytest.mark.parametrize(
    "outer",
    [
        Conv.from_torch(torch.randn(4, 4, 3, 3), None, stride=(2, 1)),
        Conv.from_torch(torch.randn(4, 4, 1, 3), None, padding=((1, 0), (0, 0))),
        Conv.from_torch(torch.randn(4, 4, 3, 3), None, transposed=True),
        Conv.from_torch(torch.randn(4, 4, 3), None),
    ],
)
def test_what_is_no_transposed_convolution(outer: Conv) -> None:
    with pytest.raises(Inapplicable):
        Nearest((2, 2)).absorbed(outer)


@pytest.mark.parametrize(
    ("outer", "axes"),
    [
        (Conv.from_torch(torch.randn(4, 3, 3, 3), None), (0, 2, 3, 1)),
        (Conv.from_torch(torch.randn(4, 1, 3, 3), None, groups=2), (0, 3, 1, 2)),
        (Conv.from_torch(torch.randn(4, 3, 3, 3), None, dilation=(1, 2)), (0, 3, 1, 2)),
    ],
)
def test_what_does_not_read_pixels_in_a_row(outer: Conv, axes: tuple[int, ...]) -> None:
    with pytest.raises(Inapplicable):
        Interleaved(2).absorbed(outer, Permute(axes))


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("layer", [nn.Upsample(scale_factor=2), nn.UpsamplingNearest2d(scale_factor=2), None])
def test_upsampling_is_read_however_it_is_called(layer: nn.Module | None, given: bool) -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.layer = nn.Conv2d(3, 64, 3, padding=1), layer
            self.after = nn.Conv2d(64, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.before(x).relu()
            z: Tensor = self.after(F.interpolate(y, scale_factor=2) if self.layer is None else self.layer(y))
            return z

    model, x = Doubled().double().eval(), torch.randn(1, 3, 12, 16, dtype=torch.float64)
    fast = fusekit.optimize(model, x if given else None, measure=False)
    assert applied(fast) == {"fold-nearest"}
    for size in ((1, 3, 12, 16), (2, 3, 5, 7), (1, 3, 1, 1)):
        x = torch.randn(size, dtype=torch.float64)
        assert relative_error(fast(x), model(x)) < 1e-12


@pytest.mark.parametrize(
    "settings",
    [{"scale_factor": 1.5}, {"size": (24, 32)}, {"scale_factor": 2, "mode": "bilinear"}, {"scale_factor": 2.0,
     "recompute_scale_factor": True}],
)  # fmt: skip
def test_other_resizings_stay_what_they_are(settings: dict[str, Any]) -> None:
    model, x = (
        nn.Sequential(nn.Conv2d(3, 16, 1), nn.Upsample(**settings), nn.Conv2d(16, 16, 3)),
        torch.randn(1, 3, 9, 8),
    )
    fast = fusekit.optimize(model.eval(), x, measure=False)
    assert not applied(fast)
    assert relative_error(fast(x), model(x)) < 1e-6
