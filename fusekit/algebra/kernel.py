"""Arithmetic on kernels `[group, out, in, *window]`: regrouping, composition, placement on a larger window."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fusekit.algebra.map import Shape
from fusekit.algebra.operators import CONV_TRANSPOSE
from fusekit.algebra.values import wide


def coarsen(kernel: Tensor, groups: int) -> Tensor:
    """The same map with fewer groups: blocks of neighbouring groups become block-diagonal, zeros elsewhere."""
    merged = kernel.shape[0] // groups
    if merged == 1:
        return kernel
    out, inputs, *window = kernel.shape[1:]
    dense = kernel.new_zeros(groups, merged, out, merged, inputs, *window)
    for block in range(merged):
        dense[:, block, :, block] = kernel[block::merged]
    return dense.reshape(groups, merged * out, merged * inputs, *window)


def compose_kernels(outer: Tensor, inner: Tensor, outer_step: Shape, inner_step: Shape) -> tuple[Tensor, Shape]:
    """The kernel of outer ∘ inner and its dilation, in float64.

        W[o] = Σ W2[v] W1[u]  over  o = inner_step u + outer_step v

    where outer_step is s1 d2 and inner_step is d1. That sum is a transposed convolution of W2 with W1 of stride
    outer_step and dilation inner_step; taps lie on multiples of D, the common divisor of the steps in use, and every
    D-th is kept. Groups of different number are first coarsened to gcd(g1, g2).
    """
    groups = math.gcd(outer.shape[0], inner.shape[0])
    outer, inner = coarsen(wide(outer), groups), coarsen(wide(inner), groups)
    n = outer.ndim - 3
    if all(k == 1 for k in (*outer.shape[3:], *inner.shape[3:])):
        kernel = torch.bmm(outer.flatten(2), inner.flatten(2))
        return kernel.reshape(*kernel.shape, *(1,) * n), (1,) * n
    # groups of the transposed convolution: rows of W2 as a batch [out, group * mid, *k2]
    rows = outer.transpose(0, 1).flatten(1, 2)
    full = CONV_TRANSPOSE[n](rows, inner.flatten(0, 1), stride=outer_step, dilation=inner_step, groups=groups)
    kernel = full.unflatten(1, (groups, inner.shape[2])).transpose(0, 1)
    steps = ([inner_step[i]] * (inner.shape[3 + i] > 1) + [outer_step[i]] * (outer.shape[3 + i] > 1) for i in range(n))
    dilation = tuple(math.gcd(*step) or 1 for step in steps)
    return kernel[(..., *(slice(None, None, d) for d in dilation))].contiguous(), dilation


def multiply_pointwise(outer: Tensor, inner: Tensor) -> Tensor:
    """The product of two kernels of which one has a single tap: matrices multiplied, the other's taps kept."""
    groups = math.gcd(outer.shape[0], inner.shape[0])
    outer, inner = coarsen(wide(outer), groups), coarsen(wide(inner), groups)
    window = outer.shape[3:] if math.prod(outer.shape[3:]) > 1 else inner.shape[3:]
    product = torch.einsum("gomv,gmiu->goivu", outer.flatten(3), inner.flatten(3))
    return product.reshape(*product.shape[:3], *window)


def embed_kernel(kernel: Tensor, window: Shape, places: Sequence[tuple[int, int]]) -> Tensor:
    """The kernel with its taps at start + step u of a larger window, (start, step) per axis, zeros elsewhere."""
    placed = kernel.new_zeros(*kernel.shape[:3], *window)
    taps = tuple(
        slice(start, start + step * (k - 1) + 1, step)
        for (start, step), k in zip(places, kernel.shape[3:], strict=True)
    )
    placed[(slice(None), slice(None), slice(None), *taps)] = kernel
    return placed
