"""Shapes and dtypes of the parts of a pair, and `settled`, which gives both parts the same shape.

A rule may produce parts of different shapes, `re` of [3, 4] and `im` of [4], or a part that is a number. A later
operator, for example a sum over an axis, would then give a wrong result.
"""

from typing import Any

import torch
from torch import fx

from fusekit.ir import Facts, Known
from fusekit.ir.facts import facts, supply
from fusekit.lower.pair import Pair, Part

REALS = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}


def real_of(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the parts: float32 for complex64, and so on; a real dtype stays."""
    return REALS.get(dtype, dtype)


def facts_of(part: Any) -> Facts:
    """The facts of a proxy's node; unknown facts for anything else."""
    return facts(part.node) if isinstance(part, fx.Proxy) else facts(None)


def shape_of(value: Any) -> tuple[int | None, ...]:
    """The shape of a part or of a pair. Raises TypeError if it is unknown."""
    part = value if not isinstance(value, Pair) else value.re if value.re is not None else value.im
    shape = facts_of(part).shape
    if shape is None:
        raise TypeError("the shape of its operand is not known")
    return shape


def floating(part: Part) -> Part:
    """The part as a floating-point tensor: integers and booleans are converted to torch's default dtype, as j·(a > b)
    needs."""
    dtype = facts_of(part).dtype
    whole = dtype is not None and not dtype.is_floating_point and not dtype.is_complex
    return part.to(torch.get_default_dtype()) if whole else part


def number(value: Any) -> Pair:
    """An operand of arithmetic as a pair with floating parts."""
    return value if isinstance(value, Pair) else Pair.of(floating(value))


def _filled(like: Part, value: float) -> Part:
    return torch.full_like(like, value)


def settled(value: Pair, known: Facts, spread: bool) -> Pair:
    """The pair with parts of equal shape, and with the facts `known` of the complex value noted at the parts' nodes.

    `spread`: operands were broadcast, so that a part may come from one operand only and have that operand's shape.
    """
    re: Part = value.re
    im: Part = value.im
    if isinstance(re, int | float) and isinstance(im, fx.Proxy):
        re = _filled(im, re)
    if isinstance(im, int | float) and isinstance(re, fx.Proxy):
        im = _filled(re, im)
    if spread and isinstance(re, fx.Proxy) and isinstance(im, fx.Proxy):
        both: Any = torch.broadcast_tensors(re, im)
        re, im = both[0], both[1]
    dtype = None if known.dtype is None else real_of(known.dtype)
    for part in (re, im):
        if isinstance(part, fx.Proxy):
            supply(part.node, Known(facts=Facts(known.shape, dtype)))
    return value if re is value.re and im is value.im else Pair(re, im)
