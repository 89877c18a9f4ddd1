"""Hypercomplex algebras as values: n real units with e_i e_j = Σ_k c[i, j, k] e_k.

    (a b)_k = Σ_ij c[i, j, k] a_i b_j          a b = L(a) b = R(b) a
    L(a)[k, j] = Σ_i c[i, j, k] a_i            left regular representation:  L(a b) = L(a) L(b)
    R(b)[k, i] = Σ_j c[i, j, k] b_j            right regular representation: R(a b) = R(b) R(a)

The two products of matrices hold exactly if the algebra is associative; in the octonions they do not, and what composes
there are the maps, not the numbers. A layer over an algebra is a real layer whose weight is made of blocks L(w): one
matrix or one kernel (`block_kernel`), so whatever the algebra, the runtime sees an ordinary convolution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

EXACT = 1e-12  # structure constants are small whole numbers, or were made by somebody's float64 arithmetic


@dataclass(frozen=True, eq=False)
class HypercomplexAlgebra:
    """Structure constants [n, n, n] in float64, e_i e_j = Σ_k c[i, j, k] e_k, and a name.

    `conjugation` [n, n] is the matrix of a ↦ a*, where there is one: a** = a and (a b)* = b* a*.
    """

    name: str
    constants: Tensor
    conjugation: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.constants.shape)
        if len(shape) != 3 or len(set(shape)) != 1 or not shape[0]:
            raise ValueError(f"expected structure constants of shape [n, n, n], got {list(shape)}")
        object.__setattr__(self, "constants", self.constants.detach().to(torch.float64))
        if self.conjugation is not None:
            if self.conjugation.shape != (self.n, self.n):
                raise ValueError(
                    f"expected a conjugation of shape [{self.n}, {self.n}], got {list(self.conjugation.shape)}"
                )
            object.__setattr__(self, "conjugation", self.conjugation.detach().to(torch.float64))

    @classmethod
    def reals(cls) -> "HypercomplexAlgebra":
        """The real numbers: n = 1, 1 · 1 = 1, 1* = 1."""
        return cls("real", torch.ones(1, 1, 1), torch.ones(1, 1))

    @classmethod
    def clifford(cls, p: int, q: int = 0, r: int = 0) -> "HypercomplexAlgebra":
        """Cl(p, q, r): p generators with e² = 1, then q with e² = -1, then r with e² = 0, e_a e_b = -e_b e_a.

        The 2^(p+q+r) units are the products of generators in the order of their bit masks (1, e1, e2, e1e2, e3, ...);
        the conjugation reverses each product and negates its generators: (-1)^(g (g + 1) / 2) for g generators.

        Raises ValueError for a negative number of generators.
        """
        if min(p, q, r) < 0:
            raise ValueError(f"expected numbers of generators, got p = {p}, q = {q}, r = {r}")
        squares = [1] * p + [-1] * q + [0] * r
        n = 1 << len(squares)
        constants, signs = torch.zeros(n, n, n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
        for a in range(n):
            grade = a.bit_count()
            signs[a] = (-1) ** (grade * (grade + 1) // 2)
            for b in range(n):
                swaps = sum((a >> shift).bit_count() for shift in range(1, len(squares) + 1) if b >> (shift - 1) & 1)
                factor = math.prod(square for bit, square in enumerate(squares) if a & b & 1 << bit)
                constants[a, b, a ^ b] = (-1) ** swaps * factor
        return cls(f"Cl({p}, {q}, {r})", constants, torch.diag(signs))

    @classmethod
    def from_matrices(cls, matrices: Tensor, name: str = "parameterised") -> "HypercomplexAlgebra":
        """From `matrices` A [n, n, n], A_i being L(e_i), under a `name`: the layer's weight is Σ_i A_i ⊗ F_i.

        Source: Zhang et al. 2021, "Beyond fully-connected layers with quaternions" (arXiv:2102.08597).
        """
        return cls(name, matrices.transpose(1, 2))

    def doubled(self, square: float = -1.0, name: str | None = None) -> "HypercomplexAlgebra":
        """Cayley-Dickson: pairs with (a, b)(c, d) = (a c + s d* b, d a + b c*) and (a, b)* = (a*, -b), s = `square`.

        s = -1 takes the reals to the complex numbers, quaternions, octonions; s = 1 to their split forms; s = 0 to the
        dual numbers. Associative as long as what is doubled is commutative. `name`: of the result. ValueError where
        there is no conjugation.
        """
        if self.conjugation is None:
            raise ValueError(f"{self.name} has no conjugation, which doubling needs")
        c, star, n = self.constants, self.conjugation, self.n
        constants = torch.zeros(2 * n, 2 * n, 2 * n, dtype=torch.float64)
        constants[:n, :n, :n] = c
        constants[n:, n:, :n] = square * torch.einsum("xj,xik->ijk", star, c)  # b d ↦ s d* b
        constants[:n, n:, n:] = c.transpose(0, 1)  # a d ↦ d a
        constants[n:, :n, n:] = torch.einsum("xj,ixk->ijk", star, c)  # b c ↦ b c*
        conjugation = torch.block_diag(star, -torch.eye(n, dtype=torch.float64))
        return HypercomplexAlgebra(name or f"{self.name} doubled by {square:g}", constants, conjugation)

    def tensor(self, other: "HypercomplexAlgebra", name: str | None = None) -> "HypercomplexAlgebra":
        """A ⊗ B, B = `other`: (a ⊗ b)(a' ⊗ b') = a a' ⊗ b b' on the units e_i ⊗ f_j in the order i, j; (a ⊗ b)* =
        a* ⊗ b*. `name`: of the result."""
        n = self.n * other.n
        constants = torch.einsum("ijk,xyz->ixjykz", self.constants, other.constants).reshape(n, n, n)
        known = self.conjugation is not None and other.conjugation is not None
        conjugation = torch.kron(self.conjugation, other.conjugation) if known else None  # type: ignore[arg-type]
        return HypercomplexAlgebra(name or f"{self.name} ⊗ {other.name}", constants, conjugation)

    @property
    def n(self) -> int:
        """Dimension over the reals."""
        return int(self.constants.shape[0])

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """a b for [*, n] tensors, which broadcast."""
        column: Tensor = self.left(a) @ self._checked(b).unsqueeze(-1)
        return column.squeeze(-1)

    def conjugate(self, a: Tensor) -> Tensor:
        """a* for [*, n]. ValueError where the algebra came without a conjugation."""
        if self.conjugation is None:
            raise ValueError(f"{self.name} has no conjugation")
        return torch.matmul(self._checked(a), self.conjugation.to(a).mT)

    def left(self, a: Tensor) -> Tensor:
        """L(a) [*, n, n] of a [*, n]: L(a) b = a b."""
        return torch.einsum("...i,ijk->...kj", self._checked(a), self.constants.to(a))

    def right(self, b: Tensor) -> Tensor:
        """R(b) [*, n, n] of b [*, n]: R(b) a = a b."""
        return torch.einsum("...j,ijk->...ki", self._checked(b), self.constants.to(b))

    def unit(self) -> Tensor:
        """The [n] element e with e a = a e = a. ValueError where there is none."""
        n, c = self.n, self.constants
        both = torch.cat([c.reshape(n, n * n), c.transpose(0, 1).reshape(n, n * n)], 1).mT
        eye = torch.eye(n, dtype=torch.float64).flatten().repeat(2)
        e: Tensor = torch.linalg.lstsq(both, eye.unsqueeze(1), driver="gelsd").solution.squeeze(1)
        if not torch.allclose(both @ e, eye, rtol=0, atol=1e-9):
            raise ValueError(f"{self.name} has no unit")
        return e

    def is_associative(self) -> bool:
        """(e_i e_j) e_k = e_i (e_j e_k) for all units."""
        c = self.constants
        first, second = torch.einsum("ijx,xkl->ijkl", c, c), torch.einsum("jkx,ixl->ijkl", c, c)
        return self._equal(first, second)

    def is_commutative(self) -> bool:
        """e_i e_j = e_j e_i for all units."""
        return self._equal(self.constants, self.constants.transpose(0, 1))

    def is_alternative(self) -> bool:
        """a (a b) = (a a) b and (b a) a = b (a a): what is left of associativity in the octonions."""
        c = self.constants
        associator = torch.einsum("ijx,xkl->ijkl", c, c) - torch.einsum("jkx,ixl->ijkl", c, c)
        zero = torch.zeros_like(associator)
        swapped = associator.transpose(0, 1), associator.transpose(1, 2)
        return all(self._equal(associator + other, zero) for other in swapped)

    def block(self, weight: Tensor, *, groups: int = 1, transposed: bool = False) -> Tensor:
        """The real weight of x ↦ w x for a `weight` w [n, out, in / groups, *window], in torch's layout; `groups` and
        `transposed` as in `block_kernel`."""
        return block_kernel(self.constants.to(weight), weight, groups=groups, transposed=transposed)

    def table(self, units: Sequence[str] | None = None) -> str:
        """The multiplication table as text, row times column; `units`: the names of the units."""
        names = tuple(units or ("1", *(f"e{i}" for i in range(1, self.n))))
        rows = [["·", *names]]
        rows += [[a, *(_sum(self.constants[i, j].tolist(), names) for j in range(self.n))] for i, a in enumerate(names)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(" ".join(map(str.rjust, row, widths)).rstrip() for row in rows)

    def __repr__(self) -> str:
        return f"HypercomplexAlgebra({self.name}, n={self.n})"

    def _checked(self, a: Tensor) -> Tensor:
        if not a.ndim or a.shape[-1] != self.n:
            raise ValueError(f"an element of {self.name} is a tensor [*, {self.n}], got shape {list(a.shape)}")
        return a

    @staticmethod
    def _equal(a: Tensor, b: Tensor) -> bool:
        return bool(torch.allclose(a, b, rtol=EXACT, atol=EXACT))


def block_kernel(constants: Tensor, weight: Tensor, *, groups: int = 1, transposed: bool = False) -> Tensor:
    """The real weight of x ↦ w x, in torch's layout, x and y being n blocks of channels, one a unit.

        K[(k, o), (j, i)] = Σ_u c[u, j, k] w[u, o, i]

    Shapes: w [n, out, in / groups, *window] -> [n out, n in / groups, *window] for a linear layer or a convolution;
    for a transposed one w [n, in, out / groups, *window] -> [n in, n out / groups, *window]. With groups the blocks are
    those of each group by itself: [group, unit, channel] instead of [unit, group, channel] (`regroup`).
    """
    blocks = torch.tensordot(constants, weight, ([0], [0])).unflatten(2, (groups, weight.shape[1] // groups))
    # [j, k, group, first, second, *window]: the first axis of the weight belongs to j in a transposed layer, else to k
    order = (2, 0, 3, 1) if transposed else (2, 1, 3, 0)
    kernel: Tensor = blocks.movedim(order, (0, 1, 2, 3)).flatten(3, 4)
    return kernel.flatten(0, 2)


def regroup(x: Tensor, n: int, groups: int, axis: int) -> Tensor:
    """Channels from [unit, group, channel] to [group, unit, channel]; with n and groups exchanged, back again."""
    if groups == 1 or n == 1:
        return x
    parts: Tensor = x.unflatten(axis, (n, groups, -1))
    return parts.transpose(axis - 2, axis - 1).flatten(axis - 2, axis)


def _sum(coefficients: Sequence[float], names: Sequence[str]) -> str:
    """2 e1 - e3."""
    terms = [(value, name) for value, name in zip(coefficients, names, strict=True) if value]
    text = " ".join(f"{'-' if v < 0 else '+'} {'' if abs(v) == 1 else f'{abs(v):g} '}{name}" for v, name in terms)
    return text.removeprefix("+ ").replace("- ", "-", 1) if text.startswith("- ") else text.removeprefix("+ ") or "0"


REAL = HypercomplexAlgebra.reals()
COMPLEX = REAL.doubled(-1, "complex")
SPLIT_COMPLEX = REAL.doubled(1, "split-complex")
DUAL = REAL.doubled(0, "dual")
QUATERNION = COMPLEX.doubled(-1, "quaternion")
SPLIT_QUATERNION = COMPLEX.doubled(1, "split-quaternion")
OCTONION = QUATERNION.doubled(-1, "octonion")
# (p + ε q)* = p* + ε q*, the one that makes motions of space of unit dual quaternions
DUAL_QUATERNION = replace(
    DUAL.tensor(QUATERNION, "dual quaternion"),
    conjugation=torch.kron(torch.eye(2, dtype=torch.float64), QUATERNION.conjugation),  # type: ignore[arg-type]
)
