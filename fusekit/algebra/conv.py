"""Convolutions as values: one type for 0 to 3 spatial axes, any stride, padding, dilation and grouping, transposed too.

What they are made of stands in `windowed.py`, their laws here. A linear layer is the case of no spatial axes: its
channels are the last axis. Like torch, "convolution" means cross-correlation.

Laws (the formulas of each are at its function; all values in float64):

    affine @ conv, conv @ affine        scale and shift move into kernel and bias
    conv @ pad, pad @ conv              the pad, or crop, joins the padding
    conv @ cut, cut @ conv              every so many rows: strides multiply
    conv @ conv                         strides multiply, kernels convolve; the border is `border.py`'s business
    conv + conv, concat([conv, ...])    kernels on one window, added or stacked
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.border import require_exact_border
from fusekit.algebra.cut import Cut
from fusekit.algebra.kernel import coarsen, compose_kernels, multiply_pointwise
from fusekit.algebra.map import Map, Pairs, Shape
from fusekit.algebra.operators import CONV, CONV_TRANSPOSE
from fusekit.algebra.pad import Pad, add_padding, flat_padding
from fusekit.algebra.span import Span
from fusekit.algebra.values import is_zero, to_meta, wide
from fusekit.algebra.window import one_window
from fusekit.algebra.windowed import Windowed
from fusekit.algebra.words import sizes
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class Conv(Windowed, Map):
    """x ↦ kernel ⋆ x + bias at its `stride`, `padding`, `dilation`, `transposed`, `output_padding`: see `Windowed`."""

    def is_pointwise(self) -> bool:
        """One tap, stride 1, no padding: the same matrix at every position."""
        taps = all(k == 1 for k in self.window) and not any(self.output_padding)
        return taps and all(s == 1 for s in self.stride) and not any(low or high for low, high in self.padding)

    def is_identity(self) -> bool:
        """Whether it returns what it is given; unknown of shapes alone, and then not."""
        plain = self.is_pointwise() and is_zero(self.bias) and self.in_channels == self.out_channels
        if not plain or self.kernel.is_meta:
            return False
        kernel = coarsen(wide(self.kernel), 1).flatten(1).reshape(self.out_channels, self.in_channels)
        return bool(torch.equal(kernel, torch.eye(self.in_channels, dtype=kernel.dtype, device=kernel.device)))

    def __call__(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.n == 0:
            return F.linear(x, weight, bias)
        if self.transposed:
            if any(low != high for low, high in self.padding):
                raise ValueError("a transposed convolution pads both sides alike")
            padding = [low for low, _ in self.padding]
            return CONV_TRANSPOSE[self.n](
                x, weight, bias, self.stride, padding, self.output_padding, self.groups, self.dilation
            )
        first, common = self.symmetric_padding()
        if any(pair != (0, 0) for pair in first):
            x = F.pad(x, flat_padding(first))
        return CONV[self.n](x, weight, bias, self.stride, common, self.dilation, self.groups)

    def output_shape(self, shape: Shape) -> Shape:
        if self.n == 0:
            return (*shape[:-1], self.out_channels)
        made = []
        for i, size in enumerate(shape[-self.n :]):
            padding, reach, stride = sum(self.padding[i]), self.reach[i], self.stride[i]
            if self.transposed:
                made.append((size - 1) * stride - padding + reach + self.output_padding[i] + 1)
            else:
                made.append((size + padding - reach - 1) // stride + 1)
        return (*shape[: self.channel_axis], self.out_channels, *made)

    def macs(self, shape: Shape) -> int:
        """Taps times positions: output positions, or input positions for a transposed convolution."""
        positions = shape if self.transposed else self.output_shape(shape)
        rest = (size for axis, size in enumerate(positions) if axis != self.channel_axis % len(positions))
        return math.prod(rest) * self.kernel.numel()

    def constants(self) -> tuple[Tensor, ...]:
        return (self.kernel,) if self.bias is None else (self.kernel, self.bias)

    def describe(self) -> str:
        kind, bias = "convT" if self.transposed else "conv", "" if self.bias is None else " + bias"
        return (
            f"{kind} {sizes(self.kernel)}{bias} stride {self.stride} padding {self.padding} dilation {self.dilation} "
            f"output padding {self.output_padding}"
        )

    def plain(self) -> "Conv":
        return self

    def span(self) -> Span:
        """A transposed convolution's outputs see what fits under the kernel: no more inputs than it has taps."""
        stride = (1,) * self.n if self.transposed else self.stride
        return Span(self.reach, stride, tuple(abs(low) + abs(high) for low, high in self.padding), self.transposed)

    def linear_part(self) -> "Conv":
        return replace(self, bias=None)

    def pads_first(self, rates: Rates) -> bool:
        """Whether its padding needs an operator of its own before it, in a runtime of these `rates`: every runtime's
        convolutions pad both sides of an axis alike, those of some runtimes each side on its own, and none crops."""
        first, _ = self.symmetric_padding()
        return any(low < 0 or high < 0 or (low != high and not rates.pads_each_side) for low, high in first)

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """A pad that it cannot do itself is an operator of its own; the convolution then reads the padded tensor."""
        if not self.transposed and self.pads_first(rates):
            first, common = self.symmetric_padding()
            bare = replace(self, padding=tuple((amount, amount) for amount in common))
            pad = Pad(first)
            return pad.work(shape, itemsize, rates) + bare.work(pad.output_shape(shape), itemsize, rates)
        total = super().work(shape, itemsize, rates)
        if self.transposed and rates.sums_columns:
            return total + Work(0, 2 * self.macs(shape) // int(self.kernel.shape[2]) * itemsize, 0)
        if self.n == 1 and self.groups == self.in_channels > 1:
            return replace(total, macs=rates.line_depthwise * total.macs)
        return total

    def on_meta(self) -> "Conv":
        return replace(self, kernel=self.kernel.to("meta"), bias=to_meta(self.bias))

    def __matmul__(self, inner: "Affine | Cut | Pad | Conv") -> "Conv":
        if isinstance(inner, Affine):
            return self._after_affine(inner)
        if isinstance(inner, Pad):
            return self._after_pad(inner)
        if isinstance(inner, Cut):
            return self._after_cut(inner)
        if isinstance(inner, Conv):
            return self._after_conv(inner)
        return NotImplemented

    def __rmatmul__(self, outer: Affine | Cut | Pad) -> "Conv":
        """a ∘ c = Conv(s K, s b + t): s scales the output channels after all else has had its say."""
        if isinstance(outer, Pad):
            return self._before_pad(outer.on_spatial(self.n), (1,) * self.n)
        if isinstance(outer, Cut):
            return self._before_pad(outer.padding(self.n), outer.on_spatial(self.n))
        if not isinstance(outer, Affine):
            return NotImplemented
        scale, shift = outer.along(self.channel_axis, self.out_channels, self.kernel.device)
        kernel = wide(self.kernel) * scale.reshape((self.groups, -1, 1, *(1,) * self.n))
        bias = shift if self.bias is None else scale * wide(self.bias) + shift
        return replace(self, kernel=kernel, bias=None if self.bias is None and is_zero(shift) else bias)

    def _after_affine(self, inner: Affine) -> "Conv":
        """c ∘ a = Conv(K s, b + Σ K t). With t ≠ 0 every window must see t at each of its taps: no zero padding, and
        no transposition, whose outputs sum over a varying number of taps."""
        scale, shift = inner.along(self.channel_axis, self.in_channels, self.kernel.device)
        by_group = (self.groups, 1, -1, *(1,) * self.n)
        kernel = wide(self.kernel) * scale.reshape(by_group)
        if is_zero(inner.shift):
            return replace(self, kernel=kernel, bias=None if self.bias is None else wide(self.bias))
        if self.transposed:
            raise Inapplicable("a shift before a transposed convolution reaches each output through other taps")
        if any(low > 0 or high > 0 for low, high in self.padding):
            raise Inapplicable("the convolution pads with zeros where the graph has the shift: the border would differ")
        return replace(self, kernel=kernel, bias=self._bias_or_zero() + self.of_constant(shift))

    def _after_pad(self, inner: Pad) -> "Conv":
        """c ∘ pad = Conv with the padding of both."""
        if self.transposed:
            raise Inapplicable("the padding of a transposed convolution crops its output, it cannot take a pad")
        return replace(self, padding=add_padding(self.padding, inner.on_spatial(self.n)))

    def _after_cut(self, inner: Cut) -> "Conv":
        """c ∘ cut(q, t) = Conv at stride t s and dilation t d with padding t p - q: taps on what is left."""
        if self.transposed:
            raise Inapplicable("a transposed convolution of some rows puts them next to each other")
        padding, steps = inner.padding(self.n), inner.on_spatial(self.n)
        for i, pair in enumerate(self.padding):
            require_exact_border(
                outer_padding=pair,
                reach=0,
                stride=steps[i],
                inner_padding=padding[i],
                has_bias=False,
                axis=i - self.n,
            )
        sides = zip(padding, steps, self.padding, strict=True)
        return replace(
            self,
            stride=tuple(t * s for t, s in zip(steps, self.stride, strict=True)),
            dilation=tuple(t * d for t, d in zip(steps, self.dilation, strict=True)),
            padding=tuple((q[0] + t * p[0], q[1] + t * p[1]) for q, t, p in sides),
        )

    def _before_pad(self, amounts: Pairs, steps: Shape) -> "Conv":
        """pad(q) ∘ c = Conv with padding p + s q: always for a crop, q < 0; for zeros, q > 0, only where c gives zero
        beyond its output. A transposed c crops its output itself. Of every t-th output (`steps`) at stride s t."""
        if self.transposed:
            if any(low > 0 or high > 0 for low, high in amounts) or any(step > 1 for step in steps):
                raise Inapplicable("zeros around the output of a transposed convolution, or gaps, are no output of it")
            cropped = tuple((p[0] - q[0], p[1] - q[1]) for p, q in zip(self.padding, amounts, strict=True))
            moved = replace(self, padding=cropped)
            axes = zip(moved.axes, self.stride, strict=True)
            return moved.placed([axis.cropping_alike(axis.grown, stride) for axis, stride in axes])
        for i, pair in enumerate(amounts):
            self._require_border(i, pair)
        sides = zip(self.padding, self.stride, amounts, strict=True)
        padding = tuple((p[0] + s * q[0], p[1] + s * q[1]) for p, s, q in sides)
        return replace(self, padding=padding, stride=tuple(s * t for s, t in zip(self.stride, steps, strict=True)))

    def _require_border(self, i: int, padding: tuple[int, int]) -> None:
        """Inapplicable if what stands behind, with this padding, would see more than zeros beyond the output."""
        require_exact_border(
            outer_padding=padding,
            reach=self.reach[i],
            stride=self.stride[i],
            inner_padding=self.padding[i],
            has_bias=not is_zero(self.bias),
            axis=i - self.n,
        )

    def _after_conv(self, inner: "Conv") -> "Conv":
        """c2 ∘ c1 as one convolution, where the border allows it."""
        folded = self.composed(inner)
        for i in range(self.n):
            inner._require_border(i, self.padding[i])
        return folded

    def composed(self, inner: "Conv") -> "Conv":
        """c2 ∘ c1 (`inner`) far from the border: stride s1 s2, padding p1 + s1 p2, taps at d1 u + s1 d2 v, gcd(g1, g2)
        groups, b = b2 + Σ K2 b1. The output size is that of the pair for every input size. Inapplicable if the channels
        or the axes differ, or if one is transposed and the other more than pointwise."""
        if self.n != inner.n or self.in_channels != inner.out_channels:
            raise Inapplicable(f"{inner.out_channels} channels on {inner.n} axes do not feed {self.in_channels}")
        if self.transposed or inner.transposed:
            return self._after_transposed(inner)
        outer_step = tuple(s * d for s, d in zip(inner.stride, self.dilation, strict=True))
        kernel, dilation = compose_kernels(self.kernel, inner.kernel, outer_step, inner.dilation)
        bias = None if self.bias is None else wide(self.bias)
        if inner.bias is not None:
            seen = self.of_constant(wide(inner.bias))
            bias = seen if bias is None else bias + seen
        padding = tuple(
            (low1 + s * low2, high1 + s * high2)
            for (low1, high1), s, (low2, high2) in zip(inner.padding, inner.stride, self.padding, strict=True)
        )
        stride = tuple(s1 * s2 for s1, s2 in zip(inner.stride, self.stride, strict=True))
        return Conv(kernel, bias, stride, padding, dilation)

    def _after_transposed(self, inner: "Conv") -> "Conv":
        """c ∘ t and t ∘ c for a pointwise c: the matrices multiply tap by tap. A bias before a transposed convolution
        reaches each output through other taps."""
        geometry = inner if self.is_pointwise() else self
        pointwise = self if self.is_pointwise() else inner
        if not pointwise.is_pointwise():
            raise Inapplicable("composition with a transposed convolution is not one convolution in general")
        if self.transposed and not self.is_pointwise() and not is_zero(inner.bias):
            raise Inapplicable("a bias before a transposed convolution reaches each output through other taps")
        kernel = multiply_pointwise(self.kernel, inner.kernel)
        bias = None if self.bias is None else wide(self.bias)
        if not is_zero(inner.bias) and inner.bias is not None:
            seen = self.of_constant(wide(inner.bias))
            bias = seen if bias is None else bias + seen
        return replace(geometry, kernel=kernel, bias=bias)

    def padding_apart(self) -> tuple["Conv", Pad]:
        """(c0, pad) with c = c0 ∘ pad and c0 without padding. Inapplicable if c does not pad, crops, or is transposed,
        where padding is a crop of the output."""
        if self.transposed or not any(map(any, self.padding)) or any(min(pair) < 0 for pair in self.padding):
            raise Inapplicable("the convolution does not pad its input")
        return replace(self, padding=((0, 0),) * self.n), Pad(self.padding)

    def reading(self, start: int, channels: int, *, with_bias: bool) -> "Conv":
        """The map on `channels` of the inputs, from `start`, the others being zero; `with_bias`: and with its bias."""
        kernel = coarsen(self.kernel, 1).narrow(2, start, channels)
        return replace(self, kernel=kernel, bias=self.bias if with_bias else None)

    def of_constant(self, value: Tensor) -> Tensor:
        """Σ K v over inputs and taps: what the kernel makes of a constant `value` v [in], far from any border."""
        by_group = value.reshape((self.groups, 1, -1, *(1,) * self.n))
        return (wide(self.kernel) * by_group).flatten(2).sum(2).flatten()

    def __add__(self, other: "Affine | Conv") -> "Conv":
        """c1 + c2: the kernels on one window, added; the biases added."""
        if isinstance(other, Affine):
            other = Conv.from_affine(other, self.n, self.in_channels, self.kernel.device)
        return self.plus(other) if isinstance(other, Conv) else NotImplemented

    def plus(self, other: "Conv", *, agreeing: bool = False) -> "Conv":
        """c1 + c2, c2 = `other`; `agreeing`: wherever it is asked for, the two are of one size, though at other sizes
        of the input they might not be. Raises Inapplicable if their output channels or geometries do not agree."""
        if self.out_channels != other.out_channels:
            raise Inapplicable(f"{self.out_channels} and {other.out_channels} output channels do not add")
        a, b = self._on_one_window(other, math.gcd(self.groups, other.groups), agreeing=agreeing)
        bias = None if a.bias is None and b.bias is None else a._bias_or_zero() + b._bias_or_zero()
        return replace(a, kernel=a.kernel + b.kernel, bias=bias)

    def __radd__(self, other: Affine) -> "Conv":
        return self + other if isinstance(other, Affine) else NotImplemented

    def stack(self, other: "Conv") -> "Conv":
        """x ↦ concat(c1(x), c2(x)) along the channels, c2 = `other`, as one dense convolution. Inapplicable if they do
        not read one input at one stride."""
        a, b = self._on_one_window(other, 1)
        bias = None if a.bias is None and b.bias is None else torch.cat([a._bias_or_zero(), b._bias_or_zero()])
        return replace(a, kernel=torch.cat([a.kernel, b.kernel], 1), bias=bias)

    def _bias_or_zero(self) -> Tensor:
        return wide(self.kernel).new_zeros(self.out_channels) if self.bias is None else wide(self.bias)

    def _on_one_window(self, other: "Conv", groups: int, *, agreeing: bool = False) -> tuple["Conv", "Conv"]:
        """Both with the same groups, window, dilation and padding, zeros added to the kernels where needed."""
        if self.n != other.n or self.in_channels != other.in_channels:
            raise Inapplicable(f"{self.in_channels} and {other.in_channels} input channels: not one common input")
        pair = (self, other) if self.transposed == other.transposed else (self.untransposed(), other.untransposed())
        a, b = (replace(c, kernel=coarsen(wide(c.kernel), groups)) for c in pair)
        if a.stride != b.stride:
            raise Inapplicable(f"strides {a.stride} and {b.stride} differ")
        strides = a.stride if a.transposed or agreeing else (1,) * a.n
        window = one_window(a.axes, b.axes, strides, transposed=a.transposed)
        return a.placed(window), b.placed(window)

    def untransposed(self) -> "Conv":
        """A transposed convolution of stride 1 is one with the kernel turned round: its tap at d u - p is one at
        p - d u. The same if it is none; Inapplicable for another stride, which puts inputs between zeros."""
        if not self.transposed:
            return self
        if any(s != 1 for s in self.stride):
            raise Inapplicable("a transposed convolution adds to others of its kind, or at stride 1")
        sides = zip(self.reach, self.padding, self.output_padding, strict=True)
        padding = tuple((reach - low, reach - high + extra) for reach, (low, high), extra in sides)
        axes = tuple(range(3, self.kernel.ndim))
        return Conv(self.kernel.flip(axes), self.bias, self.stride, padding, self.dilation)

    @classmethod
    def from_affine(cls, affine: Affine, n: int, channels: int, device: torch.device | None = None) -> "Conv":
        """`affine`, s x + t, as a depthwise convolution of window 1 of so many `channels` on `n` spatial axes, on a
        `device`. Inapplicable if the map acts on another axis."""
        scale, shift = affine.along(-(n + 1), channels, device)
        bias = None if is_zero(affine.shift) else shift
        return cls(scale.reshape((channels, 1, 1, *(1,) * n)), bias, (1,) * n, ((0, 0),) * n, (1,) * n)


def concat(convs: Sequence[Conv]) -> Conv:
    """x ↦ concat([c(x) for c in convs]) along the channels, as one convolution. Inapplicable if they do not read one
    input at one stride."""
    return reduce(Conv.stack, convs)
