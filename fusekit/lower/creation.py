"""Rules for creating complex tensors, and for conversions between real and complex dtypes.

zeros(n, complex64) = zeros(n, float32)        (a + jb).to(float32) = a        a.to(complex64) = a
"""

from collections.abc import Callable
from typing import Any

import torch

from fusekit.lower.pair import Pair, Part
from fusekit.lower.parts import facts_of, real_of

Rule = Callable[..., Any]


def convert(value: Any, dtype: torch.dtype | None) -> Any:
    """A value in another dtype: a pair if the dtype is complex, else a real tensor. A conversion to a real dtype drops
    the imaginary part; to bool, it tests for a number other than 0."""
    if dtype is None:
        return value
    z = Pair.of(value)
    if dtype.is_complex:
        return z.map(lambda part: _cast(part, real_of(dtype)))
    if dtype is torch.bool:
        re, im = z.full()
        return (re != 0) | (im != 0)
    return _cast(z.full()[0], dtype)


def _cast(part: Part, dtype: torch.dtype) -> Part:
    if isinstance(part, int | float):
        return part
    return part if facts_of(part).dtype is dtype else part.to(dtype)


def _to(input: Any, *args: Any, dtype: Any = None, other: Any = None, **options: Any) -> Any:
    """`x.to(dtype)`, `x.to(device, dtype)`, `x.to(other)` and their ATen forms. Options on copying and memory layout
    are ignored."""
    for arg in (*args, other):
        if isinstance(arg, torch.dtype):
            dtype = arg
        elif isinstance(arg, Pair):
            return _like(input, arg)
        elif isinstance(arg, str | torch.device) or options.get("device") is not None:
            continue  # the whole model is on one device
        elif facts_of(arg).dtype is not None:
            dtype = facts_of(arg).dtype
    return convert(input, dtype)


def _like(input: Any, other: Pair) -> Pair:
    model = other.re if other.re is not None else other.im
    return Pair.of(input).map(lambda part: part.type_as(model))


def _type(input: Any, dtype: Any = None, non_blocking: bool = False) -> Any:
    if not isinstance(dtype, torch.dtype):
        raise TypeError("the type is given by name, not as a torch.dtype")
    return convert(input, dtype)


def _type_as(input: Any, other: Any) -> Any:
    return _like(input, other) if isinstance(other, Pair) else _to(input, other)


def _as(dtype: torch.dtype) -> Rule:
    def rule(input: Any, memory_format: Any = None) -> Any:
        return convert(input, dtype)

    return rule


def _made(function: Rule) -> Rule:
    """Rule for a function that makes a tensor from sizes: zeros, ones, eye."""

    def rule(*args: Any, dtype: torch.dtype, **options: Any) -> Pair:
        return Pair(function(*args, dtype=real_of(dtype), **_kept(options)), None)

    return rule


def _made_like(function: Rule) -> Rule:
    """Rule for a function that makes a tensor of the same shape as another one, in its dtype or in a given one."""

    def rule(input: Any, *, dtype: torch.dtype | None = None, **options: Any) -> Any:
        complex_ = isinstance(input, Pair) if dtype is None else dtype.is_complex
        part = input if not isinstance(input, Pair) else input.re if input.re is not None else input.im
        made = function(part, dtype=None if dtype is None else real_of(dtype))
        return Pair(made, None) if complex_ else made

    return rule


def _full(size: Any, fill_value: Any, *, dtype: torch.dtype | None = None, **options: Any) -> Pair:
    if not isinstance(fill_value, int | float | complex):
        raise TypeError("fill_value is a tensor, not a number")
    value, real = complex(fill_value), real_of(dtype) if dtype is not None else torch.get_default_dtype()
    im = torch.full(size, value.imag, dtype=real) if value.imag else None
    return Pair(torch.full(size, value.real, dtype=real) if value.real or im is None else None, im)


def _full_like(input: Any, fill_value: Any, *, dtype: torch.dtype | None = None, **options: Any) -> Any:
    part = input if not isinstance(input, Pair) else input.re if input.re is not None else input.im
    value = complex(fill_value)
    if not (isinstance(input, Pair) if dtype is None else dtype.is_complex):
        return torch.full_like(part, value.real, dtype=dtype)
    real = None if dtype is None else real_of(dtype)
    return Pair(torch.full_like(part, value.real, dtype=real), torch.full_like(part, value.imag, dtype=real))


def _scalar_tensor(value: Any, *, dtype: torch.dtype | None = None, **options: Any) -> Pair:
    return _full([], value, dtype=dtype)


def _new(function: Rule) -> Rule:
    def rule(input: Any, *size: Any, dtype: torch.dtype | None = None, **options: Any) -> Any:
        if dtype is not None and not dtype.is_complex:
            return function(*size, dtype=dtype)
        if dtype is None and not isinstance(input, Pair):
            raise TypeError("it is made from a real tensor")
        real = facts_of(input.re if isinstance(input, Pair) and input.re is not None else None).dtype
        real = real_of(dtype) if dtype is not None else real or torch.get_default_dtype()
        return Pair(function(*size, dtype=real), None)

    return rule


def _new_full(input: Any, size: Any, fill_value: Any, *, dtype: torch.dtype | None = None, **options: Any) -> Any:
    if dtype is None and isinstance(input, Pair):
        real = facts_of(input.re if input.re is not None else input.im).dtype
        dtype = torch.complex128 if real is torch.float64 else torch.complex64
    return _full(size, fill_value, dtype=dtype)


def _kept(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name == "device" and value is not None}


def _always(answer: bool) -> Rule:
    def rule(input: Any) -> bool:
        return answer

    return rule


CREATION: dict[str, Rule] = {
    "zeros": _made(torch.zeros),
    "ones": _made(torch.ones),
    "eye": _made(torch.eye),
    "empty": _made(torch.zeros),  # any values will do
    "zeros_like": _made_like(torch.zeros_like),
    "ones_like": _made_like(torch.ones_like),
    "empty_like": _made_like(torch.zeros_like),
    "full": _full,
    "full_like": _full_like,
    "scalar_tensor": _scalar_tensor,
    "new_zeros": _new(torch.zeros),
    "new_ones": _new(torch.ones),
    "new_empty": _new(torch.zeros),
    "new_full": _new_full,
    "to": _to,
    "_to_copy": _to,
    "type": _type,
    "type_as": _type_as,
    "half": _as(torch.float16),
    "float": _as(torch.float32),
    "double": _as(torch.float64),
    "cfloat": _as(torch.complex64),
    "cdouble": _as(torch.complex128),
    "bool": _as(torch.bool),
    "int": _as(torch.int32),
    "long": _as(torch.int64),
    "is_complex": _always(True),
    "is_floating_point": _always(False),
}
