"""Complex linear maps. Each is computed as one real map of twice the width (`parts.py`). Arguments as in
torch.nn.functional."""

import torch.nn.functional as F
from torch import Tensor

from fusekit.algebra.operators import CONV, CONV_TRANSPOSE
from fusekit.nn.arguments import Size
from fusekit.nn.functional.axes import over_axes
from fusekit.nn.functional.complex.parts import from_channels, real_bias, real_weight, to_channels


def complex_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = W x + b. Shapes: x [*, in], y [*, out], weight W [out, in], bias b [out], all of one complex dtype.

    TypeError for a real x. Source: Trabelsi et al. 2018 (arXiv:1705.09792), section 3.2.
    """
    return from_channels(F.linear(to_channels(x, 0), real_weight(weight), real_bias(bias)), 0)


def _conv(
    n: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: str | Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """y = W ⋆ x + b, cross-correlation without conjugation, as torch's own complex convolution.

    Shapes: x [(N,) in, *S], y [(N,) out, *S'], weight W [out, in / groups, *window], bias b [out], all of one complex
    dtype; `stride`, `padding`, `dilation` and `groups` as in `torch.nn.functional.conv1d`. TypeError for a real x,
    RuntimeError where torch raises. Source: Trabelsi et al. 2018 (arXiv:1705.09792), section 3.2.
    """
    y = CONV[n](to_channels(x, n), real_weight(weight), real_bias(bias), stride, padding, dilation, groups)
    return from_channels(y, n)


def _conv_transpose(
    n: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The transpose of a complex convolution, plus b; not the adjoint: nothing is conjugated.

    Shapes: x [(N,) in, *S], y [(N,) out, *S'], weight W [in, out / groups, *window], bias b [out], all of one complex
    dtype; `stride`, `padding`, `output_padding`, `groups` and `dilation` as in `torch.nn.functional.conv_transpose1d`.
    TypeError for a real x, RuntimeError where torch raises.
    """
    geometry = (stride, padding, output_padding, groups, dilation)
    y = CONV_TRANSPOSE[n](to_channels(x, n), real_weight(weight, transposed=True), real_bias(bias), *geometry)
    return from_channels(y, n)


complex_conv1d = over_axes(_conv, 1, "complex_conv1d")
complex_conv2d = over_axes(_conv, 2, "complex_conv2d")
complex_conv3d = over_axes(_conv, 3, "complex_conv3d")
complex_conv_transpose1d = over_axes(_conv_transpose, 1, "complex_conv_transpose1d")
complex_conv_transpose2d = over_axes(_conv_transpose, 2, "complex_conv_transpose2d")
complex_conv_transpose3d = over_axes(_conv_transpose, 3, "complex_conv_transpose3d")
