"""A folded pair of convolutions that is exact at the border, as a layer.

    y = outer(inner(x)) = folded(x) - ring correction

`folded` is the composition of the two. Near the border, where `outer` pads, it is wrong; `inner` and `outer` are kept
to correct this, which costs O(perimeter). The three have separate parameters. So do not train this layer: train the
original, and fold again.
"""

from torch import Tensor, nn

from fusekit.algebra.bordered import BorderedConv, bordered_conv, geometry_of


class _BorderedConvNd(nn.Module):
    """Parameters: `weight` and `bias` of the folded convolution; `inner_weight`, `inner_bias`, `outer_weight` of the
    pair."""

    def __init__(self, value: BorderedConv) -> None:
        """`value`: the folded pair, in the dtype that the layer will have. Shapes are torch's, (N, C, *spatial) or
        unbatched."""
        super().__init__()
        self.weight = nn.Parameter(value.folded.weight)
        self.bias = None if value.folded.bias is None else nn.Parameter(value.folded.bias)
        self.inner_weight = nn.Parameter(value.inner.weight)
        self.inner_bias = None if value.inner.bias is None else nn.Parameter(value.inner.bias)
        self.outer_weight = nn.Parameter(value.outer.weight)
        self.geometry = (geometry_of(value.folded), geometry_of(value.inner), geometry_of(value.outer))

    def forward(self, x: Tensor) -> Tensor:
        tensors = (self.weight, self.bias, self.inner_weight, self.inner_bias, self.outer_weight)
        return bordered_conv(x, *tensors, self.geometry)

    def extra_repr(self) -> str:
        (stride, padding, dilation, groups), inner, outer = self.geometry
        channels = f"{self.inner_weight.shape[1] * inner[3]}, {self.weight.shape[0]}"
        size = tuple(self.weight.shape[2:])
        ring = tuple(-(-max(pair) // step) for pair, step in zip(outer[1], outer[0], strict=True))
        return (
            f"{channels}, kernel_size={size}, stride={stride}, padding={padding}, dilation={dilation}, "
            f"groups={groups}, ring={ring}"
        )


class BorderedConv1d(_BorderedConvNd):
    """One spatial axis: x [(N,) C, L] to [(N,) C', L'].

    `value`: the folded pair (`fusekit.algebra.bordered.BorderedConv`), in the dtype that the layer will have.
    Parameters: `weight` and `bias` of the folded convolution, `inner_weight`, `inner_bias` and `outer_weight` of the
    pair.
    """


class BorderedConv2d(_BorderedConvNd):
    """`BorderedConv1d` over two axes: x [(N,) C, H, W]."""


class BorderedConv3d(_BorderedConvNd):
    """`BorderedConv1d` over three axes: x [(N,) C, D, H, W]."""
