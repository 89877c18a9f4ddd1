"""What is also read elsewhere must be computed all the same, and is paid for; a question is not a reading."""

import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.optimizing.options import select
from fusekit.passes import PASSES, STAGES
from fusekit.testing.strategies import relative_error
from tests.support.architectures import randomize

X = torch.randn(2, 4, 9, 10, dtype=torch.float64)


class Branches(nn.Module):
    """Two convolutions concatenated, and a batch norm behind them; `also` says who else reads the concatenation."""

    def __init__(self, also: str) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 3, 3, padding=1)
        self.b = nn.Conv2d(4, 3, 1)
        self.norm = nn.BatchNorm2d(6)
        self.also = also

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = torch.cat([self.a(x), self.b(x)], 1)
        if self.also == "assertion":
            torch._assert(y.ndim == 4, "four axes")
        z = self.norm(y)
        return (z, y.relu()) if self.also == "value" else (z,)


class Asserting(nn.Module):
    """A convolution, questions about its output, and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        torch._assert(y.ndim == 4, "four axes")
        torch._assert(y.dim() == 4, "four axes")
        z: Tensor = self.norm(y.to(y.device))
        return z


class Stubborn(nn.Module):
    """`train` does not return the module, against torch's custom."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y


def convs(module: nn.Module) -> int:
    return sum(isinstance(m, nn.Conv2d) for m in module.modules())


@pytest.mark.parametrize(("also", "folds"), [("nothing", True), ("assertion", True), ("value", False)])
@torch.no_grad()
def test_a_batch_norm_splits_over_a_concatenation_that_is_its_own(also: str, folds: bool) -> None:
    model = randomize(Branches(also)).double()
    fast = fusekit.optimize(model)
    assert any(isinstance(m, nn.BatchNorm2d) for m in fast.modules()) is not folds, fast.report
    assert convs(fast) == 2, "a convolution was copied"
    for ours, theirs in zip(fast(X), model(X), strict=True):
        assert relative_error(ours, theirs) <= 1e-10


@torch.no_grad()
def test_a_question_between_does_not_keep_a_batch_norm() -> None:
    model = randomize(Asserting()).double()
    fast = fusekit.optimize(model)
    assert relative_error(fast(X), model(X)) <= 1e-10
    with pytest.raises(Exception, match=r"four axes|3D|4D|dim"):
        fast(X[0])


@torch.no_grad()
def test_train_need_not_return_the_module() -> None:
    model = Stubborn().double()
    randomize(model.body)
    model.train(False)
    for example in (None, X):
        fast = fusekit.optimize(model, example)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules()), fast.report
        assert relative_error(fast(X), model(X)) <= 1e-10


def test_all_passes_by_name_are_all_passes() -> None:
    """A pass that belongs to two stages is in both, whether named or by default."""
    assert select(list(PASSES)) == list(STAGES)
