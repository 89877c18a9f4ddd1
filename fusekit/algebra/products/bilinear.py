"""Bilinear algorithms: products of hypercomplex numbers, and short filters, in fewer multiplications.

    y = C ((A w) ∘ (B x))            Σ_p C[o, p] A[p, w] B[p, x] = T[o, w, x],     y_o = Σ T[o, w, x] w_w x_x

P products, P at least the rank of the tensor T. The entries of w and x may be matrices or kernels: then a product is a
matrix product or a convolution, A is paid once, when the weights are known, B and C are additions of whole signals. So
a quaternion convolution, 16 real ones in its blocks, takes 8 and a few additions. Reference: Bürgisser, Clausen and
Shokrollahi, Algebraic Complexity Theory, chapter 14.

Rounding grows with `stability`, the largest sum of absolute values that an output passes through: for factors of one
size at most so many units of rounding, against T's own row for the direct product.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fusekit.algebra.products.hypercomplex import (
    COMPLEX,
    DUAL,
    DUAL_QUATERNION,
    QUATERNION,
    SPLIT_COMPLEX,
    SPLIT_QUATERNION,
    HypercomplexAlgebra,
)

EXACT = 1e-12


@dataclass(frozen=True, eq=False)
class Bilinear:
    """y = c ((a w) ∘ (b x)): `a` [P, w], `b` [P, x], `c` [y, P], kept in float64."""

    a: Tensor
    b: Tensor
    c: Tensor

    def __post_init__(self) -> None:
        for name in ("a", "b", "c"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64))
        shapes = [list(m.shape) for m in (self.a, self.b, self.c)]
        if any(len(shape) != 2 for shape in shapes) or not shapes[0][0] == shapes[1][0] == shapes[2][1]:
            raise ValueError(f"expected matrices a [P, w], b [P, x] and c [y, P], got shapes {shapes}")

    @classmethod
    def direct(cls, tensor: Tensor) -> "Bilinear":
        """One product for each pair of w and x that T [y, w, x] multiplies: the definition."""
        w, x = torch.nonzero((tensor != 0).any(0), as_tuple=True)
        eye_w, eye_x = (torch.eye(size, dtype=torch.float64) for size in tensor.shape[1:])
        return cls(eye_w[w], eye_x[x], tensor[:, w, x])

    @property
    def rank(self) -> int:
        """P, the number of products."""
        return int(self.a.shape[0])

    @property
    def tensor(self) -> Tensor:
        """T [y, w, x], the product that is computed."""
        return torch.einsum("op,pw,px->owx", self.c, self.a, self.b)

    @property
    def stability(self) -> float:
        """max_o Σ_p |C[o, p]| · Σ_w |A[p, w]| · Σ_x |B[p, x]|."""
        return float((self.c.abs() @ (self.a.abs().sum(1) * self.b.abs().sum(1))).max())

    def __call__(self, w: Tensor, x: Tensor) -> Tensor:
        """The product of w [*, w] and x [*, x], which broadcast: [*, y]."""
        product: Tensor = ((w @ self.a.to(w).mT) * (x @ self.b.to(x).mT)) @ self.c.to(x).mT
        return product

    def computes(self, tensor: Tensor) -> bool:
        """Whether this is the product T [y, w, x], to 1e-12 of its largest entry."""
        if tensor.shape != self.tensor.shape:
            return False
        return float((self.tensor - tensor).abs().max()) <= EXACT * max(1.0, float(tensor.abs().max()))

    def swapped(self) -> "Bilinear":
        """x w for w x: A and B change places."""
        return Bilinear(self.b, self.a, self.c)

    def transposed(self) -> "Bilinear":
        """Inputs for outputs: T'[x, w, o] = T[o, w, x]. Of polynomial products it makes filters of as few products."""
        return Bilinear(self.a, self.c.mT, self.b.mT)

    def kron(self, inner: "Bilinear") -> "Bilinear":
        """The product over both algebras, T ⊗ T': every product of this algorithm is one by the inner."""
        pairs = ((self.a, inner.a), (self.b, inner.b), (self.c, inner.c))
        return Bilinear(*(torch.kron(outer.contiguous(), small.contiguous()) for outer, small in pairs))

    def of(self, *, w: Tensor | None = None, x: Tensor | None = None, y: Tensor | None = None) -> "Bilinear":
        """(w', x') ↦ Y (W w' · X x') for matrices W, X and Y; a conjugation, a permutation of units."""
        a, b = (m if other is None else m @ other.double() for m, other in ((self.a, w), (self.b, x)))
        return Bilinear(a, b, self.c if y is None else y.double() @ self.c)

    def without_zeros(self) -> "Bilinear":
        """The same without the products of which a factor is always zero or that no output reads."""
        used = (self.a != 0).any(1) & (self.b != 0).any(1) & (self.c != 0).any(0)
        return Bilinear(self.a[used], self.b[used], self.c[:, used])

    def balanced(self) -> "Bilinear":
        """The same with B and C scaled to largest entries of 1, A by what is left: A alone is paid offline."""
        size_b, size_c = self.b.abs().amax(1).clamp_min(1e-300), self.c.abs().amax(0).clamp_min(1e-300)
        return replace(self, a=self.a * (size_b * size_c)[:, None], b=self.b / size_b[:, None], c=self.c / size_c)

    def __repr__(self) -> str:
        y, w, x = self.tensor.shape
        return f"Bilinear({w} x {x} -> {y} in {self.rank} products)"


