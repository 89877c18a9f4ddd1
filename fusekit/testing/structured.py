"""Convolutions whose kernels have the structure that a law looks for, each with an input."""

from dataclasses import replace

import hypothesis.strategies as st
import torch
from torch import Tensor

from fusekit.algebra import (
    COMPLEX,
    QUATERNION,
    Conv,
)
from fusekit.algebra.kernel import coarsen
from fusekit.algebra.products.bilinear import product_tensor
from fusekit.testing.strategies import convs, gaussian, inputs_of

aten = torch.ops.aten


@st.composite
def sparse(draw: st.DrawFn) -> tuple[Conv, Tensor]:
    """A convolution with zeros where a law looks for them: at the edges of the window, or between blocks."""
    conv = draw(convs(n=draw(st.integers(1, 2)), transposed=None))
    kernel = coarsen(conv.kernel, 1) if draw(st.booleans()) else conv.kernel.clone()
    for axis in range(conv.n):
        for edge in draw(st.sampled_from(((0,), (-1,), (0, -1), ()))) if conv.window[axis] > 1 else ():
            kernel.select(3 + axis, edge).zero_()
    return replace(conv, kernel=kernel), draw(inputs_of(conv))


@st.composite
def products(draw: st.DrawFn) -> tuple[Conv, Tensor]:
    """A convolution whose kernel is Σ_r B A, where each factor has some axes of the window; sometimes another
    kernel."""
    n, groups, rank = draw(st.integers(0, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    drawn = draw(convs(n=n, in_channels=4 * groups if n else 4, out_channels=6 * groups if n else 6))
    groups = groups if n else 1
    window = [draw(st.integers(1, 3)) for _ in range(n)]
    along = [draw(st.booleans()) for _ in range(n)]
    first = gaussian(draw, groups, rank, 1, 4, *(k if yes else 1 for k, yes in zip(window, along, strict=True)))
    second = gaussian(draw, groups, rank, 6, 1, *(1 if yes else k for k, yes in zip(window, along, strict=True)))
    kernel = (first * second).sum(1)
    if draw(st.integers(0, 5)) == 0:
        kernel = kernel + gaussian(draw, *kernel.shape)
    conv = replace(drawn, kernel=kernel)
    return conv, draw(inputs_of(conv))


@st.composite
def over_algebras(draw: st.DrawFn) -> tuple[Conv, Tensor]:
    """A convolution whose kernel consists of the blocks of an algebra, in planes or with the parts side by side, with
    some parts zero; sometimes another kernel."""
    algebra = draw(st.sampled_from((COMPLEX, QUATERNION)))
    tensor = product_tensor(algebra, right=draw(st.booleans()))
    n, like = algebra.n, draw(convs(n=draw(st.integers(0, 2)), in_channels=2, out_channels=3, transposed=None))
    weight = gaussian(draw, n, 3, 2, *like.window)
    weight[draw(st.integers(0, 3)) :] = 0
    weight[0] = gaussian(draw, 3, 2, *like.window)
    blocks = torch.einsum("kuj,uoi...->koji...", tensor, weight)
    if draw(st.booleans()):
        blocks = blocks.transpose(0, 1).transpose(2, 3)
    kernel = blocks.flatten(2, 3).flatten(0, 1)[None].clone()
    if draw(st.integers(0, 5)) == 0:
        kernel[0, 0, 0] += 1e-9
    bias = gaussian(draw, 3 * n) if draw(st.booleans()) else None
    conv = replace(like, kernel=kernel, bias=bias)
    return conv, draw(inputs_of(conv))


@st.composite
def partial(draw: st.DrawFn) -> tuple[Conv, Tensor]:
    """A convolution that does not read some parts of its channels, or writes only zeros or the bias to some parts."""
    n = draw(st.integers(2, 4))
    conv = draw(convs(n=draw(st.integers(0, 2)), in_channels=2 * n, out_channels=3 * n, transposed=None))
    kernel = coarsen(conv.kernel, 1).clone()
    parts = kernel[0].unflatten(1, (n, 2)).unflatten(0, (n, 3))
    parts[draw(st.integers(0, n - 1))] = 0
    if draw(st.booleans()):
        parts[:, :, draw(st.integers(0, n - 1))] = 0
    conv = replace(conv, kernel=kernel)
    return conv, draw(inputs_of(conv))
