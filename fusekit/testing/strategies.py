"""Random algebraic values and inputs for property tests: float64, small. Degenerate sizes are as likely as others."""

from typing import Any

import hypothesis.strategies as st
import torch
from torch import Tensor

from fusekit.algebra import Affine, Conv, Fork, Pad

small = st.integers(0, 3)


def gaussian(draw: st.DrawFn, *shape: int) -> Tensor:
    """A random tensor from a drawn seed, so that an example can be repeated. Shrinking works on the shapes."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@st.composite
def gaussians(draw: st.DrawFn, *shape: int) -> Tensor:
    """A strategy for one tensor of `gaussian`."""
    return gaussian(draw, *shape)


@st.composite
def convs(
    draw: st.DrawFn,
    n: int | None = None,
    in_channels: int | None = None,
    out_channels: int | None = None,
    transposed: bool | None = False,
    padded: bool = True,
    stride: tuple[int, ...] | None = None,
) -> Conv:
    """Any convolution of 0 to 3 axes: groups, strides, dilations, even and odd windows, asymmetric padding."""
    n = draw(st.integers(0, 3)) if n is None else n
    transposed = draw(st.booleans()) if transposed is None else transposed
    transposed = transposed and n > 0
    divisors = [g for g in (1, 2, 3, 4) if not (in_channels or g) % g and not (out_channels or g) % g]
    groups = draw(st.sampled_from(divisors)) if n else 1
    inputs = in_channels // groups if in_channels else draw(st.integers(1, 3))
    outputs = out_channels // groups if out_channels else draw(st.integers(1, 3))
    window = tuple(draw(st.integers(1, 3)) for _ in range(n))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(n)) if stride is None else stride
    dilation = tuple(draw(st.integers(1, 3)) for _ in range(n))
    output_padding: tuple[int, ...] = ()
    if transposed:
        reach = [d * (k - 1) for d, k in zip(dilation, window, strict=True)]
        padding = tuple((p, p) for p in (draw(st.integers(0, r // 2)) for r in reach))
        output_padding = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    else:
        padding = tuple((draw(small), draw(small)) if padded else (0, 0) for _ in range(n))
    kernel = gaussian(draw, groups, outputs, inputs, *window)
    bias = gaussian(draw, groups * outputs) if draw(st.booleans()) else None
    return Conv(kernel, bias, stride, padding, dilation, transposed, output_padding)


@st.composite
def affines(draw: st.DrawFn, channels: int, axis: int) -> Affine:
    """Scale and shift of one axis, sometimes a scalar, sometimes without a shift."""
    shape = () if draw(st.booleans()) else (channels,)
    scale = gaussian(draw, *shape)
    shift = gaussian(draw, *shape) if draw(st.booleans()) else torch.zeros(shape, dtype=torch.float64)
    return Affine(scale, shift, axis if shape else None)


@st.composite
def pads(draw: st.DrawFn, n: int) -> Pad:
    return Pad(tuple((draw(st.integers(-1, 3)), draw(st.integers(-1, 3))) for _ in range(n)))


@st.composite
def inputs_of(draw: st.DrawFn, *maps: Conv) -> Tensor:
    """An input for which every map of the chain, applied first to last, is defined; batch 0 to 2."""
    first = maps[0]
    need = [sum(conv.reach[i] + 1 for conv in maps) * max(1, *(c.stride[i] for c in maps)) for i in range(first.n)]
    sizes = [size + draw(small) + 2 for size in need]
    return gaussian(draw, draw(st.integers(0, 2)), first.in_channels, *sizes)


def options_of(conv: Conv) -> dict[str, Any]:
    """The arguments of `Conv.from_torch` besides weight and bias."""
    names = ("stride", "padding", "dilation", "groups", "transposed", "output_padding")
    return {name: getattr(conv, name) for name in names}


@st.composite
def forks(draw: st.DrawFn) -> tuple[Fork, Tensor]:
    """Convolutions with the same geometry that read one tensor."""
    first = draw(convs(n=draw(st.integers(0, 2)), transposed=None))
    kernel = first.kernel[:1]
    found = []
    for _ in range(draw(st.integers(2, 4))):
        outputs = draw(st.integers(1, 3))
        bias = gaussian(draw, outputs) if draw(st.booleans()) else None
        weights = gaussian(draw, 1, outputs, *kernel.shape[2:])
        options = (first.stride, first.padding, first.dilation, first.transposed, first.output_padding)
        found.append(Conv(weights, bias, *options))
    return Fork(tuple(found)), draw(inputs_of(found[0]))


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The norm-wise relative error. The shapes must agree."""
    assert ours.shape == theirs.shape, f"{list(ours.shape)} against {list(theirs.shape)}"
    scale = float(torch.linalg.vector_norm(theirs))
    return float(torch.linalg.vector_norm(ours - theirs)) / (scale or 1.0)
