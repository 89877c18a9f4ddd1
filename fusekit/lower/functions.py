"""Functions of one complex number, computed with its two real parts.

The formulas are chosen to be right where textbook formulas overflow, cancel or lose the sign of a zero.
"""

import math
from typing import Any

import torch

from fusekit.lower.pair import Pair, Part, minus

Real = Any


def magnitude(z: Pair) -> Real:
    """|z| = m √(1 + (n/m)²) with m = max(|a|, |b|), n = min(|a|, |b|): no overflow or underflow unless |z| does."""
    if z.im is None or z.re is None:
        return torch.abs(z.re if z.im is None else z.im)
    a, b = torch.abs(z.re), torch.abs(z.im)
    m, n = torch.maximum(a, b), torch.minimum(a, b)
    ratio = n / torch.where((m == 0) | (m == math.inf), torch.ones_like(m), m)
    return torch.where(m == math.inf, m, m * torch.sqrt(1 + ratio * ratio))


def negative(x: Part) -> Any:
    """Whether the sign of x is minus, also for -0.0: 1/x is -∞ there and ∞ for +0.0."""
    return (x < 0) | ((x == 0) & (1 / x < 0))


def angle(z: Pair) -> Real:
    """∠z = atan2(b, a), computed by the one-argument arctangent. It is right in every quadrant, at ±0 and at ±∞:
    ∠(-1 + 0j) = π, ∠(0j) = 0, ∠(∞ + j∞) = π/4."""
    x, y = z.full()
    origin, corner = (x == 0) & (y == 0), torch.isinf(x) & torch.isinf(y)
    ratio = torch.where(corner, torch.sign(x) * torch.sign(y), y / torch.where(origin, torch.ones_like(x), x))
    base = torch.where(origin, y, torch.atan(ratio))
    half_turn = torch.where(negative(y), torch.full_like(y, -math.pi), torch.full_like(y, math.pi))
    return torch.where(negative(x), torch.where(origin, half_turn, base + half_turn), base)


def inverse(z: Pair) -> Pair:
    """1/z, computed like `quotient`."""
    if z.im is None:
        return Pair(1 / z.re, None)
    if z.re is None:
        return Pair(None, -1 / z.im)
    return quotient(Pair(1.0, None), z)


def quotient(z: Pair, w: Pair) -> Pair:
    """z/w = z (c - jd) / (c² + d²) / m with c + jd = w/m, m = max(|Re w|, |Im w|): c and d are at most 1, so their
    squares do not overflow.

    Where w = 0, each part is divided by 0. Where w is infinite and z is finite, the quotient is 0.
    """
    if w.im is None:
        return z.map(lambda part: part / w.re)
    if w.re is None:
        return Pair(*(None if p is None else p / w.im for p in (z.im, None if z.re is None else -z.re)))
    if isinstance(w.re, int | float):
        one = 1 / complex(w.re, w.im)
        return z * Pair.of(one)
    m = torch.maximum(torch.abs(w.re), torch.abs(w.im))
    zero = m == 0
    scale = torch.where(zero | (m == math.inf), torch.ones_like(m), m)
    c = torch.where(zero, torch.ones_like(m), torch.clamp(w.re / scale, -1, 1))
    d = torch.clamp(w.im / scale, -1, 1)
    square = c * c + d * d
    return (z * Pair(c, -d)).map(lambda part: part / square / m)


def polar(r: Real, turn: Real) -> Pair:
    return Pair(r * torch.cos(turn), r * torch.sin(turn))


def _times(s: Real, r: Real) -> Real:
    """s·r with 0·∞ = 0, so that a real argument whose result overflows gives no NaN in the imaginary part."""
    return torch.where(s == 0, s, s * r)


def exp(z: Pair) -> Pair:
    if z.im is None:
        return Pair(torch.exp(z.re), None)
    if z.re is None:
        return Pair(torch.cos(z.im), torch.sin(z.im))
    r = torch.exp(z.re)
    return Pair(r * torch.cos(z.im), _times(torch.sin(z.im), r))


def expm1(z: Pair) -> Pair:
    """Real part: e^a cos b - 1 = (e^a - 1) cos b - 2 sin²(b/2), which does not cancel near z = 0."""
    a, b = z.full()
    half, grown = torch.sin(b / 2), torch.expm1(a)
    return Pair(grown * torch.cos(b) - 2 * half * half, _times(torch.sin(b), grown + 1))


def log(z: Pair) -> Pair:
    return Pair(torch.log(magnitude(z)), angle(z))


