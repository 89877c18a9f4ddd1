"""Kernels made of blocks: a layer over an algebra, found again in the real kernel that it became.

    K[(k, o), (j, i)] = Σ_u T[k, u, j] F_u[o, i]        T [y, w, x] the product, F_u the parts of the weight

Complex kernels are [[R, -I], [I, R]]; quaternion ones have sixteen blocks of four; parameterised ones Σ_u A_u ⊗ F_u.
Whoever made them, the blocks are numbers that agree to the last bit, or to float64 rounding: trained kernels are told
apart on a few entries. What the blocks of a kernel span tells all: n² of them, of which at most n are independent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fusekit.algebra.conv import Conv
from fusekit.algebra.products.bilinear import KNOWN
from fusekit.algebra.values import wide
from fusekit.errors import Inapplicable

SIZES = (8, 4, 3, 2)
_LEARNED = (2, 3, 4)  # sizes at which any algebra is looked for, not only those of a name
_EXACT = 1e-12


@dataclass(frozen=True, eq=False)
class Blocks:
    """`tensor` T [n, r, n] and `weight` F [r, out / n, in / n, *window] in float64; `inner`: the parts of a number lie
    side by side in the channels, not in planes one behind the other. Both on the CPU."""

    tensor: Tensor
    weight: Tensor
    inner: bool = False

    @property
    def n(self) -> int:
        return int(self.tensor.shape[0])


def require_plain(conv: Conv) -> None:
    """Inapplicable for kernels that have no blocks to look at."""
    if conv.groups != 1 or conv.kernel.is_meta or not conv.kernel.is_floating_point():
        raise Inapplicable("only plain dense kernels are looked at")


def blocks_of(conv: Conv) -> Iterator[Blocks]:
    """Every structure that the kernel has, larger algebras first."""
    require_plain(conv)
    kernel = conv.kernel[0].cpu()
    for n in SIZES:
        for inner in (False, True):
            parts = parted(kernel, n, inner)
            found = None if parts is None else _structure(parts, inner)
            if found is not None:
                yield found


def parted(kernel: Tensor, n: int, inner: bool) -> Tensor | None:
    """A view of [out, in, *window] as blocks [n, n, out / n, in / n, *window]; None if n does not divide them."""
    if kernel.shape[0] % n or kernel.shape[1] % n or not kernel.numel():
        return None
    sizes = (-1, n) if inner else (n, -1)
    split: Tensor = kernel.unflatten(1, sizes).unflatten(0, sizes)
    order = (1, 3, 0, 2) if inner else (0, 2, 1, 3)
    return split.permute(*order, *range(4, split.ndim))


def _structure(parts: Tensor, inner: bool) -> Blocks | None:
    sample = sampled(parts)
    n = len(parts)
    for _, tensor, _ in KNOWN:
        if len(tensor) == n and _agree(_made(tensor, sample[:, 0]), sample):
            weight = wide(parts[:, 0])
            if _agree(_made(tensor, weight), parts):
                used = weight.flatten(1).any(1)
                if not bool(used.any()):
                    return None  # a kernel of zeros is of no algebra
                return Blocks(tensor[:, used], weight[used], inner) if n in _LEARNED else Blocks(tensor, weight, inner)
    return _learned(parts, sample, inner) if n in _LEARNED else None


def _learned(parts: Tensor, sample: Tensor, inner: bool) -> Blocks | None:
    """Any product: at most n of the n² blocks are independent, and all are combinations of these."""
    n, matrix = len(parts), sample.flatten(0, 1)
    if matrix.shape[1] < 2 * n * n:
        return None  # too few entries to tell structure from chance
    basis = _independent(matrix, n)
    if basis is None or not basis:
        return None
    solved = torch.linalg.lstsq(matrix[basis].mT, matrix.mT, driver="gelsd").solution  # [r, n²]
    whole = solved.round()
    solved = torch.where((solved - whole).abs() <= _EXACT, whole, solved)
    tensor = solved.reshape(-1, n, n).transpose(0, 1)
    weight = wide(torch.stack([parts[index // n, index % n] for index in basis]))
    return Blocks(tensor.contiguous(), weight, inner) if _agree(_made(tensor, weight), parts) else None


def _independent(matrix: Tensor, most: int) -> list[int] | None:
    """The first rows that span all, by Gram and Schmidt's method; None if there are more than so many."""
    scale = float(torch.linalg.vector_norm(matrix, dim=1).max())
    basis: list[int] = []
    rest = matrix.clone()
    for index in range(len(matrix)):
        for _ in range(2):  # twice is enough
            directions = rest[basis]
            rest[index] -= directions.mT @ (directions @ rest[index])
        length = float(torch.linalg.vector_norm(rest[index]))
        if length > 1e-9 * scale:
            if len(basis) == most:
                return None
            rest[index] /= length
            basis.append(index)
    return basis


def _made(tensor: Tensor, weight: Tensor) -> Tensor:
    """The blocks [y, x, ...] of a product and its weight."""
    return torch.einsum("kuj,u...->kj...", tensor, weight)


def _agree(made: Tensor, parts: Tensor) -> bool:
    return bool((made - parts).abs().max() <= _EXACT * parts.abs().max())


def sampled(parts: Tensor) -> Tensor:
    """Some entries of every block [n, n, ...], in float64: [n, n, entries]."""
    shape = parts.shape[2:]
    total, count = shape.numel(), 4 * len(parts) ** 2
    # evenly spread over all the axes; an odd step meets every row and column
    index = torch.arange(total) if total <= count else torch.linspace(0, total - 1, count).long()
    place: Any = (slice(None), slice(None), *torch.unravel_index(index, shape))
    return wide(parts[place])
