"""Compares whole outputs: tensors by relative error, containers by structure, everything else by equality."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fusekit.testing.strategies import relative_error

EXACT = 1e-10


def fresh(arguments: Any) -> Any:
    """Copies of the arguments, because a forward may overwrite its inputs."""
    return pytree.tree_map_only(Tensor, torch.clone, arguments)


def call(model: nn.Module, *arguments: Any, **keywords: Any) -> Any:
    """The model's output on copies of the arguments, without gradients."""
    with torch.no_grad():
        return model(*fresh(arguments), **fresh(keywords))


def error_of(ours: Any, theirs: Any) -> float:
    """The largest relative error over the tensors of two outputs of the same structure and dtypes."""
    (left, ours_spec), (right, theirs_spec) = pytree.tree_flatten(ours), pytree.tree_flatten(theirs)
    assert ours_spec == theirs_spec, f"{ours_spec} against {theirs_spec}"
    worst = 0.0
    for a, b in zip(left, right, strict=True):
        if isinstance(b, Tensor):
            assert isinstance(a, Tensor) and a.dtype == b.dtype, f"{a!r} for a tensor of {b.dtype}"
            wide = torch.complex128 if b.is_complex() else torch.float64
            worst = max(worst, relative_error(a.detach().to(wide), b.detach().to(wide)))
        else:
            assert a == b, f"{a!r} against {b!r}"
    return worst


def assert_same(ours: nn.Module, theirs: nn.Module, *arguments: Any, **keywords: Any) -> None:
    """Assert that two models have the same outputs on these arguments, up to rounding in float64."""
    error = error_of(call(ours, *arguments, **keywords), call(theirs, *arguments, **keywords))
    assert error <= EXACT, f"relative error {error:.1e}"


def report_of(module: nn.Module) -> Any:
    return module.report


def normal(*shape: int, seed: int = 0) -> Tensor:
    """A Gaussian float64 tensor."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
