"""Scales of channels: the law, what is refused and why, and that ranges become narrow."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fusekit
from fusekit.algebra import Conv
from fusekit.optimizing.equalize_channels import NAME, scaled
from fusekit.report import Event


class Wide(nn.Module):
    """A convolution whose channels range over four decades, something between, and a reader."""

    def __init__(self, between: nn.Module, groups: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.between = between
        self.last = nn.Conv2d(8, 4, 3, padding=1, groups=groups)
        with torch.no_grad():
            self.first.weight.mul_(torch.logspace(-2, 2, 8)[:, None, None, None])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.between(self.first(x)))
        return y


def equalized(model: nn.Module, x: Tensor | None = None) -> nn.Module:
    return fusekit.equalize(model.double().eval(), images() if x is None else x, passes=(), strict=True)


def images() -> Tensor:
    return torch.randn(2, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def events(module: nn.Module) -> list[Event]:
    return [event for event in module.report.events if event.rewrite == NAME]  # type: ignore[union-attr]


def applied(module: nn.Module) -> list[str]:
    return [event.where for event in events(module) if event.outcome == "applied"]


def reasons(module: nn.Module) -> str:
    return "; ".join(event.reason for event in events(module) if event.outcome == "refused")


def spread(weight: Tensor) -> float:
    ranges = weight.detach().abs().flatten(1).amax(1)
    return float(ranges.max() / ranges.min())


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 2]),
    st.booleans(),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(0, 3),
    st.integers(0, 1000),
)
def test_the_law_of_one_layer(groups: int, transposed: bool, stride: int, padding: int, n: int, seed: int) -> None:
    """c'(x / s) t = c(x) for c' = scaled(c, s, t), zero padding and strides included."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    if n == 0:
        conv = Conv.from_torch(drawn(6, 4), drawn(6))
    else:
        weight = drawn(4, 6 // groups, *(3,) * n) if transposed else drawn(6, 4 // groups, *(3,) * n)
        geometry = {"stride": (stride,) * n, "padding": ((padding, padding),) * n, "dilation": (1,) * n}
        conv = Conv.from_torch(weight, drawn(6), groups=groups, transposed=transposed, **geometry)  # type: ignore[arg-type]
    x = drawn(2, 4, *(5,) * n)
    s, t = drawn(4).exp(), drawn(6).exp()
    along = (-1, *(1,) * n)
    torch.testing.assert_close(scaled(conv, s, t)(x / s.reshape(along)) * t.reshape(along), conv(x))


COMMUTING = {
    "ReLU": nn.ReLU(),
    "leaky ReLU": nn.LeakyReLU(0.1),
    "PReLU of channels": nn.PReLU(8),
    "PReLU of one slope": nn.PReLU(),
    "nothing": nn.Identity(),
    "max pool": nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, 1, 1)),
    "average pool": nn.Sequential(nn.ReLU(), nn.AvgPool2d(2, 1)),
    "pad of zeros": nn.Sequential(nn.ReLU(), nn.ZeroPad2d((1, 2, 3, 0))),
    "depthwise": nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU()),
}


@pytest.mark.parametrize("between", COMMUTING.values(), ids=list(COMMUTING))
def test_ranges_become_narrow_and_the_function_stays(between: nn.Module) -> None:
    model = Wide(between)
    even = equalized(model)
    assert {"first", "last"} <= set(applied(even))
    torch.testing.assert_close(even(images()), model(images()), rtol=1e-11, atol=1e-11)
    assert spread(even.first.weight) < spread(model.first.weight) / 20  # type: ignore[union-attr, arg-type]


NOT_COMMUTING = {
    "ReLU6": (nn.ReLU6(), "ReLU6"),
    "sigmoid": (nn.Sigmoid(), "Sigmoid"),
    "SiLU": (nn.SiLU(), "SiLU"),
    "pad of a value": (nn.ConstantPad2d(1, 0.5), "pad"),
}


