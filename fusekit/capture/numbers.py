"""What is known of the numbers of a trace: sizes, and what a forward computes from them.

    h = x.shape[2];  max((math.ceil(h / 1) - 1) * 1 + 2 + 1 - h, 0)   is 2, whatever h

Each such node is known to be a number, of which kind, and, where its arithmetic is exact, as which count of sizes
(`algebra/counts.py`). A quotient of Python is a rounded number: it is exact if it is a multiple of a power of 1/2, and
else its ceiling and its floor are those of the exact one as long as nothing else is computed from it.
"""

import builtins
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import fx

from fusekit.algebra.counts import Count, TooLong, compared, least, most

LEN = len  # Python's own: while a trace runs, another answers to the name
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


@dataclass(frozen=True)
class Number:
    """A number of the trace: `kind` is int, float or bool; `count` is its exact value, if known. `comparison`: what a
    bool came of, (name, left, right). `rounded`: a quotient of which only ceiling and floor are those of `count`."""

    kind: type
    count: Count | None = None
    comparison: tuple[str, Count, Count] | None = None
    rounded: bool = False

    @property
    def literal(self) -> int | bool | None:
        """The number that it is for all sizes; None if it hangs on them."""
        if self.kind is bool and self.comparison is not None:
            return compared(*self.comparison)
        constant = self.count.constant if self.count is not None and self.kind is int else None
        return None if constant is None or constant.denominator != 1 else int(constant)


@dataclass(frozen=True)
class Sizes:
    """The sizes of a tensor, or those from axis `start` (to `stop`, exclusive; None for the end)."""

    tensor: fx.Node
    start: int = 0
    stop: int | None = None

    def axis(self, index: int) -> int | None:
        """The axis of the tensor that an index means, counted from the end if that is how it is known."""
        if index >= 0:
            axis = self.start + index
            return axis if (self.start < 0) == (axis < 0) else None
        if self.stop is None:
            return index
        axis = self.stop + index
        return axis if (self.stop < 0) == (axis < 0) else None

    def cut(self, index: slice) -> "Sizes | None":
        """A slice of them."""
        if index.step not in (None, 1) or not all(i is None or isinstance(i, int) for i in (index.start, index.stop)):
            return None
        start = self.start if index.start is None else self.axis(index.start)
        if index.stop is None:
            return None if start is None else replace(self, start=start)
        stop = self.axis(index.stop)
        return None if start is None or stop is None else replace(self, start=start, stop=stop)

    @property
    def length(self) -> int | None:
        """How many they are, if that does not hang on the tensor's rank."""
        stop = 0 if self.stop is None and self.start < 0 else self.stop
        return stop - self.start if stop is not None and (self.start < 0) == (stop <= 0 and self.start < 0) else None


