"""Whole numbers computed from sizes: one normal form, so that what does not hang on a size is seen to be a number.

    (⌈h / 1⌉ - 1) · 1 + 2 + 1 - h = 2        (⌈h / 2⌉ - 1) · 2 + 2 + 1 - h = 1 + (-h mod 2) ≥ 0

A count is a polynomial with rational coefficients in atoms: sizes (whole, at least 0), ⌊a / n⌋ of a count by a positive
whole number, and max(a, b). Ceilings, remainders and minima are these:

    ⌈a / n⌉ = -⌊-a / n⌋        a mod n = a - n ⌊a / n⌋        min(a, b) = -max(-a, -b)

Bounds follow from  a / n - (n - 1) / n ≤ ⌊a / n⌋ ≤ a / n  for whole a.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

Number: TypeAlias = int | Fraction
_MOST_TERMS = 32  # of a polynomial; beyond it nothing simplifies and all is slow


@dataclass(frozen=True)
class Size:
    """An unknown size, by whatever tells it from others."""

    key: Hashable


@dataclass(frozen=True)
class Floor:
    """⌊of / by⌋, `of` whole and `by` > 1."""

    of: "Count"
    by: int


@dataclass(frozen=True)
class Most:
    """max(one, other)."""

    one: "Count"
    other: "Count"


Atom: TypeAlias = Size | Floor | Most
Monomial: TypeAlias = frozenset[tuple[Atom, int]]  # atoms with their powers; none for the constant
_ONE: Monomial = frozenset()


@dataclass(frozen=True)
class Count:
    """Σ coefficient · monomial, none of them 0. Equal counts are equal at all sizes; the converse does not hold."""

    terms: frozenset[tuple[Monomial, Fraction]]

    @classmethod
    def of(cls, value: Number) -> "Count":
        """A number as a count."""
        return _sum([(_ONE, Fraction(value))])

    @classmethod
    def size(cls, key: Hashable) -> "Count":
        """The size that goes by `key`."""
        return _atom(Size(key))

    @property
    def constant(self) -> Fraction | None:
        """The number that it is at all sizes, if it is one."""
        if not self.terms:
            return Fraction(0)
        return next(iter(self.terms))[1] if self.terms == {(_ONE, self._at_one())} else None

    def _at_one(self) -> Fraction:
        return dict(self.terms).get(_ONE, Fraction(0))

    def size_key(self) -> Hashable | None:
        """The key of the one size that it is, if it is one."""
        if len(self.terms) != 1:
            return None
        ((monomial, factor),) = self.terms
        if factor != 1 or len(monomial) != 1:
            return None
        ((atom, power),) = monomial
        return atom.key if isinstance(atom, Size) and power == 1 else None

    def is_whole(self) -> bool:
        """Whether all coefficients are, and so its value at all sizes."""
        return self.denominator == 1

    @property
    def denominator(self) -> int:
        """The least n > 0 for which n times the count has whole coefficients."""
        return math.lcm(*(factor.denominator for _, factor in self.terms))

    def sizes(self) -> frozenset[Hashable]:
        """The keys of the sizes that it hangs on."""
        found: set[Hashable] = set()
        for monomial, _ in self.terms:
            for atom, _ in monomial:
                found |= (
                    {atom.key} if isinstance(atom, Size) else frozenset().union(*(c.sizes() for c in _inside(atom)))
                )
        return frozenset(found)

    def sorted_terms(self) -> list[tuple[list[tuple[Atom, int]], Fraction]]:
        """The terms and the factors of each in an order that is always the same: of sums what is added first."""
        terms = [(sorted(m, key=lambda factor: _spelled(factor[0], str)), f) for m, f in self.terms]
        return sorted(terms, key=lambda term: (term[1] < 0, [_spelled(atom, str) for atom, _ in term[0]]))

    def spelled(self, name: Callable[[Any], str] = str) -> str:
        """A Python expression over the names of the sizes, `name(key)`."""
        parts = []
        rest = self
        for atom, factor in self._remainders():
            parts.append((factor, [f"({_bracketed(atom.of, name)} % {atom.by})"]))
            rest = rest - factor * (atom.of - atom.by * _atom(atom))
        for monomial, factor in rest.sorted_terms():
            parts.append((factor, [_spelled(atom, name) for atom, power in monomial for _ in range(power)]))
        text = ""
        for factor, product in parts:
            shown = [str(abs(factor))] if abs(factor) != 1 or not product else []
            text += f" {'-' if factor < 0 else '+'} {'*'.join([*shown, *product])}"
        return f"-{text[3:]}" if text.startswith(" - ") else text[3:] or "0"

    def _remainders(self) -> list[tuple["Floor", Fraction]]:
        """a and k for each k (a.of mod a.by) in it."""
        found: list[tuple[Floor, Fraction]] = []
        rest = self
        for monomial, factor in self.sorted_terms():
            atom = monomial[0][0] if len(monomial) == 1 and monomial[0][1] == 1 else None
            if isinstance(atom, Floor):
                less = rest + factor / atom.by * (atom.of - atom.by * _atom(atom))
                if len(less.terms) == len(rest.terms) - len(atom.of.terms) - 1:
                    found, rest = [*found, (atom, -factor / atom.by)], less
        return found

    def __add__(self, other: "Count | Number") -> "Count":
        return _sum([*self.terms, *_as_count(other).terms])

    def __mul__(self, other: "Count | Number") -> "Count":
        pairs = ((a, b) for a in self.terms for b in _as_count(other).terms)
        return _sum((_product(m, n), f * g) for (m, f), (n, g) in pairs)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> "Count":
        return self * -1

    def __sub__(self, other: "Count | Number") -> "Count":
        return self + -_as_count(other)

    def __rsub__(self, other: Number) -> "Count":
        return -self + other

    def floor(self) -> "Count":
        """⌊self⌋. What has whole coefficients comes out, ⌊(⌊a / m⌋ + k) / n⌋ = ⌊(a + k m) / (m n)⌋; and of a and -a
        one is rounded, ⌊-a / n⌋ = -⌊(a + n - 1) / n⌋, so that h stands once in ⌈h / 2⌉ = ⌊(h + 1) / 2⌋."""
        by = self.denominator
        whole = _sum((m, Fraction(math.floor(f) if m == _ONE else math.trunc(f))) for m, f in self.terms)
        rest = (self - whole) * by
        inner = [term for term in rest.sorted_terms() if term[0]]
        if not inner:
            return whole
        if all(factor < 0 for _, factor in inner):
            return whole - ((by - 1 - rest) * Fraction(1, by)).floor()
        if len(inner) == 1 and inner[0][1] == 1 and len(inner[0][0]) == 1:
            ((atom, power),) = inner[0][0]
            if isinstance(atom, Floor) and power == 1:
                return whole + _atom(Floor(atom.of + rest._at_one() * atom.by, atom.by * by))
        return whole + _atom(Floor(rest, by))

    def ceil(self) -> "Count":
        """⌈self⌉."""
        return -(-self).floor()

    def __floordiv__(self, by: int) -> "Count":
        return (self * Fraction(1, by)).floor()

    def __mod__(self, by: int) -> "Count":
        return self - (self // by) * by

    def value(self, sizes: Mapping[Hashable, int]) -> Fraction:
        """Its value where the sizes are these; KeyError for one that is not given."""

        def of_atom(atom: Atom) -> Fraction:
            if isinstance(atom, Size):
                return Fraction(sizes[atom.key])
            if isinstance(atom, Floor):
                return Fraction(math.floor(atom.of.value(sizes) / atom.by))
            return max(atom.one.value(sizes), atom.other.value(sizes))

        return sum((f * math.prod(of_atom(a) ** p for a, p in m) for m, f in self.terms), Fraction(0))

    def at_least(self) -> Fraction | None:
        """A number below which it never is; None if none is found."""
        terms = dict(self.terms)
        for monomial, factor in terms.items():
            if len(monomial) != 1 or next(iter(monomial))[1] != 1:
                continue
            ((atom, _),) = monomial
            rest = self - Count(frozenset({(monomial, factor)}))
            if isinstance(atom, Floor):
                shift = Fraction(atom.by - 1, atom.by) if factor > 0 else 0
                return (rest + factor * (atom.of * Fraction(1, atom.by) - shift)).at_least()
            if isinstance(atom, Most):
                found = [(rest + factor * side).at_least() for side in (atom.one, atom.other)]
                known = [bound for bound in found if bound is not None]
                if factor > 0:
                    return max(known, default=None)
                return min(known) if len(known) == len(found) else None
        nonnegative = all(m == _ONE or (f > 0 and all(isinstance(a, Size) for a, _ in m)) for m, f in terms.items())
        return self._at_one() if nonnegative else None


def _inside(atom: Floor | Most) -> tuple[Count, ...]:
    return (atom.of,) if isinstance(atom, Floor) else (atom.one, atom.other)


def _spelled(atom: Atom, name: Callable[[Any], str]) -> str:
    if isinstance(atom, Size):
        return name(atom.key)
    if isinstance(atom, Floor):
        return f"({_bracketed(atom.of, name)} // {atom.by})"
    return f"max({atom.one.spelled(name)}, {atom.other.spelled(name)})"


def _bracketed(count: Count, name: Callable[[Any], str]) -> str:
    text = count.spelled(name)
    return text if count.size_key() is not None else f"({text})"


def most(one: Count, other: Count) -> Count:
    """max(one, other): one of them, where the bounds decide."""
    above, below = (one - other).at_least(), (other - one).at_least()
    if above is not None and above >= 0:
        return one
    if below is not None and below >= 0:
        return other
    return _atom(Most(one, other))


def least(one: Count, other: Count) -> Count:
    """min(one, other)."""
    return -most(-one, -other)


def compared(name: str, one: Count, other: Count) -> bool | None:
    """`one name other` for lt, le, gt, ge, eq, ne of whole counts, if that is the same at all sizes; else None."""
    if name in ("gt", "ge"):
        return compared({"gt": "lt", "ge": "le"}[name], other, one)
    if name == "ne":
        same = compared("eq", one, other)
        return None if same is None else not same
    over, under = (other - one).at_least(), (one - other).at_least()
    if name == "eq":
        if one == other:
            return True
        return False if (over or 0) > 0 or (under or 0) > 0 else None
    least_over = 1 if name == "lt" else 0  # one < other where other - one ≥ 1, not where one - other ≥ 0
    if over is not None and over >= least_over:
        return True
    return False if under is not None and under >= 1 - least_over else None


def _as_count(value: Count | Number) -> Count:
    return value if isinstance(value, Count) else Count.of(value)


def _atom(atom: Atom) -> Count:
    return Count(frozenset({(frozenset({(atom, 1)}), Fraction(1))}))


def _sum(terms: Iterable[tuple[Monomial, Fraction]]) -> Count:
    factors: dict[Monomial, Fraction] = {}
    for monomial, factor in terms:
        factors[monomial] = factors.get(monomial, Fraction(0)) + factor
    kept = frozenset((m, f) for m, f in factors.items() if f)
    if len(kept) > _MOST_TERMS:
        raise TooLong
    return Count(kept)


def _product(one: Monomial, other: Monomial) -> Monomial:
    powers = dict(one)
    for atom, power in other:
        powers[atom] = powers.get(atom, 0) + power
    return frozenset(powers.items())


class TooLong(Exception):
    """A count of more terms than are of use."""
