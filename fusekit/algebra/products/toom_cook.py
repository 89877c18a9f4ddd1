"""Short convolutions by evaluation and interpolation, exact over the rationals.

    s = V⁻¹ ((V_r w) ∘ (V_m g))            s(t) = w(t) g(t) from its values at m + r - 1 points       (Toom-Cook)
    y = V_mᵀ ((V_r w) ∘ (V⁻ᵀ x))           y_i = Σ_j w_j x_{i+j}: m outputs of an r-tap filter F(m, r) (Winograd)

The second is the first transposed: the same m + r - 1 products where the definition has m r. The points are 0, 1, -1,
2, -2, 1/2, -1/2 and so on, and infinity, which stands for the highest coefficients; rounding grows fast with their
number. References: Winograd, Arithmetic Complexity of Computations (1980); Lavin and Gray, arXiv:1509.09308; Barabasz
and Gregg, arXiv:1803.10986, on which points round least.
"""

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from fusekit.algebra.products.bilinear import Bilinear

POINTS = tuple(Fraction(p) for p in ("0", "1", "-1", "2", "-2", "1/2", "-1/2", "4", "-4", "1/4", "-1/4"))


def toom_cook(m: int, r: int, points: Sequence[Fraction] | None = None) -> Bilinear:
    """The product of polynomials w of r and g of m coefficients, lowest first, at m + r - 2 `points` and infinity."""
    count = m + r - 2
    points = POINTS[:count] if points is None else tuple(points)
    if m < 1 or r < 1 or len(points) != count or len(set(points)) != count:
        raise ValueError(f"a product of {m} by {r} coefficients takes {max(count, 0)} points, all different")
    values = [_matrix([*([p**k for k in range(size)] for p in points), _last(size)]) for size in (r, m)]
    columns = [_lagrange(points, i) for i in range(count)] + [_from_roots(points)]
    return Bilinear(values[0], values[1], _matrix([[*c, *[Fraction(0)] * (count + 1 - len(c))] for c in columns]).mT)


def winograd(m: int, r: int, points: Sequence[Fraction] | None = None) -> Bilinear:
    """F(m, r): y_i = Σ_j w_j x_{i+j} for m outputs and r taps, x of m + r - 1 entries, in m + r - 1 products."""
    return toom_cook(m, r, points).transposed()


def _last(size: int) -> list[Fraction]:
    return [Fraction(int(k == size - 1)) for k in range(size)]


def _from_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of Π (t - root), lowest first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [*(-root * c for c in coefficients), Fraction(0)]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def _lagrange(points: Sequence[Fraction], i: int) -> list[Fraction]:
    """The polynomial that is 1 at point i and 0 at the others."""
    others = [p for j, p in enumerate(points) if j != i]
    scale = Fraction(1)
    for other in others:
        scale *= points[i] - other
    return [c / scale for c in _from_roots(others)]


def _matrix(rows: Sequence[Sequence[Fraction]]) -> Tensor:
    return torch.tensor([[float(entry) for entry in row] for row in rows], dtype=torch.float64)
