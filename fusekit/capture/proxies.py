"""What stands for the values of a forward while it is traced: for tensors, for numbers computed from sizes, for sizes.

torch.fx has one proxy for all. Of a number it is known that it is one, and often which count of sizes: what can be
decided of it is decided by its tracer, and only the rest ends the trace.
"""

import builtins
import math
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import fx


class Traced(fx.Proxy):
    """A proxy that sees `x += y` for what it is; torch.fx takes it for `x = x + y` and forgets who else holds x. So it
    does `x[i] = y`, which torch.fx does not know."""

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "ndim", "device"):  # known for what it is from the start
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return super().__getattr__(name)


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: fx.Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift"):
    setattr(Traced, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))


class TracedNumber(fx.Proxy):
    """A number that hangs on sizes. `kind`: int, float or bool."""

    def __init__(self, node: fx.Node, tracer: Any, kind: type) -> None:
        super().__init__(node, tracer)
        self.kind = kind

    def __ceil__(self) -> Any:
        return self.by(math.ceil)

    def __floor__(self) -> Any:
        return self.by(math.floor)

    def __trunc__(self) -> Any:
        return self.by(torch.sym_int)

    def __round__(self, digits: int | None = None) -> Any:
        return self.by(builtins.round, *(() if digits is None else (digits,)))

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return self // other, self % other

    def __index__(self) -> int:
        raise ValueError("a size that is only known when forward runs is needed as a number")

    __int__ = __index__

    def __float__(self) -> float:
        raise ValueError("a size that is only known when forward runs is needed as a number")

    def by(self, function: Callable[..., Any], *others: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, *others), {})


class TracedSizes(fx.Proxy):
    """The sizes of a tensor, or some of them."""


class TracedDevice(fx.Proxy):
    """The device of a tensor. What is asked of it in words is the example's, to which callers are then held."""

    def __getattr__(self, name: str) -> Any:
        asked = super().__getattr__(name)
        return self.tracer.value_held_to(asked) if name == "type" else asked  # type: ignore[attr-defined]

    def __str__(self) -> str:
        return str(self.tracer.value_held_to(self))  # type: ignore[attr-defined]


KINDS = frozenset((Traced, TracedNumber, TracedSizes, TracedDevice))


def answer(name: str, plain: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the function of this name, one that does not ask its arguments whether they are traced, answers of them:
    a node of the graph if they are, else what `plain` says."""
    if name in ("max", "min"):
        return _extreme(name, plain, args, kwargs)
    if name == "len":
        found = args[0] if isinstance(args[0], fx.Proxy) else None
    elif name in _METHODS:
        found = None if isinstance(args[0], fx.Proxy) else _traced_in(args[1:])
    else:
        found = _traced_in((args, kwargs))
    if found is None:
        return plain(*args, **kwargs)
    kind, target = _METHODS.get(name, ("call_function", plain))
    return found.tracer.create_proxy(kind, target, args, kwargs)


_METHODS: dict[str, tuple[str, Any]] = {
    "__getitem__": ("call_function", operator.getitem),
    "expand": ("call_method", "expand"),
}


def _whole(*args: Any, **kwargs: Any) -> Any:
    """`int`, of a traced number too."""
    one = args[0] if len(args) == 1 and not kwargs else None
    return one.by(torch.sym_int) if isinstance(one, TracedNumber) else int(*args, **kwargs)


def _floating(*args: Any, **kwargs: Any) -> Any:
    """`float`, of a traced number too."""
    one = args[0] if len(args) == 1 and not kwargs else None
    return one.by(torch.sym_float) if isinstance(one, TracedNumber) else float(*args, **kwargs)


TYPES_CALLED = {"int": _whole, "float": _floating}


def _extreme(name: str, plain: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The largest or the smallest; of whole numbers two by two, in the words that torch.export knows, too."""
    if kwargs or (len(args) == 1 and isinstance(args[0], fx.Proxy)):
        return plain(*args, **kwargs)
    values = list(args[0]) if len(args) == 1 else list(args)
    kinds = {each.kind if isinstance(each, TracedNumber) else type(each) for each in values}
    found = next((each for each in values if isinstance(each, TracedNumber)), None)
    if found is None or not kinds <= {int, float}:
        return plain(values) if len(args) == 1 else plain(*args)
    if kinds != {int}:
        return found.tracer.create_proxy("call_function", plain, tuple(values), {})
    function = torch.sym_max if name == "max" else torch.sym_min
    return reduce(lambda one, other: found.tracer.create_proxy("call_function", function, (one, other), {}), values)


def _traced_in(value: Any) -> fx.Proxy | None:
    """The first traced value within nested arguments."""
    if isinstance(value, fx.Proxy):
        return value
    if isinstance(value, slice):
        value = (value.start, value.stop, value.step)
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return next((found for each in value if (found := _traced_in(each)) is not None), None)
    return None
