"""Numbers at the end of their range: what would overflow, vanish, or move NaN and infinity is refused, no more."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.validation import validate
from tests.support.architectures import randomize
from tests.support.compare import report_of

X = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0)) + 0.5


class Scale(nn.Module):
    def __init__(self, value: float, shift: float = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1, 4, 1, 1), value))
        self.shift = nn.Parameter(torch.full((1, 4, 1, 1), shift))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def conv(i: int = 4, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(i, 4, 3, bias=bias)


def kinds(value: Tensor) -> Tensor:
    return value.isnan() * 1 + value.isposinf() * 2 + value.isneginf() * 3


def norm(var: float, eps: float) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(4, eps=eps)
    with torch.no_grad():
        assert layer.running_var is not None
        layer.running_var[1] = var
    return layer


def layers() -> dict[str, list[nn.Module]]:
    return {
        "product of scales": [conv(3), Scale(1e30), Scale(1e30)],
        "scales that meet again": [conv(3), Scale(1e25), Scale(1e25), Scale(1e-25), Scale(1e-25)],
        "by numbers": [conv(3), Scale(1e20), conv(), Scale(1e20)],
        "shift": [Scale(1.0, 1e30), Scale(1e20)],
        "a variance of zero": [conv(3), norm(0.0, 0.0)],
        "a variance of zero first": [norm(0.0, 0.0), conv()],
        "two kernels": [conv(3), Scale(1e30), nn.Conv2d(4, 4, 1, bias=False), Scale(1e30)],
    }


@pytest.mark.parametrize("name", list(layers()))
@pytest.mark.parametrize("example", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_what_leaves_the_range_is_refused(name: str, example: bool, dtype: torch.dtype) -> None:
    """On inputs great and small: finite wherever the model is well within its range."""
    torch.manual_seed(0)
    model = nn.Sequential(*layers()[name]).eval().to(dtype)
    x = x_of(model, X.to(dtype))
    fast = fusekit.optimize(model, x if example else None, measure=False)
    for scale in (1.0, 1e-3, 1e-30, 1e30):
        ours, theirs = fast(x * scale), model(x * scale)
        within = theirs.isfinite() & (theirs.abs() < 1e-3 * torch.finfo(dtype).max)
        assert bool(ours.isfinite()[within].all()), f"infinite at scale {scale:g}"
    if "variance" in name:
        assert torch.equal(kinds(fast(x)), kinds(model(x)))


def x_of(model: Any, x: Tensor) -> Tensor:
    """An input of as many channels as the first layer takes."""
    return x if isinstance(model[0], nn.Conv2d) else x[:, :1].expand(-1, 4, -1, -1).contiguous()


def test_the_reason_names_the_number() -> None:
    model = nn.Sequential(conv(3), Scale(1e30), Scale(1e30)).eval()
    reasons = [event.reason for event in report_of(fusekit.optimize(model)).refused]
    assert any("as large as" in reason and "beyond float32" in reason for reason in reasons)
    model = nn.Sequential(conv(3), Scale(1e-30), Scale(1e-30)).eval()
    reasons = [event.reason for event in report_of(fusekit.optimize(model)).refused]
    assert any("which is 0 in float32" in reason for reason in reasons)


def test_in_range_it_folds() -> None:
    model = nn.Sequential(conv(3), Scale(1e10, 1.0), Scale(1e-10)).eval()
    fast = fusekit.optimize(model)
    assert len(list(fast.children())) == 1 and not report_of(fast).refused


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["weight", "bias"])
@pytest.mark.parametrize("example", [None, X])
def test_a_layer_with_bad_numbers_is_named_and_left(bad: float, where: str, example: Tensor | None) -> None:
    """What stands before it and beside it is folded; no NaN moves."""
    torch.manual_seed(0)
    first = [conv(3), nn.BatchNorm2d(4), nn.ReLU()]
    layers = [*first, conv(bias=True), nn.BatchNorm2d(4), nn.ReLU(), conv(), nn.BatchNorm2d(4)]
    model = randomize(nn.Sequential(*layers)).eval()
    with torch.no_grad():
        getattr(layers[3], where).view(-1)[0] = bad
    fast = fusekit.optimize(model, example, measure=False)
    left = [name for name, m in fast.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert left == ["4"]
    reasons = [event.reason for event in report_of(fast).refused]
    assert any(f"3.{where} holds NaN or infinity" in reason for reason in reasons)
    assert torch.equal(kinds(fast(X)), kinds(model(X)))
    assert validate(model, fast, X).ok


def test_bad_numbers_behind_which_a_law_would_leave_a_zero_out() -> None:
    """0 · NaN is NaN: a channel that nothing depends on is not dropped behind a layer with NaN."""
    torch.manual_seed(0)
    model = nn.Sequential(conv(3), conv(), nn.ReLU(), conv()).eval()
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = float("nan")  # type: ignore[operator]
        model[3].weight[:, 2] = 0  # type: ignore[operator]
    fast = fusekit.optimize(model)
    assert torch.equal(kinds(fast(X)), kinds(model(X)))


def test_a_mask_of_infinities_is_no_weight() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.last, self.end = nn.Linear(9, 9), nn.Linear(9, 9), nn.Linear(9, 9)
            self.register_buffer("mask", torch.full((9, 9), float("-inf")).triu(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.end(self.last(torch.softmax(self.linear(x) + self.mask, -1)))  # type: ignore[no-any-return]

    model = Masked().eval()
    fast = fusekit.optimize(model, X, measure=False)
    assert sum(isinstance(m, nn.Linear) for m in fast.modules()) == 2
    assert torch.allclose(fast(X), model(X), atol=1e-6)
