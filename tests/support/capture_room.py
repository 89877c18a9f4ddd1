"""Helpers for the tests of capture: a model with a given forward, optimized in both ways and compared at every size."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
from tests.support.architectures import randomize
from tests.support.compare import EXACT, assert_same, call, error_of, normal, report_of

X = normal(2, 3, 6, 6)
OTHER = (normal(1, 3, 6, 6), normal(3, 3, 7, 9), normal(2, 3, 5, 4))


class Pair(nn.Module):
    """A convolution and a batch norm that can be folded. Every model here contains one."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


Forward = Callable[[Any, Tensor], Any]


class Host(nn.Module):
    """A model with two pairs, a batch norm, an in-place ReLU and tensors. A subclass gives the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm, self.relu = Pair(), Pair(), nn.BatchNorm2d(3), nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.plain = torch.randn(3, 3, 3, 3)
        self.register_buffer("kernel", torch.randn(3, 3, 3, 3))
        self.scale = nn.Parameter(torch.randn(1, 3, 1, 1))


def host(forward: Forward) -> nn.Module:
    """A model with this forward."""
    kind: type[nn.Module] = type("Hosted", (Host,), {"forward": forward})
    return kind()


def prepared(model: nn.Module) -> nn.Module:
    """The model in float64 and eval mode, with statistics of its own. Plain tensor attributes are converted too."""
    randomize(model).double()
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                setattr(module, name, value.double())
    return model.eval()


def both_ways(model: nn.Module, x: Tensor = X, others: tuple[Tensor, ...] = OTHER) -> list[nn.Module]:
    """Optimize without and with example inputs, and compare each result with the model on `x` and on `others`. The
    others may be refused."""
    results = [fusekit.optimize(model), fusekit.optimize(model, x)]
    for result in results:
        assert_same(result, model, x)
        for other in others:
            same_or_refused(result, model, other)
        assert not report_of(result).rejected, str(report_of(result))
    return results


def same_or_refused(result: nn.Module, model: nn.Module, *arguments: Any) -> bool:
    """Assert the same outputs, or a ValueError that says which inputs the program was captured for."""
    try:
        ours = call(result, *arguments)
    except ValueError as error:
        assert "captured for inputs with" in str(error)
        return False
    assert error_of(ours, call(model, *arguments)) <= EXACT
    return True


def folds(result: nn.Module) -> int:
    return sum(event.rewrite == "fold-affine" for event in report_of(result).applied)


def parity(m: Any, x: Tensor) -> Tensor:
    if x.shape[3] % 2:
        x = F.pad(x, (0, 1))
    return m.a(x)  # type: ignore[no-any-return]
