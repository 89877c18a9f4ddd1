"""The discrete Fourier transform as products of constant real matrices, one for each factor of its size.

    N = n_1 n_2 ... n_L,    k = k_1 + n_1 k_2 + n_1 n_2 k_3 + ...,    n = i_L + n_L i_{L-1} + n_L n_{L-1} i_{L-2} + ...
    X[k] = Σ_{i_L} ... Σ_{i_2} Σ_{i_1} Π_j e^{∓2πi (k_1 + ... + n_1 .. n_{j-1} k_j) p(n_{j+1} .. n_L i_j) / N} x[n]

for samples at p(n) = first + step n. Level j is a matrix for each k_1 ... k_{j-1}, twiddle factors included: between
the levels nothing is computed, and, samples being the leading axis, nothing moves. [i_1, (i_2 ...)] -> [(k_1 re im),
(i_2 ...)] = [k_1, (re im i_2), ...] -> ... takes 4 N (n_1 + ... + n_L) multiplications in place of 4 N².

A bin holds three reals, (re, im, re + im), and the product of two such bins is that of their entries (Karatsuba, three
products for a complex one); what makes a complex number of them is in the matrix of the inverse. So a convolution is

    y = G (S ⊙ F x),    S = F' w            F, F', G constant, ⊙ a product of matrices over the channels, bin by bin

with nothing between the products. Every entry is read from one table of N cosines and sines at an index computed in
integers: exact to a rounding, and an exported file holds the table, not the matrices.

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
    """The transform of N = `points` along one axis; `inner`: the factors n_2 ... n_L, none for one level.

    `half`: of real data, the bins with k_1 <= n_1 / 2 only, which in several levels are a few more than half of all.
    """

    points: int
    inner: tuple[int, ...] = ()
    half: bool = False

    def __post_init__(self) -> None:
        if self.points < 1 or min(self.inner, default=1) < 1 or self.points % self.unit:
            raise ValueError(f"{self.points} points do not factor by {self.inner}")

    @property
    def unit(self) -> int:
        """n_2 ... n_L: samples come in multiples of it."""
        return math.prod(self.inner)

    @property
    def rows(self) -> int:
        """How many k_1 are kept."""
        first = self.points // self.unit
        return first // 2 + 1 if self.half else first

    @property
    def bins(self) -> int:
        return self.rows * self.unit

    def weights(self) -> list[float]:
        """What each k_1 counts in the inverse: a bin that stands for its conjugate too counts twice."""
        single = (0, self.points // self.unit / 2)
        return [(1.0 if k in single or not self.half else 2.0) / self.points for k in range(self.rows)]

    def analysis(
        self, x: Tensor, table: Tensor, prefix: int, samples: int, first: int, step: int, *, last: bool
    ) -> Tensor:
        """x [prefix, (re, im), samples, ...] (no im if `half`) as [prefix, bins, rows, ...], flattened to 3 axes.

        Sample n stands at first + step n of e^{iφ}: a step below 0 is the transform of a signal, above 0 its conjugate.
        `samples` is a multiple of `unit`; `last`: three rows a bin, the form in which bins are multiplied, else two.
        """
        for level in self.levels(samples):
            rows: Rows = (_RE, _IM, _BOTH) if last and level.is_last else (_RE, _IM)
            rows = tuple(row[: level.parts] for row in rows)
            at = _arange(level.samples, x) * (step * level.spacing % self.points)
            at = at + first % self.points if level.is_last else at
            matrix = self._entries(table, level.frequencies(x), at, rows)  # [*earlier, k, row, part, i]
            x = _times(matrix.reshape(level.earlier, level.bins * len(rows), -1), x, prefix)
        return x.reshape(prefix, self.bins * (3 if last else 2), -1)

    def synthesis(
        self, y: Tensor, table: Tensor, prefix: int, kept: int, first: int, stride: int, *, last: bool
    ) -> Tensor:
        """y [prefix, bins, rows, ...] as [prefix, (re, im), samples, ...] (no im if `half`), flattened to 3 axes.

        The samples at first + stride m, 0 <= m < kept, unscaled. In several levels `stride` divides the last factor,
        and `kept` is a multiple of unit / stride.
        """
        for level in reversed(self.levels(kept, stride)):
            rows: Rows = (_RE_OF_THREE, _IM_OF_THREE) if last and level.is_last else (_RE, _IM)
            at = _arange(level.samples, y) * (level.spacing * (stride if level.is_last else 1) % self.points)
            at = at + first % self.points if level.is_last else at
            matrix = self._entries(table, level.frequencies(y), at, rows[: level.parts])
            matrix = matrix.permute(0, 2, 4, 1, 3)
            y = _times(matrix.reshape(level.earlier, level.parts * level.samples, -1), y, prefix)
        return y.reshape(prefix, (1 if self.half else 2) * kept, -1)

    def levels(self, samples: int, stride: int = 1) -> list["Level"]:
        """From the outermost factor to the innermost, for so many samples, `stride` apart."""
        levels: list[Level] = []
        digits: tuple[tuple[int, int], ...] = ()
        weight, spacing = 1, self.points
        for j, factor in enumerate((self.points // self.unit, *self.inner)):
            spacing //= factor
            digits += ((factor if j else self.rows, weight),)
            is_last = j == len(self.inner)
            count = samples * stride // self.unit if j == 0 else factor
            if is_last:
                count = samples if j == 0 else factor // stride
            levels.append(Level(digits, count, 1 if self.half and j == 0 else 2, spacing, is_last))
            weight *= factor
        return levels

    def table(self, like: Tensor) -> Tensor:
        """What all matrices are read from, in the dtype of x: cos, sin, cos + sin and -(cos + sin) of 2πj/N."""
        both = at_load(torch.tensor(_cos_sin(self.points), dtype=like.dtype, device=like.device))
        total = both.sum(0)
        return torch.cat([both.flatten(), total, -total])

    def _entries(self, table: Tensor, k: Tensor, at: Tensor, rows: Rows) -> Tensor:
        """[*k, row, column, at]: the table at ± k at mod N."""
        signs = torch.tensor([[sign for _, sign in row] for row in rows], device=table.device)
        blocks = torch.tensor([[block * self.points for block, _ in row] for row in rows], device=table.device)
        return table[(k[..., None, None, None] * (signs[..., None] * at)) % self.points + blocks[..., None]]


@dataclass(frozen=True)
class Level:
    """One factor of a transform: a matrix from (part, sample) to (bin, row) for each of the bins of `earlier` levels.

    `digits`: (how many, weight in k) of each of k_1 ... k_j; `spacing`: n_{j+1} ... n_L; `parts`: 1 of real data, 2
    of complex.
    """

    digits: tuple[tuple[int, int], ...]
    samples: int
    parts: int
    spacing: int
    is_last: bool

    @property
    def earlier(self) -> int:
        return math.prod(count for count, _ in self.digits[:-1])

    @property
    def bins(self) -> int:
        return self.digits[-1][0]

    def frequencies(self, like: Tensor) -> Tensor:
        """k_1 + n_1 k_2 + ... as [earlier, bins]; what is read there is computed when a file is loaded (`at_load`)."""
        total = like.new_zeros(1, dtype=torch.int64)
        for count, weight in self.digits[:-1]:
            total = (total[:, None] + weight * _arange(count, like)).flatten()
        count, weight = self.digits[-1]
        return total[:, None] + weight * _arange(count, like)


def _times(matrix: Tensor, x: Tensor, prefix: int) -> Tensor:
    """matrix [earlier, rows, columns] times x [prefix, earlier, columns, ...] flattened in any way."""
    earlier, _, columns = matrix.shape
    if earlier == 1:
        return matrix.squeeze(0) @ x.reshape(prefix, columns, -1)
    return matrix @ x.reshape(prefix, earlier, columns, -1)


def at_load(x: Tensor) -> Tensor:
    """x + 0, in a form that exporters leave alone (ConstantOfShape), or they would store what is computed from x in the
    file; ONNX Runtime evaluates it, once, when it loads the file."""
    return x + x.new_zeros(1)


def _arange(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device)


@lru_cache(maxsize=256)
def _cos_sin(points: int) -> tuple[list[float], list[float]]:
    angles = [2 * math.pi * j / points for j in range(points)]
    return [math.cos(angle) for angle in angles], [math.sin(angle) for angle in angles]
