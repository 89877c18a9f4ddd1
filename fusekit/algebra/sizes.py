"""Sizes of which some are not known: what a formula for sizes makes of them.

    (N, 3, ?, 8)  through a convolution of stride 2  is  (N, 16, ?, 4)

An unknown size is a value with arithmetic: whatever is computed from it is unknown. What would have to decide by it
raises, and then nothing is known.
"""

from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias, cast

Shape: TypeAlias = tuple[int, ...]
Sizes: TypeAlias = tuple[int | None, ...]  # None: not known


class Undecided(Exception):
    """A formula asks an unknown size for its value."""


class _Unknown:
    def _stays(self, *others: object) -> "_Unknown":
        return self

    def _decides(self, *others: object) -> NoReturn:
        raise Undecided

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = _stays
    __mod__ = __rmod__ = __neg__ = __pos__ = __abs__ = _stays
    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __index__ = __int__ = __hash__ = _decides
    __eq__ = __ne__ = cast(Any, _decides)


_UNKNOWN = _Unknown()


def through(formula: Callable[[Shape], Shape], sizes: Sizes) -> Sizes | None:
    """formula(sizes), as far as it does not hang on sizes that are not known; None where it decides by one of them."""
    given = cast(Shape, tuple(_UNKNOWN if size is None else size for size in sizes))
    try:
        made: tuple[object, ...] = formula(given)
        return cast(Sizes, tuple(None if isinstance(size, _Unknown) else size for size in made))
    except Undecided:
        return None
