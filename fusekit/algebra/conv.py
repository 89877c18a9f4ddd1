"""Convolutions as values: one type for 0 to 3 spatial axes, any stride, padding, dilation and grouping, transposed too.

The kernel is always `[group, out, in, *window]`, transposed or not, and padding is a (low, high) pair per axis;
`from_torch` and `weight` are the only two places that know torch's layouts. A linear layer is the case of no spatial
axes: its channels are the last axis. Like torch, "convolution" means cross-correlation.

Laws (the formulas of each are at its function; all values in float64):

    affine @ conv, conv @ affine        scale and shift move into kernel and bias
    conv @ pad                          the pad joins the padding
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
from fusekit.algebra.kernel import coarsen, compose_kernels, embed_kernel, multiply_pointwise
from fusekit.algebra.map import Map, Pairs, Shape
from fusekit.algebra.operators import CONV, CONV_TRANSPOSE
from fusekit.algebra.pad import Pad, add_padding, flat_padding
from fusekit.algebra.span import Span
from fusekit.algebra.values import is_zero, to_meta, wide
from fusekit.algebra.window import Axis
from fusekit.algebra.words import sizes
from fusekit.algebra.work import Rates, Work
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class Conv(Map):
    """x ↦ kernel ⋆ x + bias. Shapes: kernel [group, out, in, *window], bias [group * out] or None.

    `stride`, `dilation` and `output_padding` have an entry for each spatial axis, `padding` a (low, high) pair; any
    other number of them is a ValueError. For a `transposed` convolution `padding` crops the output as in torch, and
    `output_padding` extends its high side.
    """

    kernel: Tensor
    bias: Tensor | None
    stride: Shape
    padding: Pairs
    dilation: Shape
    transposed: bool = False
    output_padding: Shape = ()

    def __post_init__(self) -> None:
        n = self.kernel.ndim - 3
        object.__setattr__(self, "output_padding", self.output_padding or (0,) * n)
        if not all(len(v) == n for v in (self.stride, self.padding, self.dilation, self.output_padding)):
            raise ValueError(f"stride, padding, dilation and output padding must have {n} entries each")

    @classmethod
    def from_torch(
        cls,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: Sequence[int] = (),
        padding: Pairs = (),
        dilation: Sequence[int] = (),
        groups: int = 1,
        transposed: bool = False,
        output_padding: Sequence[int] = (),
    ) -> "Conv":
        """From torch's `weight`: [group*out, in, *window], transposed [group*in, out, *window], linear [out, in].

        `bias` is [group*out] or None. `stride`, `dilation` and `output_padding` have an entry for each spatial axis,
        `padding` a (low, high) pair; `groups` is the number of blocks of channels. What is left out is torch's default.
        """
        n = weight.ndim - 2
        kernel = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        return cls(
            kernel.transpose(1, 2) if transposed else kernel,
            bias,
            tuple(stride) or (1,) * n,
            padding or ((0, 0),) * n,
            tuple(dilation) or (1,) * n,
            transposed,
            tuple(output_padding),
        )

    @property
    def weight(self) -> Tensor:
        """The kernel in torch's layout, the inverse of `from_torch`."""
        kernel = self.kernel.transpose(1, 2) if self.transposed else self.kernel
        return kernel.reshape(kernel.shape[0] * kernel.shape[1], *kernel.shape[2:])

    @property
    def n(self) -> int:
        """Number of spatial axes; 0 for a linear layer."""
        return self.kernel.ndim - 3

    @property
    def groups(self) -> int:
        """Number of blocks of channels that do not see each other."""
        return int(self.kernel.shape[0])

    @property
    def out_channels(self) -> int:
        """Channels of the output, of all groups together."""
        return self.groups * int(self.kernel.shape[1])

    @property
    def in_channels(self) -> int:
        """Channels of the input, of all groups together."""
        return self.groups * int(self.kernel.shape[2])

    @property
    def window(self) -> Shape:
        """k, the number of taps, for each spatial axis."""
        return tuple(self.kernel.shape[3:])

    @property
    def reach(self) -> Shape:
        """d (k - 1) per axis: the distance from the first tap to the last."""
        return tuple(d * (k - 1) for d, k in zip(self.dilation, self.window, strict=True))

    @property
    def channel_axis(self) -> int:
        """Counted from the right, the same for input and output."""
        return -(self.n + 1)

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

    @property
    def pads_same(self) -> bool:
        """Stride 1, and d (k - 1) zeros in all on each axis, the odd one on the high side: torch's padding='same'."""
        same = tuple((reach // 2, reach - reach // 2) for reach in self.reach)
        return not self.transposed and self.padding == same and all(s == 1 for s in self.stride)

    def symmetric_padding(self) -> tuple[Pairs, Shape]:
        """(what must be padded or cropped first, what F.conv can pad itself): F.conv pads both sides alike."""
        common = tuple(max(0, min(pair)) for pair in self.padding)
        first = tuple((low - c, high - c) for (low, high), c in zip(self.padding, common, strict=True))
        return first, common

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
        if self.n == 1 and self.groups == self.in_channels > 1:
            return replace(total, macs=rates.line_depthwise * total.macs)
        return total

    def on_meta(self) -> "Conv":
        return replace(self, kernel=self.kernel.to("meta"), bias=to_meta(self.bias))

    def __matmul__(self, inner: "Affine | Pad | Conv") -> "Conv":
        if isinstance(inner, Affine):
            return self._after_affine(inner)
        if isinstance(inner, Pad):
            return self._after_pad(inner)
        if isinstance(inner, Conv):
            return self._after_conv(inner)
        return NotImplemented

    def __rmatmul__(self, outer: Affine) -> "Conv":
        """a ∘ c = Conv(s K, s b + t): s scales the output channels after all else has had its say."""
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

    def _after_conv(self, inner: "Conv") -> "Conv":
        """c2 ∘ c1 as one convolution, where the border allows it."""
        folded = self.composed(inner)
        for i in range(self.n):
            require_exact_border(
                outer_padding=self.padding[i],
                reach=inner.reach[i],
                stride=inner.stride[i],
                inner_padding=inner.padding[i],
                has_bias=not is_zero(inner.bias),
                axis=i - self.n,
            )
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
        if not isinstance(other, Conv):
            return NotImplemented
        if self.out_channels != other.out_channels:
            raise Inapplicable(f"{self.out_channels} and {other.out_channels} output channels do not add")
        a, b = self._on_one_window(other, math.gcd(self.groups, other.groups))
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

    def _on_one_window(self, other: "Conv", groups: int) -> tuple["Conv", "Conv"]:
        """Both with the same groups, window, dilation and padding, zeros added to the kernels where needed."""
        if self.n != other.n or self.in_channels != other.in_channels:
            raise Inapplicable(f"{self.in_channels} and {other.in_channels} input channels: not one common input")
        if self.stride != other.stride or self.transposed != other.transposed:
            raise Inapplicable(f"strides {self.stride} and {other.stride} differ")
        pair = tuple(replace(c, kernel=coarsen(wide(c.kernel), groups)) for c in (self, other))
        geometry = [(c.window, c.dilation, c.padding, c.output_padding) for c in pair]
        if geometry[0] == geometry[1]:
            return pair[0], pair[1]
        if self.transposed:
            raise Inapplicable("transposed convolutions of different geometry do not share a window")
        axes = [a.joined(b) for a, b in zip(pair[0].axes, pair[1].axes, strict=True)]
        return pair[0]._embedded(axes), pair[1]._embedded(axes)

    @property
    def axes(self) -> list[Axis]:
        """The window, axis by axis."""
        return [Axis(k, d, *p) for k, d, p in zip(self.window, self.dilation, self.padding, strict=True)]

    def _embedded(self, joined: list[Axis]) -> "Conv":
        places = [axis.placed_in(target) for axis, target in zip(self.axes, joined, strict=True)]
        kernel = embed_kernel(self.kernel, tuple(axis.taps for axis in joined), places)
        padding = tuple((axis.low, axis.high) for axis in joined)
        return replace(self, kernel=kernel, padding=padding, dilation=tuple(axis.dilation for axis in joined))

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
