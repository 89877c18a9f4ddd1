"""Rules for arithmetic, powers, functions of one number, and comparisons, with the signatures of torch's functions."""

import cmath
import math
from collections.abc import Callable
from typing import Any

import torch

from fusekit.lower import functions
from fusekit.lower.pair import Pair
from fusekit.lower.parts import number

Rule = Callable[..., Any]


def scaled(z: Pair, factor: Any) -> Pair:
    """z times a factor. A factor of 0 gives zeros of the right shape, not absent parts."""
    if isinstance(factor, int | float | complex) and factor == 0:
        return z.map(lambda part: part * 0)
    return z if isinstance(factor, int | float) and factor == 1 else z * number(factor)


def _complex(real: Any, imag: Any) -> Pair:
    return Pair(real, imag)


def _polar(abs: Any, angle: Any) -> Pair:
    return functions.polar(abs, angle)


def _real(input: Any) -> Any:
    z = Pair.of(input)
    return z.re if z.re is not None else z.full()[0]


def _imag(input: Any) -> Any:
    return Pair.of(input).full()[1]


def conj(input: Any) -> Pair:
    return Pair(input.re, None if input.im is None else -input.im)


def _view_as_real(input: Any) -> Any:
    return torch.stack(list(Pair.of(input).full()), -1)


def _view_as_complex(input: Any) -> Pair:
    return Pair(input.select(-1, 0), input.select(-1, 1))


def _add(input: Any, other: Any, *, alpha: Any = 1) -> Pair:
    return number(input) + scaled(number(other), alpha)


def _sub(input: Any, other: Any, *, alpha: Any = 1) -> Pair:
    return number(input) - scaled(number(other), alpha)


def _rsub(input: Any, other: Any, alpha: Any = 1) -> Pair:
    return _sub(other, input, alpha=alpha)


def _mul(input: Any, other: Any) -> Pair:
    if isinstance(input, int | float | complex):
        input, other = other, input
    return scaled(number(input), other)


def _div(input: Any, other: Any, *, rounding_mode: Any = None) -> Pair:
    if rounding_mode is not None:
        raise TypeError("rounding has no complex form")
    return functions.quotient(number(input), number(other))


def _addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Pair:
    return number(input) + scaled(number(tensor1) * number(tensor2), value)


def _addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Pair:
    return number(input) + scaled(functions.quotient(number(tensor1), number(tensor2)), value)


def _lerp(input: Any, end: Any, weight: Any) -> Pair:
    start = number(input)
    return start + scaled(number(end) - start, weight)


def _pow(input: Any, exponent: Any) -> Pair:
    """z^w: integer exponents by products, ±1/2 by the square root, all others by exp(w log z)."""
    z = number(input)
    if isinstance(exponent, complex) and not exponent.imag:
        exponent = exponent.real
    if isinstance(exponent, float) and exponent.is_integer():
        exponent = int(exponent)
    if isinstance(input, int | float | complex):
        return _power_of_constant(complex(input), number(exponent))
    if isinstance(exponent, int):
        return functions.whole_power(z, exponent)
    if isinstance(exponent, float) and abs(exponent) == 0.5:
        root = functions.sqrt(z)
        return root if exponent > 0 else functions.inverse(root)
    return functions.power(z, number(exponent))


def _power_of_constant(constant: complex, exponent: Pair) -> Pair:
    if constant == 0:
        raise TypeError("powers of the number 0 are not supported")
    return functions.exp(scaled(exponent, cmath.log(constant)))


def _of(function: Callable[[Pair], Any]) -> Rule:
    def rule(input: Any) -> Any:
        return function(number(input))

    return rule


def _logarithm(base: float) -> Rule:
    def rule(input: Any) -> Pair:
        return functions.log(number(input)).map(lambda part: part * (1 / math.log(base)))

    return rule


def _exp2(input: Any) -> Pair:
    return functions.exp(number(input).map(lambda part: part * math.log(2)))


def _eq(input: Any, other: Any) -> Any:
    (a, b), (c, d) = Pair.of(input).full(), Pair.of(other).full()
    return (a == c) & (b == d)


def _ne(input: Any, other: Any) -> Any:
    (a, b), (c, d) = Pair.of(input).full(), Pair.of(other).full()
    return (a != c) | (b != d)


def _isfinite(input: Any) -> Any:
    re, im = input.full()
    return torch.isfinite(re) & torch.isfinite(im)


def _either(function: Rule) -> Rule:
    def rule(input: Any) -> Any:
        re, im = input.full()
        return function(re) | function(im)

    return rule


def _isreal(input: Any) -> Any:
    return input.full()[1] == 0


ARITHMETIC: dict[str, Rule] = {
    "complex": _complex,
    "real": _real,
    "imag": _imag,
    **dict.fromkeys(("conj", "_conj", "conj_physical", "_conj_physical"), conj),
    "view_as_real": _view_as_real,
    "_view_as_real": _view_as_real,
    "view_as_complex": _view_as_complex,
    "polar": _polar,
    "add": _add,
    **dict.fromkeys(("sub", "subtract"), _sub),
    "rsub": _rsub,
    **dict.fromkeys(("mul", "multiply"), _mul),
    **dict.fromkeys(("div", "divide", "truediv", "true_divide"), _div),
    "addcmul": _addcmul,
    "addcdiv": _addcdiv,
    "lerp": _lerp,
    **dict.fromkeys(("pow", "float_power"), _pow),
    "square": _of(functions.square),
    **dict.fromkeys(("abs", "absolute"), _of(functions.magnitude)),
    "angle": _of(functions.angle),
    "reciprocal": _of(functions.inverse),
    "rsqrt": _of(lambda z: functions.inverse(functions.sqrt(z))),
    "exp": _of(functions.exp),
    "exp2": _exp2,
    "expm1": _of(functions.expm1),
    "log": _of(functions.log),
    "log1p": _of(functions.log1p),
    "log2": _logarithm(2),
    "log10": _logarithm(10),
    "sqrt": _of(functions.sqrt),
    "sin": _of(functions.sin),
    "cos": _of(functions.cos),
    "tan": _of(functions.tan),
    "sinh": _of(functions.sinh),
    "cosh": _of(functions.cosh),
    "tanh": _of(functions.tanh),
    "sigmoid": _of(functions.sigmoid),
    "sgn": _of(functions.sign),
    "eq": _eq,
    **dict.fromkeys(("ne", "not_equal"), _ne),
    "isfinite": _isfinite,
    "isnan": _either(torch.isnan),
    "isinf": _either(torch.isinf),
    "isreal": _isreal,
}
