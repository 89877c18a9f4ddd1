"""The cases of the lowering's benchmark: a module in the state in which it is judged, and its input."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Function = Callable[..., Any]
FLAT, ROW, IMAGE, CUBE, STEPS = (3, 4), (2, 4, 9), (2, 4, 8, 6), (2, 4, 4, 6, 4), (5, 2, 4)  # the last: time first


@dataclass(frozen=True)
class Case:
    """A module of one library, and the tensors it is called with."""

    library: str
    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]

    def module(self) -> nn.Module:
        torch.manual_seed(0)
        np.random.seed(0)  # which speechbrain draws its weights from
        return trained(self.make()).eval()

    def given(self) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        return self.inputs()


class Call(nn.Module):
    """A function of one tensor as a module; `Call2` for two tensors, `Call3` for three. A forward with `*x` would be
    captured in another way than most modules."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class Call2(Call):
    def forward(self, x: Tensor, y: Tensor) -> Any:  # type: ignore[override]
        return self.function(x, y)


class Call3(Call):
    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Any:  # type: ignore[override]
        return self.function(x, y, z)


def layer(library: str, where: Any, kind: str, *arguments: Any, shapes: Any = IMAGE, **options: Any) -> Case:
    """`where.kind(*arguments, **options)`, called with complex tensors of these shapes (or of this one)."""
    given = [*map(_spelled, arguments), *(f"{key}={_spelled(value)}" for key, value in options.items())]
    name = f"{kind}({', '.join(given)})"
    return Case(library, name, lambda: getattr(where, kind)(*arguments, **options), lambda: randn(shapes))


def function(library: str, name: str, call: Function, *shapes: Any, real: bool = False) -> Case:
    """A case for a function of tensors of these shapes."""
    kind = (Call, Call2, Call3)[len(shapes) - 1]
    return Case(library, name, lambda: kind(call), lambda: randn(list(shapes), real=real))


def randn(shapes: Any, real: bool = False) -> tuple[Tensor, ...]:
    several = shapes if isinstance(shapes, list) else [shapes]
    return tuple(torch.randn(shape, dtype=torch.float32 if real else torch.complex64) for shape in several)


def trained(module: nn.Module) -> nn.Module:
    """Give a module other parameters and statistics than a new one has, because ones and zeros could hide errors.

    Variances grow, and covariances stay positive definite. speechbrain leaves its bias `b` as `torch.empty` made it; it
    becomes a number that is the same each time."""
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.is_complex():
                value.add_(0.2 * torch.randn_like(value))
            elif value.is_floating_point():
                last = name.rpartition(".")[2]
                start = torch.zeros_like(value) if last == "b" else value
                value.copy_(start + _noise(last, value))
    return module


def _noise(name: str, value: Tensor) -> Tensor:
    noise = 0.2 * torch.randn_like(value)
    if name.startswith(("running_cov", "moving_V")) or (name == "running_var" and value.shape[:2] == (2, 2)):
        square = value.ndim > 1 and value.shape[0] == value.shape[1]
        return 0.3 * (0.5 * (noise + noise.transpose(0, 1)) if square else noise)
    return noise.abs() if name == "running_var" else noise


def imported(name: str) -> Any:
    """The module, or None where its package is not installed (or does not import beside this torch)."""
    try:
        return import_module(name)
    except ImportError:
        return None


def _spelled(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)
