"""Layers over an algebra in fewer products: mix, convolve group by group, mix.

    c = mix(C) ∘ Conv(A·F, groups = P) ∘ mix(B)          K = Σ_p C[:, p] (A F)_p B[p, :]          (`bilinear.py`)
    c = mix(Eᵀ) ∘ Conv(K without its zero blocks) ∘ mix(E)

Zeros outside stay zeros under B, so every padding, stride, dilation and transposition is the convolution's own. A bias
b goes into the products, b = C b', where C has a right inverse: where an output reads a product of its own, as in
Hamilton's eight, at no rounding. A quaternion layer takes 8 products for 16 blocks, a complex one 3 for 4; rotations
of three of four parts have 9 blocks that are not zero.
"""

from dataclasses import replace

import torch
from torch import Tensor

from fusekit.algebra.composition import Composition
from fusekit.algebra.conv import Conv
from fusekit.algebra.products.bilinear import Bilinear
from fusekit.algebra.products.blocks import Blocks, blocks_of, parted, require_plain, sampled
from fusekit.algebra.products.mixing import GroupedLinear, Mixing
from fusekit.algebra.products.polyadic import algorithm
from fusekit.algebra.values import is_zero, wide
from fusekit.errors import Inapplicable

_EXACT = 1e-13


def algebra_of(conv: Conv) -> tuple[Blocks, Bilinear]:
    """The blocks of the kernel and the algorithm that saves most of their products; Inapplicable if it has no blocks of
    an algebra, or these no shorter algorithm."""
    found = [(blocks, algorithm(blocks.tensor)) for blocks in blocks_of(conv)]
    shares = [bilinear.rank / blocks.n**2 for blocks, bilinear in found]
    if not found or min(shares) >= 1:
        raise Inapplicable("the kernel is not made of the blocks of an algebra")
    return found[shares.index(min(shares))]


def by_products(conv: Conv) -> Composition:
    """The convolution by fewer products than it has blocks; Inapplicable where there are none fewer."""
    return with_products(conv, *algebra_of(conv))


def with_products(conv: Conv, blocks: Blocks, bilinear: Bilinear) -> Composition:
    """The convolution, whose kernel has these blocks, by this algorithm for their product, without the products of
    parts that are zero."""
    used = blocks.weight.flatten(1).any(1)
    bilinear = bilinear.of(w=torch.diag(used.double())).without_zeros()
    device = conv.kernel.device
    kernel = torch.einsum("pu,uoi...->poi...", bilinear.a, blocks.weight).to(device)
    b, c = bilinear.b.to(device), bilinear.c.to(device)
    inside, outside = _bias_of(conv.bias, c, blocks.inner)
    products: Conv | GroupedLinear = GroupedLinear(kernel, inside)
    if conv.n:
        products = replace(conv, kernel=kernel, bias=inside)
    before = Mixing(b, conv.n, reads_inner=blocks.inner)
    after = Mixing(c, conv.n, outside, writes_inner=blocks.inner)
    return Composition(tuple(m for m in (after, products, before) if not _does_nothing(m)))


def without_zero_blocks(conv: Conv) -> Composition:
    """The convolution on the parts that it reads and writes, of two to four; Inapplicable if these are all."""
    require_plain(conv)
    for n in (4, 3, 2):
        parts = parted(conv.kernel[0], n, False)
        if parts is None or bool((sampled(parts) != 0).any(2).all()):
            continue  # a few entries tell most kernels
        used = (parts != 0).flatten(2).any(2)
        reads, writes = used.any(0), used.any(1)
        if bool(reads.all() and writes.all()) or not bool(used.any()):
            continue
        eye = torch.eye(n, dtype=torch.float64, device=parts.device)
        inside, outside = _bias_of(conv.bias, eye[:, writes], False)
        kernel = wide(parts[writes][:, reads]).transpose(1, 2).flatten(2, 3).flatten(0, 1)[None]
        maps = (Mixing(eye[:, writes], conv.n, outside), replace(conv, kernel=kernel, bias=inside))
        return Composition(tuple(m for m in (*maps, Mixing(eye[reads], conv.n)) if not _does_nothing(m)))
    raise Inapplicable("no part of the channels goes unused")


def _bias_of(bias: Tensor | None, c: Tensor, inner: bool) -> tuple[Tensor | None, Tensor | None]:
    """(b' of the products, what is left to add behind them): C b' = b where C, or the part of it that matters, can be
    inverted; by columns of one entry where there are some, exactly."""
    if bias is None or is_zero(bias):
        return None, None
    n, b = len(c), wide(bias)
    parts = b.unflatten(0, (-1, n)).mT if inner else b.unflatten(0, (n, -1))
    solved = _right_inverse(c) @ parts
    missing = (c @ solved - parts).abs().max() > _EXACT * parts.abs().max()
    return (None, b) if bool(missing) else (solved.flatten(), None)


def _right_inverse(c: Tensor) -> Tensor:
    """X [P, n] with C X = I where there is one: an output that has a product to itself takes that."""
    own = [torch.nonzero((c[row] != 0) & ((c != 0).sum(0) == 1)).flatten() for row in range(len(c))]
    if not all(len(columns) for columns in own):
        pseudo: Tensor = torch.linalg.pinv(c)
        return pseudo
    inverse = torch.zeros_like(c.mT)
    for row, columns in enumerate(own):
        inverse[columns[0], row] = 1 / c[row, columns[0]]
    return inverse


def _does_nothing(value: object) -> bool:
    if not isinstance(value, Mixing) or value.bias is not None or value.reads_inner or value.writes_inner:
        return False
    out, inputs = value.matrix.shape
    return bool(out == inputs and torch.equal(value.matrix, torch.eye(out).to(value.matrix)))
