"""Kernels that are products: exact low rank in channels or between axes of the window.

    K = B · A,  rank R           c = (B, 1x1) ∘ (A, window)  or  (B, window) ∘ (A, 1x1)
    K[o, i, u, v] = Σ_r B[o, r, v] A[r, i, u]                c = (B along v) ∘ (A along u)

The inner factor has no bias and each factor pads the axes it convolves along, so zeros outside stay zeros and the
border is exact, for every stride, dilation and padding. Gaussian, Sobel and bilinear filters, kernels merged from
sequences of layers and adapters of low rank are such products; trained kernels are not. Rank means rank to float64
rounding of the stored weights: singular values below 1e-12 of the largest.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fusekit.algebra.choice import Choice
from fusekit.algebra.composition import Composition
from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Pairs, Shape
from fusekit.algebra.values import wide
from fusekit.errors import Inapplicable

LARGEST = 128  # the ranks that are looked for: telling a larger one apart would cost more than it finds
_ROUNDING = 1e-12


def factored(conv: Conv) -> Choice:
    """All ways to write the map as a product of two with fewer entries; Inapplicable if it has none."""
    if conv.transposed or conv.kernel.is_meta or conv.kernel.dtype.is_complex:
        raise Inapplicable("only plain real kernels are factored")
    found = tuple(_factorizations(conv))
    if not found:
        raise Inapplicable("the kernel is not a product of smaller ones")
    return Choice(found)


def _factorizations(conv: Conv) -> Iterator[Composition]:
    """Cut the axes (in, out, window...) in two: what the inner factor reads, and what the outer one writes."""
    n = conv.n
    for inner_axes in _subsets(n):
        outer_axes = tuple(axis for axis in range(n) if axis not in inner_axes)
        rows = math.prod(conv.window[axis] for axis in inner_axes) * conv.kernel.shape[2]
        columns = math.prod(conv.window[axis] for axis in outer_axes) * conv.kernel.shape[1]
        pays = rows * columns // (rows + columns + 1)  # the largest rank with fewer entries in the factors
        # [group, in, inner window, out, outer window]: a view, of which little is looked at first
        arranged = conv.kernel.permute(0, 2, *(3 + a for a in inner_axes), 1, *(3 + a for a in outer_axes))
        if pays < 1 or not _may_have_rank(arranged[0], 1 + len(inner_axes), min(pays, LARGEST)):
            continue
        factors = _split(wide(arranged).flatten(2 + len(inner_axes)).flatten(1, 1 + len(inner_axes)), pays)
        if factors is not None:
            a, b = factors
            yield Composition((_outer(conv, b, outer_axes), _inner(conv, a, inner_axes)))


def _subsets(n: int) -> Iterator[tuple[int, ...]]:
    """The window axes of the inner factor: none (it is pointwise), all (the outer one is), or any between."""
    for bits in range(2**n):
        yield tuple(axis for axis in range(n) if bits >> axis & 1)


def _may_have_rank(arranged: Tensor, split: int, rank: int) -> bool:
    """False if a small block of the matrix (its first `split` axes are the rows) already has a higher rank: a trained
    kernel is told apart at little cost. In single precision, where a pivot of rounding is near 1e-7."""
    shapes = arranged.shape[:split], arranged.shape[split:]
    sizes = [math.prod(shape) for shape in shapes]
    if rank >= min(sizes):
        return False
    spread = (torch.linspace(0, size - 1, rank + 1).long() for size in sizes)
    rows, columns = (torch.unravel_index(index, shape) for index, shape in zip(spread, shapes, strict=True))
    block = arranged[(*(r[:, None] for r in rows), *(c[None] for c in columns))]
    pivots = torch.linalg.lu_factor_ex(block.float())[0].diagonal().abs()
    return not float(pivots.min()) > 1e-5 * float(pivots.max())


def _split(matrix: Tensor, largest: int) -> tuple[Tensor, Tensor] | None:
    """(A [group, rank, rows], B [group, columns, rank]) with matrix = (B A)ᵀ, the singular values shared; None if the
    rank is larger."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    if not float(s.max()):
        return None
    rank = int((s > _ROUNDING * s.amax()).sum(1).max())
    if rank > min(largest, LARGEST):
        return None
    root = s[:, :rank].sqrt()
    return (u[:, :, :rank] * root[:, None]).mT, (v[:, :rank] * root[:, :, None]).mT


def _inner(conv: Conv, a: Tensor, axes: Shape) -> Conv:
    """A on the axes it convolves along; at every position of the others."""
    window = [conv.window[axis] if axis in axes else 1 for axis in range(conv.n)]
    kernel = a.unflatten(2, (-1, *window))
    stride, padding, dilation = _geometry(conv, axes)
    return Conv(kernel, None, stride, padding, dilation)


def _outer(conv: Conv, b: Tensor, axes: Shape) -> Conv:
    window = [conv.window[axis] if axis in axes else 1 for axis in range(conv.n)]
    kernel = b.unflatten(1, (-1, math.prod(window))).transpose(2, 3).unflatten(3, window) if window else b
    stride, padding, dilation = _geometry(conv, axes)
    return Conv(kernel, conv.bias, stride, padding, dilation)


def _geometry(conv: Conv, axes: Shape) -> tuple[Shape, Pairs, Shape]:
    """Stride, padding and dilation on these axes, none on the others."""
    here = [axis in axes for axis in range(conv.n)]
    stride = tuple(s if yes else 1 for s, yes in zip(conv.stride, here, strict=True))
    padding = tuple(p if yes else (0, 0) for p, yes in zip(conv.padding, here, strict=True))
    dilation = tuple(d if yes else 1 for d, yes in zip(conv.dilation, here, strict=True))
    return stride, padding, dilation
