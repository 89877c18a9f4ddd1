"""The discrete Fourier transform as constant real matrices, in one or two levels, products of bins included.

    one level    X[k] = Σ_n e^{∓2πi k p(n)/N} x[n],                              p(n) = first + step n
    two levels   N = b a, k = k1 + b k2, n = a n1 + n2:
                 X[k] = Σ_n2 e^{∓2πi k p(n2)/N} (Σ_n1 e^{∓2πi k1 step n1/b} x[n])

In two levels the twiddle factors stand in the second matrix, one for each k1; between the levels nothing is computed
and, the samples being the leading axis, nothing moves: [n1, (n2 ...)] -> [(k1 re im), (n2 ...)] = [k1, (re im n2), ...].
8 N (a + b) multiplications in place of 8 N², each in a product of matrices.

A bin holds three reals, (re, im, re + im), and the product of two such bins is that of their entries (Karatsuba, three
products for a complex one); what makes a complex number of them is in the matrix of the inverse. So a convolution is

    y = G (S ⊙ F x),    S = F' w            F, F', G constant, ⊙ a product of matrices over the channels, bin by bin

with nothing between the products. Every entry is read from one table of N cosines at an index computed in integers:
exact to a rounding, and an exported file holds the table, not the matrices.

Sources: A. Karatsuba, Y. Ofman (1962); J. W. Cooley, J. W. Tukey (1965); S. Winograd, Arithmetic Complexity of
Computations (1980), for the bilinear form.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

# An entry of a matrix is sign · phase looked up in a block of the table: cos, sin, cos + sin, -(cos + sin).
_COS, _SIN, _SUM, _MINUS = range(4)
_RE = ((_COS, 1), (_SIN, -1))  # of (re, im) times e^{iφ}
_IM = ((_SIN, 1), (_COS, 1))
_BOTH = ((_SUM, 1), (_SUM, -1))
_RE_OF_THREE = ((_SUM, 1), (_MINUS, -1), (_SIN, -1))  # of products (p, q, r): p - q + i (r - p - q), times e^{iφ}
_IM_OF_THREE = ((_MINUS, -1), (_MINUS, 1), (_COS, 1))

Rows = tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True)
class Dft:
    """The transform of N = `points` along one axis, factored into N / inner and `inner` (1: one level).

    `half`: of real data, the bins k1 <= b / 2 only, which in two levels are a few more than half of all.
    """

    points: int
    inner: int = 1
    half: bool = False

    def __post_init__(self) -> None:
        if self.points < 1 or self.inner < 1 or self.points % self.inner:
            raise ValueError(f"{self.points} points do not factor by {self.inner}")

    @property
    def outer(self) -> int:
        return self.points // self.inner

    @property
    def rows(self) -> int:
        """How many k1 are kept."""
        return self.outer // 2 + 1 if self.half else self.outer

    @property
    def bins(self) -> int:
        return self.rows * self.inner

    def weights(self) -> list[float]:
        """What each k1 counts in the inverse: a bin that stands for its conjugate too counts twice."""
        single = (0, self.outer / 2)
        return [(1.0 if k in single or not self.half else 2.0) / self.points for k in range(self.rows)]

    def analysis(self, x: Tensor, prefix: int, samples: int, first: int, step: int, *, last: bool) -> Tensor:
        """x [prefix, (re, im), samples, ...] (no im if `half`) as [prefix, bins, rows, ...], flattened to 3 axes.

        Sample n stands at first + step n of e^{iφ}: a step below 0 is the transform of a signal, above 0 its conjugate.
        `samples` is a multiple of `inner`; `last`: three rows a bin, the form in which bins are multiplied, else two.
        """
        rows: Rows = (_RE, _IM, _BOTH) if last else (_RE, _IM)
        parts = 1 if self.half else 2
        if self.inner == 1:
            matrix = self._entries(x, self._k1(x), self._at(x, samples, first, step), _columns(rows, parts))
            matrix = matrix.reshape(self.rows * len(rows), parts * samples)
            return matrix @ x.reshape(prefix, parts * samples, -1)
        n1 = samples // self.inner
        outer = self._entries(x, self._k1(x), self._at(x, n1, 0, step * self.inner), _columns((_RE, _IM), parts))
        x = outer.reshape(self.rows * 2, parts * n1) @ x.reshape(prefix, parts * n1, -1)
        inner = self._entries(x, self._k(x), self._at(x, self.inner, first, step), rows)
        inner = inner.reshape(self.rows, self.inner * len(rows), 2 * self.inner)
        return (inner @ x.reshape(prefix, self.rows, 2 * self.inner, -1)).reshape(prefix, self.bins * len(rows), -1)

    def synthesis(self, y: Tensor, prefix: int, kept: int, first: int, stride: int, *, last: bool) -> Tensor:
        """y [prefix, bins, rows, ...] as [prefix, (re, im), samples, ...] (no im if `half`), flattened to 3 axes.

        The samples at first + stride m, 0 <= m < kept, unscaled; `stride` divides `inner`, and `kept` is then a
        multiple of inner / stride.
        """
        rows: Rows = (_RE_OF_THREE, _IM_OF_THREE) if last else (_RE, _IM)
        parts, each = (1 if self.half else 2), len(rows[0])
        if self.inner == 1:
            matrix = self._entries(y, self._k1(y), self._at(y, kept, first, stride), rows[:parts])
            matrix = matrix.permute(1, 3, 0, 2).reshape(parts * kept, self.rows * each)
            return matrix @ y.reshape(prefix, self.rows * each, -1)
        m2 = self.inner // stride
        inner = self._entries(y, self._k(y), self._at(y, m2, first, stride), rows)  # [k1, k2, part, row, m2]
        inner = inner.permute(0, 2, 4, 1, 3).reshape(self.rows, 2 * m2, self.inner * each)
        y = inner @ y.reshape(prefix, self.rows, self.inner * each, -1)
        outer = self._entries(y, self._k1(y), self._at(y, kept // m2, 0, self.inner), (_RE, _IM)[:parts])
        outer = outer.permute(1, 3, 0, 2).reshape(parts * (kept // m2), self.rows * 2)
        return outer @ y.reshape(prefix, self.rows * 2, -1)

    def _k1(self, like: Tensor) -> Tensor:
        return _arange(self.rows, like)

    def _k(self, like: Tensor) -> Tensor:
        return _arange(self.rows, like)[:, None] + self.outer * _arange(self.inner, like)

    def _at(self, like: Tensor, count: int, first: int, step: int) -> Tensor:
        return first % self.points + (step % self.points) * _arange(count, like)

    def _entries(self, like: Tensor, k: Tensor, at: Tensor, rows: Rows) -> Tensor:
        """[*k, row, column, at]: the table at ± k at mod N."""
        signs = torch.tensor([[sign for _, sign in row] for row in rows], device=like.device)
        blocks = torch.tensor([[block * self.points for block, _ in row] for row in rows], device=like.device)
        index = (k[..., None, None, None] * (signs[..., None] * at)) % self.points + blocks[..., None]
        return torch.tensor(_table(self.points), dtype=like.dtype, device=like.device)[index]


def _columns(rows: Rows, parts: int) -> Rows:
    return tuple(row[:parts] for row in rows)


def at_load(x: Tensor) -> Tensor:
    """x + 0, in a form that exporters leave alone (ConstantOfShape), or they would store what is computed from x in the
    file; ONNX Runtime evaluates it, once, when it loads the file."""
    return x + x.new_zeros(1)


def _arange(count: int, like: Tensor) -> Tensor:
    return at_load(torch.arange(count, device=like.device))


@lru_cache(maxsize=256)
def _table(points: int) -> list[float]:
    cos = [math.cos(2 * math.pi * j / points) for j in range(points)]
    sin = [math.sin(2 * math.pi * j / points) for j in range(points)]
    both = [c + s for c, s in zip(cos, sin, strict=True)]
    return [*cos, *sin, *both, *(-value for value in both)]
