"""Complex linear operators as real ones.

    [yr]   [Wr  -Wi] [xr]
    [yi] = [Wi   Wr] [xi]        ONE convolution or linear layer on the parts one behind the other

An absent part of the input leaves half of the block. The result stays in one tensor, so that the next block reads it as
it lies. With groups the parts of one group would have to lie side by side: there it is one real operator a product.
"""

from collections.abc import Callable
from typing import Any

import torch

from fusekit.lower.pair import Pair, Part, minus, plus

Call = Callable[..., Part]


def split(y: Part, axis: int) -> Pair:
    """Planar halves along an axis counted from the right."""
    re, im = _halves(y, axis)
    return Pair(re, im, (y, axis))


def _halves(y: Part, axis: int) -> tuple[Part, Part]:
    parts = torch.chunk(y, 2, axis)
    return parts[0], parts[1]


def block(call: Call, x: Pair, w: Pair, bias: Any, axis: int, *, groups: int = 1, transposed: bool = False) -> Pair:
    """`call(x, w, bias)` of a layer: channels at `axis` of x, outputs at dimension 0 of w (1 if transposed)."""
    out, into = (1, 0) if transposed else (0, 1)
    if groups != 1:
        return _apart(call, x, w, bias)
    if x.re is None and x.im is None:
        raise ValueError("a layer of nothing")
    wr, wi = w.full()
    rows = []
    if x.re is not None:
        rows.append(torch.cat([wr, wi], out))
    if x.im is not None:
        rows.append(torch.cat([-wi, wr], out))
    kernel = rows[0] if len(rows) == 1 else torch.cat(rows, into)
    if x.joined is not None and x.joined[1] == axis:
        planar = x.joined[0]
    else:
        parts = [part for part in (x.re, x.im) if part is not None]
        planar = parts[0] if len(parts) == 1 else torch.cat(parts, axis)
    biases = None if bias is None else torch.cat(list(Pair.of(bias).full()), 0)
    return split(call(planar, kernel, biases), axis)


def _apart(call: Call, x: Pair, w: Pair, bias: Any) -> Pair:
    b = Pair.of(bias)
    re, im = (None, None) if bias is None else b.full()

    def times(part: Part, weight: Part, bias: Part = None) -> Part:
        return None if part is None or weight is None else call(part, weight, bias)

    zero, w = x.map(torch.zeros_like), Pair(*w.full())
    first, second = (x.re if x.re is not None else zero.im), x.im
    return Pair(minus(times(first, w.re, re), times(second, w.im)), plus(times(first, w.im, im), times(second, w.re)))
