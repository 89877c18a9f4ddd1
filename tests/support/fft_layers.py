"""Layers by FFT beside the plain ones."""

from typing import Any

from torch import nn

import fusekit.nn as fnn
from tests.support.compare import normal

FFT: dict[str, Any] = {name: getattr(fnn, name) for name in fnn.__all__ if name.startswith("FFT")}
EXACT = 1e-12


def layer_of(name: str, **options: Any) -> tuple[Any, Any]:
    """A float64 layer of torch and its FFT form, in eval mode, without gradients to the parameters."""
    plain = getattr(nn, name)(**options).double().eval().requires_grad_(False)
    return plain, FFT[f"FFT{name}"].from_conv(plain)


def small(**options: Any) -> tuple[Any, Any]:
    return layer_of("Conv1d", **{"in_channels": 2, "out_channels": 3, "kernel_size": 5, "padding": 2, **options})


X = normal(2, 2, 20)
