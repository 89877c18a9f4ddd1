"""Short bilinear algorithms for any product: canonical polyadic decomposition of its tensor.

    T[o, w, x] = Σ_p C[o, p] A[p, w] B[p, x],   P as small as can be found

Nonlinear least squares by Levenberg and Marquardt's method from a few random starts, always the same ones. What is
returned has been polished to rounding and checked; finding nothing proves nothing. Random products of n = 2, 3, 4 units
take 3, 5 and 7 products where their blocks are 4, 9 and 16. Reference: Tichavský, Phan and Cichocki, Numerical CP
decomposition of some difficult tensors, J. Comput. Appl. Math. 317 (2017), 362-370.
"""

from functools import lru_cache

import torch
from torch import Tensor

from fusekit.algebra.products.bilinear import Bilinear, known

_STARTS = 6
_STEPS = 300
_UNSTABLE = 200.0
_LARGEST = 4  # units from which on the search takes too long


def algorithm(tensor: Tensor) -> Bilinear:
    """The algorithm of fewest products for T [y, w, x] that is known or found: the direct one, at worst."""
    shape = tensor.shape
    return _algorithm(tuple(tensor.flatten().tolist()), (int(shape[0]), int(shape[1]), int(shape[2])))


@lru_cache(maxsize=256)
def _algorithm(entries: tuple[float, ...], shape: tuple[int, int, int]) -> Bilinear:
    tensor = torch.tensor(entries, dtype=torch.float64).reshape(shape)
    best = known(tensor)
    if best is not None:
        return best
    best = Bilinear.direct(tensor)
    flat = [tensor.movedim(axis, 0).flatten(1) for axis in range(3)]
    least = max(int(torch.linalg.matrix_rank(m, rtol=1e-9)) for m in flat)
    if max(shape) > _LARGEST:
        return best
    for rank in range(least, min(best.rank, 2 * max(shape) + 1)):
        found = decompose(tensor, rank)
        if found is not None:
            return found
    return best


def decompose(tensor: Tensor, rank: int) -> Bilinear | None:
    """An algorithm of `rank` products for T [y, w, x], the most stable of a few; None if none was found."""
    scale = float(tensor.abs().max()) or 1.0
    found = []
    for seed in range(_STARTS):
        factors = _fitted(tensor.double() / scale, rank, torch.Generator().manual_seed(seed))
        if factors is None:
            continue
        a, b, c = factors
        candidate = Bilinear(a * scale, b, c).balanced()
        if candidate.computes(tensor) and candidate.stability <= _UNSTABLE * scale:
            found.append(candidate)
        if len(found) == 2:
            break
    return min(found, key=lambda each: each.stability, default=None)


def _fitted(tensor: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor] | None:
    """Levenberg-Marquardt: (JᵀJ + μ I) step = -Jᵀ r, μ smaller after a step that helps, larger after one that does
    not. The minimum is not isolated (factors may be rescaled), which μ > 0 takes care of."""
    y, w, x = tensor.shape
    sizes = (rank * w, rank * x, y * rank)
    v = torch.randn(sum(sizes), generator=generator, dtype=torch.float64) * 0.7
    eyes = [torch.eye(size, dtype=torch.float64) for size in (y, w, x)]
    damping = 1.0

    def unpack(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, b, c = v.split(sizes)
        return a.reshape(rank, w), b.reshape(rank, x), c.reshape(y, rank)

    def residual(v: Tensor) -> Tensor:
        a, b, c = unpack(v)
        return (torch.einsum("op,pw,px->owx", c, a, b) - tensor).flatten()

    r = residual(v)
    for _ in range(_STEPS):
        a, b, c = unpack(v)
        parts = (
            torch.einsum("op,px,wv->owxpv", c, b, eyes[1]),
            torch.einsum("op,pw,xv->owxpv", c, a, eyes[2]),
            torch.einsum("pw,px,ov->owxvp", a, b, eyes[0]),
        )
        jacobian = torch.cat([part.reshape(len(r), -1) for part in parts], 1)
        normal, gradient = jacobian.mT @ jacobian, jacobian.mT @ r
        step = torch.linalg.solve(normal + damping * torch.eye(len(v), dtype=torch.float64), gradient)
        candidate = v - step
        after = residual(candidate)
        if float(after @ after) < float(r @ r):
            v, r, damping = candidate, after, max(damping * 0.3, 1e-14)
        else:
            damping = damping * 4
            if damping > 1e8:
                break
        if float(r.abs().max()) < 2e-15:
            break
    return unpack(v) if float(r.abs().max()) < 1e-13 else None
