"""Every complex layer, with an input for it. The tests and the table in docs/hypercomplex.md use this list."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import fusekit.nn as fnn

DOUBLE = torch.complex128


@dataclass(frozen=True)
class Case:
    """A name, a function that makes the layer for a dtype, and the shape of an input."""

    name: str
    make: Callable[[torch.dtype], nn.Module]
    shape: tuple[int, ...]

    def module(self, dtype: torch.dtype = DOUBLE) -> nn.Module:
        """The layer in evaluation mode, with other parameters and statistics than a new layer has."""
        torch.manual_seed(0)
        made = self.make(dtype)
        for name, value in [*made.named_parameters(), *made.named_buffers()]:
            with torch.no_grad():
                if name.endswith(("running_covar", "running_var")):
                    value.copy_(torch.rand_like(value) * 0.5)
                    value[..., : 2 if name.endswith("covar") else None] += 1
                elif value.is_complex() or value.is_floating_point():
                    value.add_(torch.randn_like(value), alpha=0.3)
        return made.eval()

    def input(self, dtype: torch.dtype = DOUBLE) -> Tensor:
        return torch.randn(self.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def _case(
    name: str, *arguments: Any, shape: tuple[int, ...], suffix: str = "", typed: bool = True, **options: Any
) -> Case:
    kind: Any = getattr(fnn, name)

    def make(dtype: torch.dtype) -> nn.Module:
        made: nn.Module = kind(*arguments, **options, **({"dtype": dtype} if typed else {}))
        return made

    return Case(f"{name}{suffix}", make, shape)


_SIZES = {1: (2, 4, 7), 2: (2, 4, 5, 6), 3: (2, 4, 4, 3, 4)}

CASES = [
    *(_case(f"ComplexConv{n}d", 4, 6, 3, stride=2, padding=1, groups=2, shape=s) for n, s in _SIZES.items()),
    _case("ComplexConv2d", 4, 3, 3, padding="same", suffix=", same", bias_form="parts", shape=_SIZES[2]),
    _case("ComplexConv2d", 4, 3, 3, padding=1, padding_mode="circular", suffix=", circular", shape=_SIZES[2]),
    *(
        _case(f"ComplexConvTranspose{n}d", 4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, shape=s)
        for n, s in _SIZES.items()
    ),
    _case("ComplexLinear", 4, 3, shape=(2, 5, 4)),
    *(_case(f"ComplexBatchNorm{n}d", 4, shape=s) for n, s in _SIZES.items()),
    *(_case(f"NaiveComplexBatchNorm{n}d", 4, shape=s) for n, s in _SIZES.items()),
    _case("ComplexLayerNorm", (4, 7), shape=_SIZES[1]),
    _case("ComplexLSTM", 4, 3, shape=(5, 2, 4)),
    _case("ComplexLSTM", 4, 3, 2, batch_first=True, bidirectional=True, suffix=", deep", shape=(2, 5, 4)),
    _case("ComplexLSTM", 4, 3, product="parts", suffix=", parts", shape=(5, 2, 4)),
    _case("ComplexGRU", 4, 3, shape=(5, 2, 4)),
    _case("ComplexGRU", 4, 3, product="parts", suffix=", parts", shape=(5, 2, 4)),
    _case("NaiveComplexLSTM", 4, 3, shape=(5, 2, 4)),
    _case("NaiveComplexGRU", 4, 3, shape=(5, 2, 4)),
    _case("ComplexLSTMCell", 4, 3, shape=(2, 4)),
    _case("ComplexGRUCell", 4, 3, shape=(2, 4)),
    *(_case(f"ComplexAvgPool{n}d", 2, typed=False, shape=s) for n, s in _SIZES.items()),
    *(_case(f"ComplexAdaptiveAvgPool{n}d", 1, typed=False, shape=s) for n, s in _SIZES.items()),
    *(_case(f"ComplexMaxPool{n}d", 2, typed=False, shape=s) for n, s in _SIZES.items()),
    _case("ComplexUpsample", scale_factor=2, typed=False, shape=_SIZES[2]),
    _case("ComplexDropout", typed=False, shape=_SIZES[2]),
    *(_case(f"ComplexDropout{n}d", typed=False, shape=s) for n, s in _SIZES.items()),
    _case("CReLU", typed=False, shape=_SIZES[2]),
    _case("ZReLU", typed=False, shape=_SIZES[2]),
    _case("Cardioid", typed=False, shape=_SIZES[2]),
    _case("CTanh", typed=False, shape=_SIZES[2]),
    _case("CTanh", "holomorphic", typed=False, suffix=", holomorphic", shape=_SIZES[2]),
    _case("CSigmoid", typed=False, shape=_SIZES[2]),
    _case("CSigmoid", "holomorphic", typed=False, suffix=", holomorphic", shape=_SIZES[2]),
    _case("ModReLU", 4, shape=_SIZES[2]),
    _case("CPReLU", 4, shape=_SIZES[2]),
]


def leaves(result: Any) -> list[Tensor]:
    """The tensors of a nested result."""
    if isinstance(result, Tensor):
        return [result]
    return [leaf for part in result for leaf in leaves(part)]
