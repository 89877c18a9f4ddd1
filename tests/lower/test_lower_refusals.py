"""What has no real form is refused by name, module and line of source."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusekit.capture import capture
from fusekit.capture.exported import export
from fusekit.errors import CaptureError
from fusekit.ir import Graph
from fusekit.lower import lowered
from fusekit.model import Inputs

C64 = torch.complex64
X = torch.randn(3, 3, dtype=C64)


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        inverse: Tensor = torch.linalg.inv(y)  # the line that is named
        return inverse


class Middle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x) + 1
        return result


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Middle()])

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.blocks[0](x)
        return result


def symbolic(model: nn.Module, inputs: Inputs) -> Graph:
    return capture(model, inputs).graph


@pytest.mark.parametrize("read", [symbolic, export], ids=["symbolic", "export"])
def test_operator_module_and_line(read: Callable[[nn.Module, Inputs], Graph]) -> None:
    line = Inner.forward.__code__.co_firstlineno + 2
    graph = read(Outer().eval(), Inputs.of(X))
    with pytest.raises(
        CaptureError, match=rf"no real form of linalg_inv .* blocks\.0\.inner\S*, \S+{__name__[6:]}\.py:{line}"
    ):
        lowered(graph)


class Calls(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a matrix norm by singular values": (lambda x: torch.linalg.matrix_norm(x, 2), "singular values"),
    "a nuclear norm": (lambda x: torch.norm(x, p="nuc"), "singular values"),
    "an inverse tangent": (lambda x: torch.atan(x), "atan"),
    "a solution of equations": (lambda x: torch.linalg.solve(x, x), "linalg_solve"),
    "a strided view": (lambda x: torch.as_strided(x, (2, 2), (1, 2)), "as_strided"),
    "powers of the number 0": (lambda x: torch.pow(0, x), "powers of the number 0"),
    "a matrix to the power 0": (lambda x: torch.linalg.matrix_power(x, 0), "the power 0"),
    "random numbers like it": (lambda x: torch.rand_like(x), "rand_like"),
    "the strides of it": (lambda x: x * x.itemsize, "itemsize"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    function, reason = REFUSED[name]
    graph = capture(Calls(function).eval(), Inputs.of(X)).graph
    with pytest.raises(CaptureError, match=rf"no real form of .*{reason}"):
        lowered(graph)
