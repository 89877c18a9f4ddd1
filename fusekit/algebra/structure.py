"""Exact structure in the weights of a convolution: zeros that need not be stored or multiplied.

    trimmed:  taps that are zero for all channels at the edge of the window are cut off, and the padding with them
    grouped:  a dense kernel that is block-diagonal, to the last zero, is a grouped one

Zero means zero: pruned, masked or constructed weights have such zeros, trained ones do not.
"""

from dataclasses import replace

import torch
from torch import Tensor

from fusekit.algebra.conv import Conv
from fusekit.algebra.values import used_along
from fusekit.errors import Inapplicable


def trimmed(conv: Conv) -> Conv:
    """The same map with the smallest window; Inapplicable if no edge of the window is all zeros.

    Cutting the first tap moves the origin by d: the low padding shrinks by d, and becomes a crop below zero.
    """
    if conv.transposed or conv.kernel.is_meta:
        raise Inapplicable("the window of a transposed convolution is left as it is")
    kernel, padding = conv.kernel, list(conv.padding)
    for i in range(conv.n):
        used = _used_taps(kernel, i)
        first, last = (int(used[0]), int(used[-1])) if len(used) else (0, 0)
        cut = kernel.shape[3 + i] - 1 - last
        kernel = kernel.narrow(3 + i, first, last - first + 1)
        low, high = padding[i]
        padding[i] = (low - first * conv.dilation[i], high - cut * conv.dilation[i])
    if kernel.shape == conv.kernel.shape:
        raise Inapplicable("no edge of the window is zero")
    return replace(conv, kernel=kernel, padding=tuple(padding))


def _used_taps(kernel: Tensor, axis: int) -> Tensor:
    """The positions on one window axis where some entry is not zero."""
    return torch.nonzero(used_along(kernel, 3 + axis)).flatten()


def grouped(conv: Conv) -> Conv:
    """The same map with the most groups; Inapplicable if a dense kernel has entries outside the diagonal blocks."""
    if conv.groups != 1 or conv.n == 0 or conv.kernel.is_meta:
        raise Inapplicable("only a dense convolution can turn out to be grouped")
    if bool((conv.kernel[0, :1, -1:] != 0).any()):
        raise Inapplicable(
            "the kernel is not block-diagonal"
        )  # whatever the blocks, the last input is not in the first
    used = (conv.kernel[0] != 0).flatten(2).any(2)
    out, inputs = used.shape
    for groups in range(min(out, inputs), 1, -1):
        if out % groups or inputs % groups:
            continue
        blocks = used.reshape(groups, out // groups, groups, inputs // groups).any(3).any(1)
        if not bool((blocks & ~torch.eye(groups, dtype=torch.bool, device=blocks.device)).any()):
            kernel = conv.kernel[0].unflatten(0, (groups, -1)).unflatten(2, (groups, -1))
            diagonal = torch.stack([kernel[g, :, g] for g in range(groups)])
            return replace(conv, kernel=diagonal)
    raise Inapplicable("the kernel is not block-diagonal")
