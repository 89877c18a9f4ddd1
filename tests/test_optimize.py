"""Random architectures: the optimized model is the model, at every size, and the rewrites really happen.

`FUSEKIT_FUZZ=2000 pytest tests/test_optimize.py` draws that many models; `FUSEKIT_FUZZ_SEED` starts elsewhere.
"""

import os
import random
from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
from fusekit.errors import FusekitError, VerificationError
from fusekit.passes import PASSES, DropIdentity, FoldAffine
from fusekit.report import Outcome
from tests import ledger
from tests.architectures import ResNet50, conv_chain, randomize
from tests.compare import assert_same, call, error_of, normal, report_of

MODELS = int(os.environ.get("FUSEKIT_FUZZ", "150"))
SEED = int(os.environ.get("FUSEKIT_FUZZ_SEED", "0"))
CHUNKS = 10

CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.MaxPool2d, 3: nn.AvgPool3d}


class Arithmetic(nn.Module):
    """x * s + t in one of its spellings, s and t numbers or one per channel."""

    shift: Tensor

    def __init__(self, draw: random.Random, n: int, channels: int) -> None:
        super().__init__()
        self.kind = draw.randrange(7)
        shape = draw.choice([(), (channels, *(1,) * n), (1, channels, *(1,) * n), (1,), (1,) * n])
        self.scale = nn.Parameter(torch.randn(shape) + 2.0)
        self.register_buffer("shift", torch.randn(shape) * draw.choice([0.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        s, t = self.scale, self.shift
        if self.kind == 0:
            return x * s + t
        if self.kind == 1:
            return (x - t) / s
        if self.kind == 2:
            return t - x
        if self.kind == 3:
            return torch.sub(x, t, alpha=2)
        if self.kind == 4:
            return 0.5 * x - 1
        if self.kind == 5:
            return x.mul(s).add(t, alpha=3)
        y = x * 1.5
        y += t
        y *= s
        return y


class Residual(nn.Module):
    """body(x) + x in one of several spellings, or its concatenation."""

    def __init__(self, draw: random.Random, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.kind = draw.randrange(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        if self.kind == 0:
            return y + x
        if self.kind == 1:
            y = y * 2
            y += x
            return y
        return torch.cat([x, y], 1) if self.kind == 2 else torch.add(x, y, alpha=2) + self.body(x)


class Padding(nn.Module):
    """F.pad by constant amounts, crops among them, of zeros or not."""

    def __init__(self, draw: random.Random, n: int) -> None:
        super().__init__()
        self.amounts = [draw.choice([0, 1, 2, -1]) for _ in range(2 * n)]
        self.mode = draw.choice(["constant", "constant", "constant", "replicate"])
        self.value = draw.choice([0.0, 0.0, None, 1.5]) if self.mode == "constant" else None

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.amounts, mode=self.mode, value=self.value)


class Functional(nn.Module):
    """A convolution as a function, its weight computed in forward."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer: Any = layer

    def forward(self, x: Tensor) -> Tensor:
        weight = self.layer.weight * 0.5 + self.layer.weight.mean()
        function = (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3]
        geometry = {"stride": self.layer.stride, "padding": self.layer.padding, "dilation": self.layer.dilation}
        return function(x, weight, self.layer.bias, groups=self.layer.groups, **geometry)


class Odd(nn.Module):
    """Control flow on the shape, so that capture takes its other ways."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if x.shape[-1] % 2 else self.body(x) * 2  # type: ignore[no-any-return]


class Builder:
    """Draws layers and keeps count of the channels."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.n = self.draw.choice([1, 2, 2, 2, 3])
        self.channels = self.inputs = self.draw.choice([1, 2, 3, 4])

    def model(self) -> nn.Module:
        layers = [self.layer(depth=0) for _ in range(self.draw.randint(2, 7))]
        if self.draw.random() < 0.3:
            pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[self.n - 1]
            layers += [pool(1), nn.Flatten(), nn.Linear(self.channels, 3), nn.BatchNorm1d(3)]
        return randomize(nn.Sequential(*layers), self.draw.randrange(1000)).double()

    def layer(self, depth: int) -> nn.Module:
        kinds = ["conv"] * 5 + ["norm"] * 4 + ["transposed", "arithmetic", "arithmetic", "pad", "pad", "relu", "other"]
        kinds += ["residual", "functional", "shared"] if depth == 0 else []
        kinds += ["odd"] if depth == 0 and self.draw.random() < 0.2 else []
        kind: str = self.draw.choice(kinds)
        layer: nn.Module = getattr(self, kind)()
        return layer

    def sizes(self, *choices: int) -> tuple[int, ...]:
        return tuple(self.draw.choice(choices) for _ in range(self.n))

    def conv(self, same: bool = False) -> nn.Module:
        outputs = self.channels if same else self.draw.choice([1, 2, 3, 4, self.channels])
        groups = self.draw.choice([g for g in (1, 1, 2, 3, 4) if self.channels % g == 0 and outputs % g == 0])
        window, dilation = self.sizes(1, 1, 2, 3), self.sizes(1, 1, 2)
        options: dict[str, Any] = {"dilation": dilation, "groups": groups, "bias": self.draw.random() < 0.5}
        if same:
            options |= {"padding": "same"}
        else:
            options |= {"padding": self.sizes(0, 0, 1, 2), "stride": self.sizes(1, 1, 2)}
            if self.draw.random() < 0.1:
                options |= {"padding": self.sizes(0, 1), "padding_mode": self.draw.choice(["replicate", "circular"])}
        layer: nn.Module = CONV[self.n](self.channels, outputs, window, **options)
        self.channels = outputs
        return layer

    def transposed(self) -> nn.Module:
        outputs = self.draw.choice([1, 2, 3, 4, self.channels])
        groups = self.draw.choice([g for g in (1, 2, 3) if self.channels % g == 0 and outputs % g == 0])
        stride, window, dilation = self.sizes(1, 2), self.sizes(1, 2, 3), self.sizes(1, 1, 2)
        extra = tuple(self.draw.randrange(max(s, d)) for s, d in zip(stride, dilation, strict=True))
        options: dict[str, Any] = {"stride": stride, "dilation": dilation, "output_padding": extra, "groups": groups}
        layer: nn.Module = TRANSPOSED[self.n](self.channels, outputs, window, padding=self.sizes(0, 0, 1), **options)
        self.channels = outputs
        return layer

    def norm(self) -> nn.Module:
        layer: nn.Module = NORM[self.n](self.channels, affine=self.draw.random() < 0.8)
        return layer

    def arithmetic(self) -> nn.Module:
        return Arithmetic(self.draw, self.n, self.channels)

    def pad(self) -> nn.Module:
        return Padding(self.draw, self.n)

    def relu(self) -> nn.Module:
        return nn.ReLU(inplace=self.draw.random() < 0.5)

    def other(self) -> nn.Module:
        choices = [nn.Dropout(0.5), nn.Identity(), POOL[self.n](2), nn.Dropout(0.5, inplace=True), nn.LeakyReLU()]
        layer: nn.Module = self.draw.choice(choices)
        return layer

    def functional(self) -> nn.Module:
        layer: Any = self.conv()
        layer.padding_mode = "zeros"
        return Functional(layer)

    def residual(self) -> nn.Module:
        body = nn.Sequential(self.conv(same=True), self.norm(), *([self.relu()] if self.draw.random() < 0.5 else []))
        layer = Residual(self.draw, body)
        self.channels *= 2 if layer.kind == 2 else 1
        return layer

    def shared(self) -> nn.Module:
        conv = self.conv(same=True)
        return nn.Sequential(conv, self.norm(), conv, *([self.relu(), conv] if self.draw.random() < 0.5 else []))

    def odd(self) -> nn.Module:
        return Odd(nn.Sequential(self.layer(1), self.layer(1)))

    def inputs_of_other_sizes(self) -> list[Tensor]:
        sizes = [(2, 9), (1, 9), (3, 12), (1, 8), (2, 15), (0, 9)]
        found = []
        for k, (batch, size) in enumerate(sizes):
            spatial = [size + self.draw.randrange(3) * (k > 1) for _ in range(self.n)]
            found.append(normal(batch, self.inputs, *spatial, seed=k))
        return found


def works(model: nn.Module, x: Tensor) -> bool:
    try:
        call(model, x)
    except (RuntimeError, ValueError):
        return False
    return True


def check(seed: int, applied: Counter[str]) -> None:
    """One random model, without and with example inputs; every refusal but a stated condition is a failure."""
    torch.manual_seed(seed)
    builder = Builder(seed)
    model, inputs = builder.model(), builder.inputs_of_other_sizes()
    inputs = [x for x in inputs if works(model, x)]
    if not inputs:
        applied["skipped"] += 1
        return
    for result in (fusekit.optimize(model), fusekit.optimize(model, inputs[0])):
        report = report_of(result)
        assert not report.rejected, f"seed {seed}: {report}"
        applied.update(event.rewrite for event in report.applied)
        applied[report.capture] += 1
        for x in inputs:
            try:
                given = call(result, x)
            except ValueError as refusal:
                assert report.capture == "torch.export" and "captured for" in str(refusal), f"seed {seed}: {refusal}"
                applied["guarded"] += 1
                continue
            error = error_of(given, call(model, x))
            ledger.record(error)
            assert error <= 1e-10, f"seed {seed}, input {list(x.shape)}, error {error:.1e}\n{model}\n{report}"


_seen: Counter[str] = Counter()

# how often at least in 150 models, for the fuzz to be one: of those passes that it is meant to exercise
EXPECTED = {"drop-identity": 20, "fold-constants": 20, "fold-affine": 200, "fold-affine-in": 15}
EXPECTED |= {"fold-pad": 5, "fold-conv": 30}


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_architectures(chunk: int) -> None:
    """The same function, without and with example inputs, at six batch and spatial sizes, in float64."""
    for index in range(chunk, MODELS, CHUNKS):
        check(SEED + index, _seen)
    if chunk == CHUNKS - 1 and _seen["symbolic trace"] > MODELS:  # the chunks before ran in this process too
        for name in set(PASSES) & set(EXPECTED):
            assert _seen[name] >= EXPECTED[name], f"the fuzz does not bite: {_seen}"
        assert _seen["torch.export"] and _seen["skipped"] < MODELS // 5, f"the fuzz does not bite: {_seen}"


def test_a_real_architecture() -> None:
    """ResNet-50: 53 batch norms gone, nothing rejected, the result judged against float64."""
    model = randomize(ResNet50(10))
    result = fusekit.optimize(model, torch.rand(1, 3, 32, 32))
    report = report_of(result)
    assert sum(event.rewrite == "fold-affine" for event in report.applied) == 53 and not report.rejected
    assert not any(isinstance(module, nn.BatchNorm2d) for module in result.modules())
    x = torch.rand(2, 3, 40, 33)
    assert float((call(result, x) - call(model, x)).norm() / call(model, x).norm()) < 1e-4


def test_passes_can_be_chosen() -> None:
    model, x = randomize(conv_chain(6)).double(), normal(2, 4, 5, 5)
    assert not report_of(fusekit.optimize(model, passes=())).applied
    for chosen in ("fold-affine", ["fold-affine"], [FoldAffine()], ["drop-identity", FoldAffine()]):
        result = fusekit.optimize(model, x, passes=chosen)  # type: ignore[arg-type]
        assert {event.rewrite for event in report_of(result).applied} == {"fold-affine"}
        assert_same(result, model, x)
    assert not report_of(fusekit.optimize(model, passes=[DropIdentity()])).applied
    with pytest.raises(FusekitError, match="no pass named 'fold'"):
        fusekit.optimize(model, passes=["fold"])
    with pytest.raises(FusekitError, match="target must be one of"):
        fusekit.optimize(model, target="tensorrt")
    with pytest.raises(FusekitError, match="example inputs must be"):
        fusekit.optimize(model, 3)


class Wrong(FoldAffine):
    """Forgets the shift, as a hand-written fold might."""

    def propose(self, a: Any, c: Any) -> Any:
        return type(a)(a.scale, a.shift * 0, a.axis) @ c


def test_a_wrong_rewrite_is_rejected_and_rolled_back() -> None:
    model, x = randomize(conv_chain(6)).double(), normal(2, 4, 5, 5)
    for example in (None, x):
        result = fusekit.optimize(model, example, passes=[Wrong()])
        events = report_of(result).events
        assert events and {event.outcome for event in events} == {Outcome.REJECTED}
        assert all("rolled back" in event.reason and (event.error or 0) > 1e-3 for event in events)
        assert_same(result, model, x)
        with pytest.raises(VerificationError, match="fold-affine at"):
            fusekit.optimize(model, example, passes=[Wrong()], strict=True)


def test_time_grows_linearly_with_depth() -> None:
    """Four times the layers, far less than sixteen times the time."""
    seconds = [report_of(fusekit.optimize(conv_chain(length, 2).eval())).seconds for length in (60, 60, 240)]
    assert seconds[2] < 9 * seconds[1]
