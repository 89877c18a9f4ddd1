"""Kernels that consist of the blocks of an algebra."""

from typing import Any

import torch
from torch import Tensor

from fusekit.algebra import QUATERNION, Conv, HypercomplexAlgebra
from fusekit.algebra.products.bilinear import product_tensor
from tests.support.compare import report_of


def kernel_of(algebra: HypercomplexAlgebra, weight: Tensor, *, right: bool = False, inner: bool = False) -> Tensor:
    """The dense kernel [1, n out, n in, *window] of w x or x w for a weight [n, out, in, *window]."""
    blocks = torch.einsum("kuj,uoi...->koji...", product_tensor(algebra, right=right).to(weight), weight)
    blocks = blocks.transpose(0, 1).transpose(2, 3) if inner else blocks
    return blocks.flatten(2, 3).flatten(0, 1)[None]


def quaternion_conv(out: int = 2, inputs: int = 3, dtype: torch.dtype = torch.float64) -> Conv:
    weight = torch.randn(4, out, inputs, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = kernel_of(QUATERNION, weight.to(dtype))
    return Conv(kernel, torch.ones(4 * out, dtype=dtype), (1, 1), ((1, 1), (1, 1)), (1, 1))


def names_of(module: Any) -> list[str]:
    """The rewrites that were applied to a network of such kernels."""
    return [event.rewrite for event in report_of(module).applied if event.rewrite != "fold-constants"]
