"""Complex linear operators as real ones.

    [yr]   [Wr  -Wi] [xr]
    [yi] = [Wi   Wr] [xi]        ONE convolution or linear layer on the concatenated parts

If a part of the input is absent, half of the block matrix is enough. The result stays in one tensor, so that the next
layer can read it without another concatenation. With groups, the parts of each group would have to be neighbours;
there, one real operator is used for each product instead.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from fusekit.ir.graph import operator_name
from fusekit.lower.pair import Pair, Part, minus, plus

Call = Callable[..., Part]


def split(y: Part, axis: int) -> Pair:
    """The two halves of a tensor along an axis (counted from the right) as real and imaginary part."""
    re, im = _halves(y, axis)
    return Pair(re, im, (y, axis))


def _halves(y: Part, axis: int) -> tuple[Part, Part]:
    parts = torch.chunk(y, 2, axis)
    return parts[0], parts[1]


def block(call: Call, x: Pair, w: Pair, bias: Any, axis: int, *, groups: int = 1, transposed: bool = False) -> Pair:
    """The complex layer `call(x, w, bias)` as one real layer; with groups, as several.

    `axis`: the channel axis of x, counted from the right. The output channels are at dimension 0 of w (1 if
    `transposed`).
    """
    out, into = (1, 0) if transposed else (0, 1)
    if groups != 1:
        return _apart(call, x, w, bias)
    if x.re is None and x.im is None:
        raise ValueError("the input of the layer has neither a real nor an imaginary part")
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


_AXES = {"linear": -1, **{f"conv{n}d": -n - 1 for n in (1, 2, 3)}, **{f"conv_transpose{n}d": -n - 1 for n in (1, 2, 3)}}
_THROUGH = ("add", "sub", "neg", "mul", "slice")


def joint(z: Pair) -> Pair:
    """The pair as halves of one concatenated tensor, if both parts are computed by layers from which one layer could be
    made:

        (A xr - B xi, A xi + B xr)        (a yr + b yi + s, c yr + d yi + t)  with halves yr, yi of one tensor

    The laws of passes fold such a concatenation if they can; otherwise it is undone later (`undo_joins.py`).
    """
    if z.joined is not None or not (isinstance(z.re, fx.Proxy) and isinstance(z.im, fx.Proxy)):
        return z
    axes = {axis_of(part.node) for part in (z.re, z.im)}
    axis = axes.pop()
    parts: list[Any] = [z.re, z.im]
    return z if axes or axis is None else split(torch.cat(parts, axis), axis)


def axis_of(node: fx.Node) -> int | None:
    """The channel axis of the layer (or of the split into halves) that a linear expression starts from, counted from
    the right; None if it starts from something else."""
    pending, seen = [node], {node}
    while pending:
        here = pending.pop()
        if here.op != "call_function":
            continue
        name = operator_name(here)
        if name in _AXES:
            return _AXES[name]
        if name == "getitem" and here is not node and operator_name(here.args[0]) == "chunk":  # type: ignore[arg-type]
            return here.args[0].args[2]  # type: ignore[union-attr, return-value]
        if name in _THROUGH or (name == "getitem" and isinstance(here.args[1], tuple)):
            pending += [source for source in here.all_input_nodes if source not in seen]
            seen.update(here.all_input_nodes)
    return None


def _apart(call: Call, x: Pair, w: Pair, bias: Any) -> Pair:
    b = Pair.of(bias)
    re, im = (None, None) if bias is None else b.full()

    def times(part: Part, weight: Part, bias: Part = None) -> Part:
        return None if part is None or weight is None else call(part, weight, bias)

    zero, w = x.map(torch.zeros_like), Pair(*w.full())
    first, second = (x.re if x.re is not None else zero.im), x.im
    return Pair(minus(times(first, w.re, re), times(second, w.im)), plus(times(first, w.im, im), times(second, w.re)))
