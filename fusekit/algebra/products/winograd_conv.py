"""Convolutions with a short window by Winograd's filters along their last axis.

    c = join ∘ mix(C) ∘ Conv(A·K, groups = m + r - 1) ∘ mix(B) ∘ cut        (A, B, C) = F(m, r) of `toom_cook.py`

cut takes windows of m + r - 1 columns, m apart, the k-th columns of all of them one block of channels; join puts the m
blocks of outputs side by side again. On the other axes the products are convolutions as before, so all it requires is
stride and dilation 1 on the last axis. F(4, 3) takes half the multiplications; along one axis only, for its error in
float32 is near twice the direct sum's already. Reference: Lavin and Gray, Fast algorithms for convolutional neural
networks, arXiv:1509.09308.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.products.bilinear import Bilinear
from fusekit.algebra.products.mixing import Mixing
from fusekit.algebra.products.toom_cook import winograd
from fusekit.algebra.values import wide
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class WinogradConv(Map):
    """`conv` by F(m, r), r taps on its last axis, m = `outputs`."""

    conv: Conv
    outputs: int = 4

    def __post_init__(self) -> None:
        c = self.conv
        if c.n == 0 or c.transposed or c.groups != 1 or c.kernel.is_complex():
            raise Inapplicable("only plain dense convolutions are cut into windows")
        if c.stride[-1] != 1 or c.dilation[-1] != 1 or c.window[-1] < 2:
            raise Inapplicable("the last axis must have stride and dilation 1 and more than one tap")

    @property
    def taps(self) -> int:
        """r, the taps on the last axis."""
        return self.conv.window[-1]

    @cached_property
    def algorithm(self) -> Bilinear:
        """F(m, r): y = C ((A k) ∘ (B x)) for r taps k and a window x of m + r - 1 entries, in m + r - 1 products."""
        return winograd(self.outputs, self.taps).balanced()

    @cached_property
    def products(self) -> Conv:
        """The convolutions of the blocks. The bias goes into one of them, exactly: all outputs of a window read the
        product at the point 1 alike."""
        c, algorithm = self.conv, self.algorithm
        kernel = torch.einsum("pu,oi...u->poi...", algorithm.a.to(c.kernel.device), wide(c.kernel[0])).unsqueeze(-1)
        bias = None
        if c.bias is not None:
            bias = torch.outer(_ones(algorithm.c).to(c.bias.device), wide(c.bias)).flatten()
        return replace(c, kernel=kernel, bias=bias, padding=(*c.padding[:-1], (0, 0)))

    @property
    def before(self) -> Mixing:
        """mix(B): what the products read."""
        return Mixing(self.algorithm.b.to(self.conv.kernel.device), self.conv.n)

    @property
    def after(self) -> Mixing:
        """mix(C): the outputs of each window."""
        return Mixing(self.algorithm.c.to(self.conv.kernel.device), self.conv.n)

    def __call__(self, x: Tensor) -> Tensor:
        c, geometry = self.conv, (self.outputs, self.taps, *self.conv.padding[-1])
        return join(self.after(self.products(self.before(cut(x, c.n, *geometry)))), x, c.n, *geometry)

    def cut_shape(self, shape: Shape) -> Shape:
        """The shape of the windows' columns."""
        tiles = -(-self.conv.output_shape(shape)[-1] // self.outputs)
        axis = len(shape) + self.conv.channel_axis
        return (*shape[:axis], shape[axis] * self.algorithm.rank, *shape[axis + 1 : -1], tiles)

    def output_shape(self, shape: Shape) -> Shape:
        return self.conv.output_shape(shape)

    def macs(self, shape: Shape) -> int:
        columns = self.cut_shape(shape)
        made = self.products.output_shape(columns)
        return self.before.macs(columns) + self.products.macs(columns) + self.after.macs(made)

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """The products and both mixings; the columns of the windows copied one by one and then together, the outputs
        once or twice. Raises Inapplicable if the copies take what the products save."""
        if not rates.fast_windows:
            raise Inapplicable("the copies of the windows take here what the products save")
        columns = self.cut_shape(shape)
        made = self.products.output_shape(columns)
        windows, outputs = math.prod(columns), math.prod(self.output_shape(shape))
        copied = (2 * math.prod(shape) + 3 * windows + 2 * outputs) * itemsize
        steps: tuple[tuple[Map, Shape], ...] = (
            (self.before, columns),
            (self.products, columns),
            (self.after, made),
        )
        works = (each.work(seen, itemsize, rates) for each, seen in steps)
        return sum(works, Work(0, copied, self.algorithm.rank + 5))

    def constants(self) -> tuple[Tensor, ...]:
        return (*self.products.constants(), self.before.matrix, self.after.matrix)

    def describe(self) -> str:
        return f"winograd {self.outputs} {self.conv.describe()}"

    def plain(self) -> Conv:
        return self.conv

    def linear_part(self) -> "WinogradConv":
        return replace(self, conv=self.conv.linear_part())

    def on_meta(self) -> "WinogradConv":
        return replace(self, conv=self.conv.on_meta())


def cut(x: Tensor, n: int, outputs: int, taps: int, low: int, high: int) -> Tensor:
    """x [*, C, *others, size] ↦ [*, (m + r - 1) C, *others, tiles]: block k is column k of each window, of x with `low`
    and `high` zeros and as many more as fill the last window. ValueError where there is no output."""
    made = x.shape[-1] + low + high - taps + 1
    if made < 1:
        raise ValueError(f"{taps} taps have no output on {x.shape[-1]} columns padded by {low} and {high}")
    tiles = (made + outputs - 1) // outputs
    padded = F.pad(x, (low, high + tiles * outputs - made))
    end = (tiles - 1) * outputs + 1
    return torch.cat([padded[..., k : k + end : outputs] for k in range(outputs + taps - 1)], x.dim() - n - 1)


def join(y: Tensor, x: Tensor, n: int, outputs: int, taps: int, low: int, high: int) -> Tensor:
    """y [*, m C, *others, tiles] ↦ [*, C, *others, size]: the outputs of each window side by side, as many columns as
    the convolution of x has."""
    axis = y.dim() - n - 1
    leading, channels, others = y.shape[:axis], y.shape[axis] // outputs, y.shape[axis + 1 : -1]
    y = y.reshape(*leading, outputs, channels, *others, y.shape[-1]).movedim(axis, -1)
    y = y.reshape(*leading, channels, *others, y.shape[-1] * y.shape[-2])
    return y[..., : x.shape[-1] + low + high - taps + 1].contiguous()


def _ones(c: Tensor) -> Tensor:
    """β with C β = 1: the unit vector of a column of equal entries."""
    alike = torch.nonzero((c == c[:1]).all(0) & (c[0] != 0)).flatten()
    if not len(alike):
        raise Inapplicable("no product is read alike by all outputs")
    ones = torch.zeros(c.shape[1], dtype=torch.float64)
    ones[alike[0]] = 1 / c[0, alike[0]]
    return ones