@pytest.mark.parametrize("name", NOT_COMMUTING)
def test_what_does_not_commute_is_refused_with_a_reason(name: str) -> None:
    between, word = NOT_COMMUTING[name]
    model = Wide(between)
    even = equalized(model)
    assert applied(even) == []
    assert word.lower() in reasons(even).lower() and "commute" in reasons(even)
    torch.testing.assert_close(even(images()), model(images()), rtol=0, atol=0)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b, self.c = (nn.Conv2d(i, 8, 3, padding=1) for i in (2, 8, 8))
        self.d = nn.Conv2d(16, 3, 1)
        with torch.no_grad():
            self.a.weight.mul_(torch.logspace(-2, 2, 8)[:, None, None, None])

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x))
        z = F.relu(self.b(y) + y)
        result: Tensor = self.d(torch.cat([F.relu(self.c(z)), z], 1))
        return result


def test_sums_and_concatenations_share_scales() -> None:
    model = Residual()
    even: Any = equalized(model)
    assert {"a", "b", "c", "d"} <= set(applied(even))
    torch.testing.assert_close(even(images()), model(images()), rtol=1e-11, atol=1e-11)
    ratios = [(m.weight / e.weight).detach() for m, e in ((model.a, even.a), (model.b, even.b))]
    # the scale of a's output channel; behind b it is the same one, times that of b's input
    s = ratios[0][:, 0, 0, 0]
    torch.testing.assert_close(ratios[1][:, :, 0, 0], s[:, None] / s[None, :], rtol=1e-9, atol=0.0)


class Shared(Wide):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(F.relu(self.first(F.relu(self.first(x))[:, :2])))
        return y


class TwoOutputs(Wide):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        y = F.relu(self.first(x))
        return y, self.last(y)


def test_shared_weights_and_outputs_keep_their_scale() -> None:
    shared = equalized(Shared(nn.ReLU()))
    assert applied(shared) == [] and "shared" in reasons(shared)
    two = equalized(TwoOutputs(nn.ReLU()))
    assert applied(two) == [] and "output" in reasons(two)


def test_dead_channels_do_no_harm() -> None:
    model = Wide(nn.ReLU())
    with torch.no_grad():
        model.first.weight[2] = 0
        model.last.weight[:, 5] = 0
    even = equalized(model)
    assert applied(even) == ["first", "last"]
    torch.testing.assert_close(even(images()), model(images()), rtol=1e-11, atol=1e-11)


def test_float32_and_a_file(tmp_path: Path) -> None:
    model, x = Wide(nn.PReLU(8)).eval(), images().float()
    even = fusekit.equalize(model, x)
    assert next(even.parameters()).dtype == torch.float32
    assert fusekit.export(even, tmp_path / "even.onnx", x, optimize=False).ok
    assert fusekit.validate(model, tmp_path / "even.onnx", x).ok


def test_bad_arguments_are_told_in_a_line() -> None:
    with pytest.raises(fusekit.FusekitError, match="needs example inputs"):
        fusekit.equalize(nn.ReLU(), None)
    with pytest.raises(fusekit.FusekitError, match="expected an nn.Module"):
        fusekit.equalize(3, torch.ones(1))  # type: ignore[arg-type]
    with pytest.raises(fusekit.FusekitError, match="use-planar-conv is a realization"):
        fusekit.equalize(Wide(nn.ReLU()), images().float(), passes=["use-planar-conv"])


def test_export_equalizes_only_if_asked(tmp_path: Path) -> None:
    model, x, file = Wide(nn.ReLU()).eval(), images().float(), tmp_path / "even.onnx"
    plain = fusekit.export(model, file, x, passes=())
    assert plain.ok and plain.report is not None and all(event.rewrite != NAME for event in plain.report.events)
    file.unlink()
    with pytest.raises(fusekit.FusekitError, match="give passes="):
        fusekit.export(model, file, x, optimize=False, equalize=True)
    assert list(tmp_path.iterdir()) == []
    even = fusekit.export(model, file, x, passes=(), equalize=True)
    assert even.ok and even.report is not None
    assert [event.where for event in even.report.applied if event.rewrite == NAME] == ["first", "last"]


class Branching(nn.Module):
    """Its code cannot be captured: it depends on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = Wide(nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.wide(x)
        return y if float(x.sum()) > 0 else -y


def test_nothing_to_narrow_is_told() -> None:
    assert "no channel between two layers" in reasons(equalized(nn.Sequential(nn.ReLU())))
    branching = equalized(Branching())
    assert applied(branching) == [] and "cannot be captured as a whole" in reasons(branching)