def log1p(z: Pair) -> Pair:
    """½ log1p(a (2 + a) + b²) + j ∠(1 + z). The real part is log|1 + z| where |a (2 + a) + b²| ≥ 1, since the square
    could overflow."""
    a, b = z.full()
    one = Pair(1 + a, b)
    square = a * (2 + a) + b * b
    near = torch.log1p(torch.where(torch.abs(square) < 1, square, torch.zeros_like(square))) / 2
    return Pair(torch.where(torch.abs(square) < 1, near, torch.log(magnitude(one))), angle(one))


def sqrt(z: Pair) -> Pair:
    """One part is t = √((|z| + |a|)/2), a sum without cancellation; the other is |b|/2t. For a ≥ 0, t is the real
    part."""
    a, b = z.full()
    beside = torch.abs(b)
    t = torch.sqrt(magnitude(Pair(a, b)) / 2 + torch.abs(a) / 2)
    u = torch.where(beside == math.inf, beside, beside / (2 * torch.where(t == 0, torch.ones_like(t), t)))
    re, im = torch.where(a < 0, u, t), torch.where(a < 0, t, u)
    return Pair(re, torch.where(negative(b), -im, im))


def sin(z: Pair) -> Pair:
    a, b = z.full()
    return Pair(_times(torch.sin(a), torch.cosh(b)), torch.cos(a) * torch.sinh(b))


def cos(z: Pair) -> Pair:
    a, b = z.full()
    return Pair(torch.cos(a) * torch.cosh(b), _times(-torch.sin(a), torch.sinh(b)))


def sinh(z: Pair) -> Pair:
    """sinh z = -j sin(jz)."""
    a, b = z.full()
    return Pair(torch.sinh(a) * torch.cos(b), _times(torch.sin(b), torch.cosh(a)))


def cosh(z: Pair) -> Pair:
    """cosh z = cos(jz)."""
    a, b = z.full()
    return Pair(torch.cosh(a) * torch.cos(b), _times(torch.sin(b), torch.sinh(a)))


def tanh(z: Pair) -> Pair:
    """(t + j·sc(1 - t²)) / (c² + t²s²) with t = tanh a, c = cos b, s = sin b. No term overflows."""
    a, b = z.full()
    t, c, s = torch.tanh(a), torch.cos(b), torch.sin(b)
    below = c * c + t * t * s * s
    sech = 2 * torch.exp(-torch.abs(a)) / (1 + torch.exp(-2 * torch.abs(a)))
    return Pair(t / below, s * c * sech * sech / below)


def tan(z: Pair) -> Pair:
    """tan z = -j tanh(jz)."""
    a, b = z.full()
    turned = tanh(Pair(-b, a))
    return Pair(turned.im, -turned.re)


def sigmoid(z: Pair) -> Pair:
    """1/(1 + q) for a ≥ 0 and q/(1 + q) for a < 0, with |q| = exp(-|a|). So small results keep full precision."""
    a, b = z.full()
    left = a < 0
    q = polar(torch.exp(-torch.abs(a)), torch.where(left, b, -b))
    above = Pair(torch.where(left, q.re, torch.ones_like(q.re)), torch.where(left, q.im, torch.zeros_like(q.im)))
    return quotient(above, Pair(1 + q.re, q.im))


def sign(z: Pair) -> Pair:
    """z/|z|; 0 for z = 0."""
    r = magnitude(z)
    return z.map(lambda part: part / torch.where(r == 0, torch.ones_like(r), r))


def square(z: Pair) -> Pair:
    """z² = (a² - b²) + 2jab: three products instead of four."""
    twice = None if z.re is None or z.im is None else 2 * z.re * z.im
    return Pair(minus(*(None if p is None else p * p for p in (z.re, z.im))), twice)


def whole_power(z: Pair, exponent: int) -> Pair:
    """z^n by repeated squaring; z^-n = 1/z^n; z^0 = 1, also for z = 0 and NaN."""
    if exponent == 0:
        return Pair(torch.ones_like(z.re if z.re is not None else z.im), None)
    if exponent < 0:
        return inverse(whole_power(z, -exponent))
    if exponent == 1:
        return z
    half = square(whole_power(z, exponent // 2))
    return half * z if exponent % 2 else half


def power(z: Pair, w: Pair) -> Pair:
    """exp(w log z). At z = 0 the result is 0 if Re w > 0, else NaN, as in torch; the formula alone would give NaN."""
    a, b = z.full()
    nought = (a == 0) & (b == 0)
    re, im = exp(w * log(Pair(torch.where(nought, torch.ones_like(a), a), b))).full()
    exponent = w.full()[0]
    at_zero: Part
    if isinstance(exponent, int | float):
        at_zero = 0.0 if exponent > 0 else math.nan
    else:
        at_zero = torch.where(exponent > 0, torch.zeros_like(exponent), torch.full_like(exponent, math.nan))
    return Pair(torch.where(nought, at_zero, re), torch.where(nought, at_zero, im))
