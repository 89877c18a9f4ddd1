"""A complex value as two real parts. A part that is known to be zero may be absent and costs no operations.

    (a + jb) + (c + jd) = (a + c) + j(b + d)        (a + jb)(c + jd) = (ac - bd) + j(ad + bc)

Parts may be anything that torch's functions accept: tensors, proxies of a trace, numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Part = Any  # None: absent, which means zero


@dataclass(frozen=True, eq=False)
class Pair:
    """re + j·im. `joined`: (tensor, axis), if both parts are the halves of one tensor along this axis, counted from the
    right."""

    re: Part
    im: Part
    joined: tuple[Part, int] | None = None

    @classmethod
    def of(cls, value: Any) -> "Pair":
        """The value as a pair: a pair unchanged, a Python complex number by its parts, anything real as the real
        part."""
        if isinstance(value, Pair):
            return value
        if isinstance(value, complex):
            return cls(value.real or None, value.imag or None)
        return cls(value, None)

    def map(self, linear: Callable[[Part], Part]) -> "Pair":
        """f(re) + j·f(im), for a real linear function f."""
        return Pair(*(None if part is None else linear(part) for part in (self.re, self.im)))

    def full(self) -> tuple[Part, Part]:
        """Both parts; zeros for an absent one."""
        re, im = self.re, self.im
        if re is None and im is None:
            return 0.0, 0.0
        if re is None:
            return _zero(im), im
        return re, _zero(re) if im is None else im

    def __neg__(self) -> "Pair":
        return self.map(lambda part: -part)

    def __add__(self, other: "Pair") -> "Pair":
        return Pair(plus(self.re, other.re), plus(self.im, other.im))

    def __sub__(self, other: "Pair") -> "Pair":
        return self + -other

    def __mul__(self, other: "Pair") -> "Pair":
        return self.product(other, lambda a, b: a * b)

    def product(self, other: "Pair", bilinear: Callable[[Part, Part], Part]) -> "Pair":
        """The complex form of a real bilinear function: 4 calls of it, or fewer if parts are absent."""

        def times(a: Part, b: Part) -> Part:
            return None if a is None or b is None else bilinear(a, b)

        re, im = (self.re, other.re), (self.im, other.im)
        return Pair(minus(times(*re), times(*im)), plus(times(self.re, other.im), times(self.im, other.re)))


def plus(a: Part, b: Part) -> Part:
    """a + b; an absent part needs no operation."""
    return b if a is None else a if b is None else a + b


def minus(a: Part, b: Part) -> Part:
    """a - b; an absent part needs no subtraction."""
    return a if b is None else -b if a is None else a - b


def _zero(part: Part) -> Part:
    return 0.0 if isinstance(part, int | float) else torch.zeros_like(part)
