"""What a convolution is made of: a kernel, and how its window moves over 0 to 3 spatial axes.

The kernel is always `[group, out, in, *window]`, transposed or not, and padding is a (low, high) pair per axis;
`from_torch` and `weight` are the only two places that know torch's layouts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from fusekit.algebra.kernel import embed_kernel
from fusekit.algebra.map import Pairs, Shape
from fusekit.algebra.window import Axis

_Of = TypeVar("_Of", bound="Windowed")


@dataclass(frozen=True, eq=False)
class Windowed:
    """Shapes: kernel [group, out, in, *window], bias [group * out] or None.

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
        cls: type[_Of],
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: Sequence[int] = (),
        padding: Pairs = (),
        dilation: Sequence[int] = (),
        groups: int = 1,
        transposed: bool = False,
        output_padding: Sequence[int] = (),
    ) -> _Of:
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

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The window, axis by axis."""
        sizes = zip(self.window, self.dilation, self.padding, self.output_padding, strict=True)
        return tuple(Axis(taps, dilation, *padding, extra) for taps, dilation, padding, extra in sizes)

    def placed(self: _Of, axes: Sequence[Axis]) -> _Of:
        """The same map on the window of these `axes`, which holds its own: zeros in the kernel where it has no taps."""
        places = [own.placed_in(axis) for own, axis in zip(self.axes, axes, strict=True)]
        return replace(
            self,
            kernel=embed_kernel(self.kernel, tuple(axis.taps for axis in axes), places),
            padding=tuple((axis.low, axis.high) for axis in axes),
            dilation=tuple(axis.dilation for axis in axes),
            output_padding=tuple(axis.extra for axis in axes),
        )
