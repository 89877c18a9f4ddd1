"""Models in dtypes for which runtimes have few kernels: a file that holds, or the advice to export `.float()`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.errors import FusekitError

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Rule(nn.Module):
    def __init__(self, rule: Any, **layers: Any) -> None:
        super().__init__()
        self.rule = rule
        for name, layer in layers.items():
            self.register_buffer(name, layer) if type(layer) is Tensor else setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.rule(self, x)


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))


def pointwise() -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Sigmoid())


@pytest.mark.parametrize("make", [convolution, linear, pointwise])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.float16])
def test_a_file_or_advice(make: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    try:
        verdict = fusekit.export(make().eval().to(dtype), path, IMAGE.to(dtype), measure=False)
    except FusekitError as refusal:
        assert "float()" in str(refusal) and "\n" not in str(refusal)
        assert not path.exists()
    else:
        assert verdict.ok and dtype is not torch.bfloat16
    assert [p.name for p in tmp_path.iterdir()] in ([], ["m.onnx"])


def test_weights_of_another_dtype_than_the_inputs(tmp_path: Path) -> None:
    """What the model casts within: the advice names the dtype all the same."""
    model = Rule(lambda m, x: m.conv(x.bfloat16()).float(), conv=nn.Conv2d(3, 4, 3).bfloat16()).eval()
    with pytest.raises(FusekitError, match=r"bfloat16.*model\.float\(\)"):
        fusekit.export(model, tmp_path / "m.onnx", IMAGE, measure=False)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8])
def test_integer_models(dtype: torch.dtype, tmp_path: Path) -> None:
    model = Rule(lambda m, x: x * m.scale + 1, scale=torch.tensor(3, dtype=dtype)).eval()
    x = torch.arange(6, dtype=dtype).reshape(2, 3)
    try:
        assert fusekit.export(model, tmp_path / "m.onnx", x, measure=False).ok
    except FusekitError as refusal:
        assert "float()" in str(refusal)


OUTPUTS: list[Any] = [
    lambda m, x: (m.conv(x), None),
    lambda m, x: (m.conv(x), m.scale),
    lambda m, x: (m.conv(x), m.conv.weight),
    lambda m, x: {"y": m.conv(x), "n": x.shape[0]},
    lambda m, x: (m.conv(x), 3),
    lambda m, x: m.scale,
    lambda m, x: None,
    lambda m, x: 3.0,
]


@pytest.mark.parametrize("forward", OUTPUTS)
def test_outputs_that_are_no_activations(forward: Any, tmp_path: Path) -> None:
    """None, numbers, parameters: a file, or a sentence."""
    model = Rule(forward, conv=nn.Conv2d(3, 4, 3), scale=nn.Parameter(torch.ones(2))).eval()
    try:
        assert fusekit.export(model, tmp_path / "m.onnx", IMAGE, measure=False).ok
    except FusekitError as refusal:
        assert "\n" not in str(refusal) and "failed:" not in str(refusal)


PARTS: dict[str, Any] = {
    "chunk": lambda m, x: torch.cat(m.conv(x).chunk(2, 2)[::-1], 2),
    "three": lambda m, x: m.conv(x).chunk(3, 3)[-1],
    "negative axis": lambda m, x: m.conv(x).chunk(2, -1)[0],
    "split in half": lambda m, x: torch.cat(m.conv(x).split((x.shape[2] + 1) // 2, 2)[::-1], 2),
    "split": lambda m, x: torch.cat(m.conv(x).split(3, 2)[::-1], 2),
    "channels": lambda m, x: m.conv(x).chunk(2, 1)[1],
}


@pytest.mark.parametrize("name", list(PARTS))
def test_parts_along_free_sizes(name: str, tmp_path: Path) -> None:
    model = Rule(PARTS[name], conv=nn.Conv2d(3, 4, 3, padding=1)).eval()
    verdict = fusekit.export(model, tmp_path / "m.onnx", IMAGE, measure=False)
    assert verdict.ok, verdict.failures
    if name != "split":  # how many parts there are depends on the size
        assert set(next(iter(verdict.dynamic_axes.values()))) == {0, 2, 3}