def product_tensor(algebra: HypercomplexAlgebra, *, right: bool = False) -> Tensor:
    """T [y, w, x] of w x, or of x w (`right`), over an algebra."""
    order = (2, 1, 0) if right else (2, 0, 1)
    return algebra.constants.permute(order)


# P1 = wr (xr + xi), P2 = (wi - wr) xr, P3 = (wr + wi) xi; of the forms in three products the one of least error growth
GAUSS = Bilinear(
    torch.tensor([[1, 0], [-1, 1], [1, 1]]),
    torch.tensor([[1, 1], [1, 0], [0, 1]]),
    torch.tensor([[1, 0, -1], [1, 1, 0]]),
)

# Eight is the least over the reals: Howell and Lafon, The complexity of the quaternion product, Cornell TR 75-245.
# Each output reads a product of its own, which is where a bias goes.
HAMILTON = Bilinear(
    torch.tensor(
        [
            [1, 1, 0, 0],
            [0, 0, -1, 1],
            [1, -1, 0, 0],
            [0, 0, 1, 1],
            [0, 0.5, 0, 0.5],
            [0, 0.5, 0, -0.5],
            [0.5, 0, 0.5, 0],
            [0.5, 0, -0.5, 0],
        ]
    ),
    torch.tensor(
        [
            [1, 1, 0, 0],
            [0, 0, 1, -1],
            [0, 0, 1, 1],
            [1, -1, 0, 0],
            [0, 1, 1, 0],
            [0, 1, -1, 0],
            [1, 0, 0, -1],
            [1, 0, 0, 1],
        ]
    ),
    torch.tensor(
        [
            [0, 1, 0, 0, -1, -1, 1, 1],
            [1, 0, 0, 0, -1, -1, -1, -1],
            [0, 0, 1, 0, 1, -1, 1, -1],
            [0, 0, 0, 1, 1, -1, -1, 1],
        ]
    ),
)

# (a + b j)(c + d j) with j² = 1 is two real products, on (1 + j) / 2 and (1 - j) / 2
SPLIT = Bilinear(
    torch.tensor([[0.5, 0.5], [0.5, -0.5]]),
    torch.tensor([[1, 1], [1, -1]]),
    torch.tensor([[1, 1], [1, -1]]),
)

# (a + b ε)(c + d ε) = a c + (a d + b c) ε: the two small products share no factor, so there are three
NILPOTENT = Bilinear.direct(product_tensor(DUAL))

# Strassen's seven on 2 x 2 matrices [[m0, m1], [m2, m3]]: Numerische Mathematik 13 (1969), 354-356
STRASSEN = Bilinear(
    torch.tensor(
        [[1, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0], [-1, 0, 1, 0], [0, 1, 0, -1]],
    ),
    torch.tensor(
        [[1, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, -1], [-1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1]],
    ),
    torch.tensor(
        [[1, 0, 0, 1, -1, 0, 1], [0, 0, 1, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0, 0], [1, -1, 1, 0, 0, 1, 0]],
    ),
)


def _of_matrices(algebra: HypercomplexAlgebra) -> Bilinear:
    """The algorithm for split quaternions, which are the 2 x 2 matrices: i² = -1, j² = k² = 1."""
    one, i = torch.eye(2, dtype=torch.float64), torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    j = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    to_matrix = torch.stack([m.flatten() for m in (one, i, j, i @ j)], 1)
    return STRASSEN.of(w=to_matrix, x=to_matrix, y=torch.linalg.inv(to_matrix))


def _bicomplex() -> Bilinear:
    """Two commuting units of square -1 have a product of square 1, so the bicomplex numbers are pairs of complex ones:
    1, ι, κ, κι with ι = 1 ⊗ j, κ = i ⊗ j, and κι = -i ⊗ 1."""
    units = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, -1, 0]], dtype=torch.float64)
    return SPLIT.kron(GAUSS).of(w=units, x=units, y=units.mT)


KNOWN: tuple[tuple[str, Tensor, Bilinear], ...] = tuple(
    (name, product_tensor(algebra, right=right), algorithm.swapped() if right else algorithm)
    for name, algebra, algorithm, sides in (
        ("complex", COMPLEX, GAUSS, (False,)),
        ("split-complex", SPLIT_COMPLEX, SPLIT, (False,)),
        ("dual", DUAL, NILPOTENT, (False,)),
        ("quaternion", QUATERNION, HAMILTON, (False, True)),
        ("split-quaternion", SPLIT_QUATERNION, _of_matrices(SPLIT_QUATERNION), (False, True)),
        ("bicomplex", COMPLEX.tensor(COMPLEX), _bicomplex(), (False,)),
        ("dual quaternion", DUAL_QUATERNION, NILPOTENT.kron(HAMILTON), (False, True)),
    )
    for right in sides
)


def known(tensor: Tensor) -> Bilinear | None:
    """The algorithm for T [y, w, x] of one of the algebras that everybody uses."""
    return next((algorithm for _, given, algorithm in KNOWN if torch.equal(given, tensor)), None)