class Numbers:
    """The numbers and sizes of one trace, by node. `sources` has the node that each size was first read by."""

    def __init__(self) -> None:
        self.of: dict[fx.Node, Number] = {}
        self.sizes: dict[fx.Node, Sizes] = {}
        self.sources: dict[Any, fx.Node] = {}

    def see(self, node: fx.Node) -> None:
        """Note what the new node is, if it is a number or sizes."""
        if (sizes := self._sizes(node)) is not None:
            self.sizes[node] = sizes
        elif (number := self._number(node)) is not None:
            self.of[node] = number

    def _sizes(self, node: fx.Node) -> Sizes | None:
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node):
            return None
        if node.target is getattr:
            return Sizes(source) if node.args[1] == "shape" else None
        if (node.op, node.target) == ("call_method", "size"):
            return Sizes(source) if len(node.args) == 1 and not node.kwargs else None
        if node.target is operator.getitem and source in self.sizes and isinstance(node.args[1], slice):
            return self.sizes[source].cut(node.args[1])
        return None

    def _number(self, node: fx.Node) -> Number | None:
        if node.op == "call_method":
            return self._asked(node)
        if node.op != "call_function":
            return None
        if node.target is operator.getitem and node.args[0] in self.sizes and isinstance(node.args[1], int):
            sizes = self.sizes[node.args[0]]  # type: ignore[index]
            return self._size(node, sizes.tensor, sizes.axis(node.args[1]))
        if node.target is getattr and node.args[1] == "ndim":
            return Number(int)
        if node.target is LEN:
            return Number(int)
        if any(each in self.sizes or _is_of_kind(each) for each in node.all_input_nodes):
            return Number(bool) if node.target in (operator.eq, operator.ne) else None
        given = [self._operand(each) for each in node.args]
        operands = [each for each in given if each is not None]
        if not operands or len(operands) < len(given) or node.kwargs:
            return None
        try:
            return _computed(node.target, operands)
        except TooLong:
            return _computed(node.target, [replace(each, count=None) for each in operands])

    def _asked(self, node: fx.Node) -> Number | None:
        if node.target in ("dim", "ndimension", "numel", "__len__") and len(node.args) == 1:
            return Number(int)
        if node.target == "size" and len(node.args) + len(node.kwargs) == 2:
            axis = node.args[1] if len(node.args) == 2 else node.kwargs.get("dim")
            if isinstance(node.args[0], fx.Node) and isinstance(axis, int):
                return self._size(node, node.args[0], axis)
        return None

    def _size(self, node: fx.Node, tensor: fx.Node, axis: int | None) -> Number:
        key = node if axis is None else (tensor, axis)
        if key not in self.sources:
            self.sources[key] = node
            if axis is not None:  # as a check of it names it
                node._rename(f"{tensor.name}_size_{axis}".replace("-", "minus_"))
        return Number(int, Count.size(key))

    def _operand(self, value: object) -> Number | None:
        if isinstance(value, fx.Node):
            return self.of.get(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return Number(type(value), Count.of(Fraction(value)))


def _is_of_kind(node: fx.Node) -> bool:
    """Whether it is no number, but no tensor either: a list of keys, a dtype, a device or its type."""
    if node.target is getattr and node.args[1] == "type":
        node = node.args[0]  # type: ignore[assignment]
    return node.target is list or (node.target is getattr and node.args[1] in ("dtype", "device"))


def _computed(function: Any, operands: list[Number]) -> Number | None:
    name = _NAMES.get(function, getattr(function, "__name__", ""))
    if name in COMPARISONS:
        one, other = operands
        exact = one.count is not None and other.count is not None and _is_exact(one) and _is_exact(other)
        whole = exact and one.count.is_whole() and other.count.is_whole()  # type: ignore[union-attr]
        return Number(bool, comparison=(name, one.count, other.count) if whole else None)  # type: ignore[arg-type]
    rule = _RULES.get(name)
    if rule is None:
        return None
    kind = _kind(name, operands)
    counts = [each.count for each in operands]
    rounds = name in ("ceil", "floor", "trunc")
    if None in counts or not (rounds or all(map(_is_exact, operands))):
        return Number(kind)
    count = rule(*counts)
    rounded = kind is float and count is not None and not _is_dyadic(count)
    if rounded and (name != "truediv" or not counts[0].is_whole()):  # type: ignore[union-attr]
        return Number(kind)
    return Number(kind, count, rounded=rounded)


def _kind(name: str, operands: list[Number]) -> type:
    if name in ("ceil", "floor", "trunc"):
        return int
    return float if name in ("truediv", "float") or any(each.kind is float for each in operands) else int


def _is_exact(number: Number) -> bool:
    return not number.rounded


def _is_dyadic(count: Count) -> bool:
    n = count.denominator
    return n & (n - 1) == 0 and n < 1 << 20


def _floordiv(one: Count, other: Count) -> Count | None:
    by = other.constant
    return (one * (1 / by)).floor() if by and by > 0 and one.is_whole() and by.denominator == 1 else None


def _mod(one: Count, other: Count) -> Count | None:
    quotient = _floordiv(one, other)
    return None if quotient is None else one - quotient * other


def _truediv(one: Count, other: Count) -> Count | None:
    by = other.constant
    return one * (1 / by) if by and by > 0 else None


def _pow(one: Count, other: Count) -> Count | None:
    power = other.constant
    return math.prod([one] * int(power), start=Count.of(1)) if power in (0, 1, 2, 3) else None


def _trunc(one: Count) -> Count | None:
    """Towards 0: the floor of what is never negative."""
    bound = one.at_least()
    return one.floor() if one.is_whole() or (bound is not None and bound >= 0) else None


_RULES: dict[str, Callable[..., Count | None]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
    "pos": lambda one: one,
    "abs": lambda one: most(one, -one),
    "floordiv": _floordiv,
    "mod": _mod,
    "truediv": _truediv,
    "pow": _pow,
    "max": most,
    "min": least,
    "ceil": Count.ceil,
    "floor": Count.floor,
    "trunc": _trunc,
    "round": lambda one: one if one.is_whole() else None,
    "float": lambda one: one,
}
_NAMES: dict[Any, str] = {
    torch.sym_max: "max",
    torch.sym_min: "min",
    torch.sym_int: "trunc",
    torch.sym_float: "float",
    operator.abs: "abs",
    builtins.round: "round",
}
