"""Maps that only move or average values, and how linear maps pass through them.

P ∘ (W ⊗ I_r²) = W ∘ P        pixel shuffle: a pointwise map after it is one before it, on r² times the channels
W ∘ mean = mean ∘ W           the mean over all positions, for a pointwise W with stride 1 and no padding
L ∘ flatten ∘ W = (L W) ∘ flatten, position by position
L ∘ flatten = flatten ∘ C       a linear layer on maps of fixed size is a convolution whose window is the whole map
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.conv import Conv
from fusekit.algebra.kernel import coarsen
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.span import Span
from fusekit.algebra.trivial import Identity
from fusekit.algebra.values import wide
from fusekit.algebra.work import FREE, Rates, Work
from fusekit.errors import Inapplicable


class _Rearrangement(Map):
    """Reads no constants and multiplies nothing."""

    def macs(self, shape: Shape) -> int:
        return 0

    def constants(self) -> tuple[Tensor, ...]:
        return ()

    def linear_part(self) -> Map:
        return self

    def on_meta(self):  # type: ignore[no-untyped-def]
        return self


@dataclass(frozen=True, eq=False)
class PixelShuffle(_Rearrangement):
    """(N, C r², H, W) ↦ (N, C, r H, r W) for r = `factor`: channel c r² + r i + j goes to c, offset (i, j) (Shi et al.,
    2016); `blocks_first`: channel (r i + j) C + c does, as in TensorFlow and by default in ONNX."""

    factor: int
    blocks_first: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        if self.blocks_first:
            x = x.unflatten(-3, (self.factor**2, x.shape[-3] // self.factor**2)).transpose(-4, -3).flatten(-4, -3)
        return F.pixel_shuffle(x, self.factor)

    def output_shape(self, shape: Shape) -> Shape:
        *batch, channels, height, width = shape
        return (*batch, channels // self.factor**2, height * self.factor, width * self.factor)

    def lifted(self, outer: Affine | Conv) -> Affine | Conv:
        """The map m with outer ∘ P = P ∘ m: every channel becomes r² channels with the same coefficients. Raises
        Inapplicable if m is neither affine on the channels nor a dense 1x1 convolution."""
        times = self.factor**2
        if isinstance(outer, Affine):
            if outer.axis not in (None, -3):
                raise Inapplicable(f"the affine map acts on axis {outer.axis}, the channels are on axis -3")
            if outer.axis is None:
                return outer
            return Affine(self._of_blocks(outer.scale), self._of_blocks(outer.shift), outer.axis)
        if not outer.is_pointwise() or outer.groups != 1 or outer.n != 2:
            raise Inapplicable("only a dense 1x1 convolution passes through a pixel shuffle")
        eye = torch.eye(times, dtype=torch.float64, device=outer.kernel.device)
        matrix = wide(outer.kernel).flatten(2)[0]
        kernel = torch.kron(eye, matrix) if self.blocks_first else torch.kron(matrix, eye)
        bias = None if outer.bias is None else self._of_blocks(wide(outer.bias))
        return Conv(kernel[None, :, :, None, None], bias, (1, 1), ((0, 0), (0, 0)), (1, 1))

    def _of_blocks(self, numbers: Tensor) -> Tensor:
        """Numbers of each channel behind it, for those before it."""
        times = self.factor**2
        return numbers.repeat(times) if self.blocks_first else numbers.repeat_interleave(times)


def depth_to_space(x: Tensor, factor: int) -> Tensor:
    """A pixel shuffle of x whose channels hold block after block."""
    return PixelShuffle(factor, blocks_first=True)(x)


@dataclass(frozen=True, eq=False)
class SpaceToDepth(_Rearrangement):
    """(N, C, r H, r W) ↦ (N, C r², H, W) for r = `factor`: what stands at offset (i, j) of its block goes from channel
    c to channel c r² + r i + j, or with `blocks_first` to (r i + j) C + c.

        c ∘ S = Conv at stride r, its taps r apart, each over a block

    The sizes being whole blocks, a block beyond the border is zeros where c pads zeros.
    """

    factor: int
    blocks_first: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        whole: Tensor = F.pixel_unshuffle(x, self.factor)
        if self.blocks_first:
            whole = whole.unflatten(-3, (x.shape[-3], self.factor**2)).transpose(-4, -3).flatten(-4, -3)
        return whole

    def as_conv(self, channels: int, device: torch.device | None = None) -> Conv:
        """The same on so many `channels` as a convolution of window and stride r, its kernel in float64 on a
        `device`."""
        r = self.factor
        eye = torch.eye(channels * r * r, dtype=torch.float64, device=device)
        kernel = (
            eye.reshape(-1, r, r, channels).movedim(-1, 1) if self.blocks_first else eye.reshape(-1, channels, r, r)
        )
        return Conv(kernel[None], None, (r, r), ((0, 0), (0, 0)), (1, 1))

    def __rmatmul__(self, outer: Conv) -> Conv:
        """c ∘ S."""
        if not isinstance(outer, Conv):
            return NotImplemented
        if outer.n != 2 or outer.in_channels % self.factor**2:
            raise Inapplicable(f"{outer.in_channels} channels on {outer.n} axes are no blocks of {self.factor**2}")
        return outer.composed(self.as_conv(outer.in_channels // self.factor**2, outer.kernel.device))

    def channels_read(self, channels: int) -> int:
        return channels // self.factor**2

    def block(self) -> int:
        return self.factor

    def output_shape(self, shape: Shape) -> Shape:
        *batch, channels, height, width = shape
        return (*batch, channels * self.factor**2, height // self.factor, width // self.factor)

    def span(self) -> Span:
        return Span((self.factor - 1,) * 2, (self.factor,) * 2, (0, 0))


@dataclass(frozen=True, eq=False)
class GlobalMean(_Rearrangement):
    """The mean over the last `n` axes, which stay with size 1, or are gone (`keeps` False)."""

    n: int
    keeps: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        return x.mean(dim=tuple(range(-self.n, 0)), keepdim=self.keeps)

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[: -self.n], *(1,) * (self.n if self.keeps else 0))

    def passed(self, inner: Conv) -> Conv:
        """The map c with mean ∘ inner = c ∘ mean, for a pointwise inner convolution. Raises Inapplicable if it is not
        pointwise."""
        if not inner.is_pointwise() or inner.n != self.n:
            raise Inapplicable("only a pointwise convolution commutes with the mean over all positions")
        if self.keeps:
            return inner
        return Conv(coarsen(wide(inner.kernel), 1).flatten(2).unflatten(2, (-1,)), inner.bias, (), (), ())

    def lifted(self, inner: Affine) -> Affine:
        """The map a with mean ∘ inner = a ∘ mean; Inapplicable if it differs between the positions."""
        if inner.axis is not None and inner.axis >= -self.n:
            raise Inapplicable(f"the affine map acts on axis {inner.axis}, over which the mean is taken")
        return inner if inner.axis is None or self.keeps else replace(inner, axis=inner.axis + self.n)


@dataclass(frozen=True, eq=False)
class Permute(_Rearrangement):
    """The axes in another order: axis j of the result is axis `axes[j]` of the input, all counted from the left."""

    axes: Shape

    def __call__(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(shape[axis] for axis in self.axes)

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """A view where slices are."""
        return Work(0, 2 * math.prod(shape) * itemsize if rates.copies_slices else 0, 1)

    def __matmul__(self, inner: object) -> "Permute | Identity":
        """First `inner`, then this one; the identity where that puts the axes back."""
        if not isinstance(inner, Permute):
            return NotImplemented
        if len(self.axes) != len(inner.axes):
            raise Inapplicable("permutations of tensors of different rank")
        axes = tuple(inner.axes[axis] for axis in self.axes)
        return Identity() if axes == tuple(range(len(axes))) else Permute(axes)

    def lifted(self, outer: Affine) -> Affine:
        """The map a with outer ∘ P = P ∘ a."""
        if outer.axis is None:
            return outer
        rank = len(self.axes)
        return replace(outer, axis=self.axes[outer.axis + rank] - rank)

    def lowered(self, inner: Affine) -> Affine:
        """The map a with P ∘ inner = a ∘ P."""
        if inner.axis is None:
            return inner
        rank = len(self.axes)
        return replace(inner, axis=self.axes.index(inner.axis + rank) - rank)

    def pointwise(self, outer: Conv) -> Conv:
        """The convolution W with outer ∘ P = P ∘ W, for a linear layer behind channels that were moved last. Raises
        Inapplicable for any other order or layer."""
        rank = len(self.axes)
        if outer.n != 0 or self.axes != (0, *range(2, rank), 1):
            raise Inapplicable("only a linear layer of channels that were moved last is a pointwise convolution")
        n = rank - 2
        kernel = outer.kernel.reshape(*outer.kernel.shape, *(1,) * n)
        return Conv(kernel, outer.bias, (1,) * n, ((0, 0),) * n, (1,) * n)


@dataclass(frozen=True, eq=False)
class MergeLeading(_Rearrangement):
    """(a, b, ..., *rest) ↦ (a b ..., *rest): all but the last `kept` axes in one, as tokens of a batch in a row."""

    kept: int

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(0, -1 - self.kept)

    def output_shape(self, shape: Shape) -> Shape:
        rank = len(shape) - self.kept
        return (math.prod(shape[:rank]), *shape[rank:])

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        return FREE  # a view

    def lifted(self, outer: Affine) -> Affine:
        """The map a with outer ∘ merge = merge ∘ a; Inapplicable if it acts on what is merged."""
        if outer.axis is not None and outer.axis < -self.kept:
            raise Inapplicable(f"the affine map acts on axis {outer.axis}, which is made of several")
        return outer


@dataclass(frozen=True, eq=False)
class Flatten(_Rearrangement):
    """(N, C, *spatial) ↦ (N, C · positions). `sizes`: the spatial sizes where the program fixes them."""

    sizes: Shape | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], math.prod(shape[1:]))

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        return FREE  # a view

    def absorbed(self, outer: Conv, inner: Conv) -> Conv:
        """The linear map L' with outer ∘ flatten ∘ inner = L' ∘ flatten, for a pointwise inner convolution:
        L'[o, i P + p] = Σ_m L[o, m P + p] W[m, i], b' = b + Σ L[o, m P + p] b1[m], whatever the P positions are. Raises
        Inapplicable if the features are not the channels of P positions, in this order."""
        _require_linear(outer)
        if inner.n == 0:
            raise Inapplicable("a linear layer has its channels last, and is flattened in another order")
        if outer.in_channels % inner.out_channels:
            raise Inapplicable(f"{inner.out_channels} channels do not divide {outer.in_channels} features")
        linear = wide(outer.kernel)[0].unflatten(1, (inner.groups, inner.out_channels // inner.groups, -1))
        kernel = torch.einsum("ogmp,gmi->ogip", linear, wide(inner.kernel).flatten(2)).flatten(1)[None]
        bias = None if outer.bias is None else wide(outer.bias)
        if inner.bias is not None:
            seen = linear.flatten(1, 2).sum(2) @ wide(inner.bias)
            bias = seen if bias is None else bias + seen
        return Conv(kernel, bias, (), (), ())

    def with_affine(self, outer: Conv, inner: Affine) -> Conv:
        """The linear map L' with outer ∘ flatten ∘ inner = L' ∘ flatten, for a map of each channel, axis 1. Raises
        Inapplicable if it acts on another axis."""
        _require_linear(outer)
        if inner.axis is None:
            return outer @ inner
        channels = int(inner.scale.shape[0])
        if self.sizes is not None and inner.axis != -len(self.sizes) - 1:
            raise Inapplicable(f"the affine map acts on axis {inner.axis}, the channels are on {-len(self.sizes) - 1}")
        pointwise = Conv.from_affine(inner, -inner.axis - 1, channels, outer.kernel.device)
        return self.absorbed(outer, pointwise)

    def unflattened(self, outer: Conv) -> Conv:
        """The convolution C with outer ∘ flatten = flatten ∘ C on maps of the fixed sizes: one window, one output.
        Raises Inapplicable if the sizes are not fixed."""
        _require_linear(outer)
        if self.sizes is None:
            raise Inapplicable("only a pointwise convolution passes through a flattening whose size is not fixed")
        kernel = wide(outer.kernel).unflatten(2, (-1, *self.sizes))
        n = len(self.sizes)
        return Conv(kernel, outer.bias, (1,) * n, ((0, 0),) * n, (1,) * n)


def _require_linear(outer: Conv) -> None:
    """Behind a flattening to [N, features] stands a linear layer; one that has spatial axes reads a batch of one."""
    if outer.n != 0:
        raise Inapplicable("what follows the flattening is no linear layer")
