"""Channels between two convolutions that nothing depends on, or that depend on nothing.

    c2 ∘ f ∘ c1 = c2' ∘ f ∘ c1'        without the channels m that
        c2 does not read:      K2[:, m] = 0
        c1 does not compute:   K1[m] = 0, so that f gives v = f(b1[m]) everywhere; its part Σ K2[:, m] v joins b2

A constant v ≠ 0 is as good as a bias where c2 does not pad; where it does, the border would see v in place of zeros,
and the channel stays. Pruning by masks leaves such channels, and the sizes of stored tensors do not tell.
"""

from dataclasses import replace

import torch
from torch import Tensor

from fusekit.algebra.composition import Composition
from fusekit.algebra.conv import Conv
from fusekit.algebra.elementwise import Elementwise
from fusekit.algebra.values import used_along, wide
from fusekit.errors import Inapplicable

# Runtimes take channels in eights: eleven of sixteen are no faster, and in ONNX Runtime lose the blocked layout.
GRAIN = 8


def without_dead_channels(outer: Conv, between: Elementwise | None, inner: Conv) -> Composition:
    """The same map with fewer channels between; Inapplicable if every one counts."""
    if outer.groups != 1 or inner.groups != 1 or outer.n != inner.n or outer.kernel.is_meta or inner.kernel.is_meta:
        raise Inapplicable("only the channels between two dense convolutions can be told apart")
    if outer.in_channels != inner.out_channels:
        raise Inapplicable(f"{inner.out_channels} channels do not feed {outer.in_channels}")
    read, constant = used_along(outer.kernel[0], 1), ~used_along(inner.kernel[0], 0)
    values = wide(inner.kernel.new_zeros(inner.out_channels) if inner.bias is None else inner.bias)
    values = between(values) if between is not None else values
    reaches_border = outer.transposed or any(low > 0 or high > 0 for low, high in outer.padding)
    needed = read & ~(constant & ((values == 0) | (not reaches_border)))
    wanted = min(needed.numel(), -(-max(1, int(needed.sum())) // GRAIN) * GRAIN)
    needed[torch.nonzero(~needed).flatten()[: wanted - int(needed.sum())]] = True
    if bool(needed.all()):
        raise Inapplicable("no channel between the convolutions is dead")
    moved = torch.where(read & constant & ~needed, values, 0)
    bias = None if outer.bias is None and not bool(moved.any()) else _with_constants(outer, moved)
    maps = (replace(outer, kernel=outer.kernel[:, :, needed], bias=bias), _narrowed(inner, needed))
    return Composition(maps if between is None else (maps[0], between, maps[1]))


def _with_constants(outer: Conv, values: Tensor) -> Tensor:
    """b2 + Σ K2[:, m] v[m] over inputs and taps."""
    seen = outer.of_constant(values)
    return seen if outer.bias is None else wide(outer.bias) + seen


def _narrowed(inner: Conv, needed: Tensor) -> Conv:
    bias = None if inner.bias is None else inner.bias[needed]
    return replace(inner, kernel=inner.kernel[:, needed], bias=bias)
