"""Functions of one complex number on two reals, right where textbook forms overflow or lose the sign of a zero."""

import math
from typing import Any

import torch

from fusekit.lower.pair import Pair, Part

Real = Any


def magnitude(z: Pair) -> Real:
    """|z| = m √(1 + (n/m)²), m = max(|a|, |b|), n the other: neither overflows nor underflows before |z| does."""
    if z.im is None or z.re is None:
        return torch.abs(z.re if z.im is None else z.im)
    a, b = torch.abs(z.re), torch.abs(z.im)
    m, n = torch.maximum(a, b), torch.minimum(a, b)
    ratio = n / torch.where((m == 0) | (m == math.inf), torch.ones_like(m), m)
    return torch.where(m == math.inf, m, m * torch.sqrt(1 + ratio * ratio))


def negative(x: Part) -> Any:
    """Whether x carries a minus sign, -0.0 included: 1/x tells the zeros apart."""
    return (x < 0) | ((x == 0) & (1 / x < 0))


def angle(z: Pair) -> Real:
    """atan2(b, a) by the one-argument arctangent, exact in every quadrant and at ±0: ∠(-1 + 0j) = π, ∠(0j) = 0."""
    x, y = z.full()
    origin = (x == 0) & (y == 0)
    slope = torch.atan(y / torch.where(origin, torch.ones_like(x), x))
    base = torch.where(origin, y, slope)
    half_turn = torch.where(negative(y), torch.full_like(y, -math.pi), torch.full_like(y, math.pi))
    return torch.where(negative(x), torch.where(origin, half_turn, base + half_turn), base)


def inverse(z: Pair) -> Pair:
    """1/z = (c - jd)/m / (c² + d²), c + jd = z/m: squares of what is at most 1."""
    if z.im is None:
        return Pair(1 / z.re, None)
    if z.re is None:
        return Pair(None, -1 / z.im)
    m = torch.maximum(torch.abs(z.re), torch.abs(z.im))
    c, d = z.re / m, z.im / m
    square = c * c + d * d
    return Pair(c / square / m, -d / square / m)


def quotient(z: Pair, w: Pair) -> Pair:
    """z/w, w scaled to at most 1 as in `inverse`, the scale taken off last."""
    if w.im is None:
        return z.map(lambda part: part / w.re)
    if w.re is None:
        return Pair(*(None if p is None else p / w.im for p in (z.im, None if z.re is None else -z.re)))
    if isinstance(w.re, int | float):
        one = 1 / complex(w.re, w.im)
        return z * Pair.of(one)
    m = torch.maximum(torch.abs(w.re), torch.abs(w.im))
    c, d = w.re / m, w.im / m
    square = c * c + d * d
    return (z * Pair(c, -d)).map(lambda part: part / square / m)


def polar(r: Real, turn: Real) -> Pair:
    return Pair(r * torch.cos(turn), r * torch.sin(turn))


def exp(z: Pair) -> Pair:
    a, b = z.full()
    return polar(torch.exp(a), b)


def log(z: Pair) -> Pair:
    return Pair(torch.log(magnitude(z)), angle(z))


def sqrt(z: Pair) -> Pair:
    """t = √((|z| + |a|)/2) never cancels; the other part is |b|/2t."""
    a, b = z.full()
    t = torch.sqrt((magnitude(Pair(a, b)) + torch.abs(a)) / 2)
    u = torch.abs(b) / (2 * torch.where(t == 0, torch.ones_like(t), t))
    re, im = torch.where(a < 0, u, t), torch.where(a < 0, t, u)
    return Pair(re, torch.where(negative(b), -im, im))


def sin(z: Pair) -> Pair:
    a, b = z.full()
    return Pair(torch.sin(a) * torch.cosh(b), torch.cos(a) * torch.sinh(b))


def cos(z: Pair) -> Pair:
    a, b = z.full()
    return Pair(torch.cos(a) * torch.cosh(b), -torch.sin(a) * torch.sinh(b))


def tanh(z: Pair) -> Pair:
    """With t = tanh a and (c, s) = (cos b, sin b): (t + j·sc(1 - t²)) / (c² + t²s²); nothing in it overflows."""
    a, b = z.full()
    t, c, s = torch.tanh(a), torch.cos(b), torch.sin(b)
    below = c * c + t * t * s * s
    sech = 2 * torch.exp(-torch.abs(a)) / (1 + torch.exp(-2 * torch.abs(a)))
    return Pair(t / below, s * c * sech * sech / below)


def sigmoid(z: Pair) -> Pair:
    return (tanh(z.map(lambda part: part / 2)) + Pair(1.0, None)).map(lambda part: part / 2)


def sign(z: Pair) -> Pair:
    """z/|z|, and 0 at 0."""
    r = magnitude(z)
    return z.map(lambda part: part / torch.where(r == 0, torch.ones_like(r), r))
