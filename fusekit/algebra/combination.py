"""Maps made of maps: compositions, and sums and concatenations of branches.

    Composition(m1, ..., mk)(x) = m1(...(mk(x)))
    Combination(terms)(x0, ..., xn) = Σ m_t(x_s(t))   or   concat of m_t(x_s(t)) along an axis, and maps `after` it

Branches of one source merge: a sum of convolutions is a convolution, and so is their concatenation. Each branch is
first collapsed to one map by the laws of composition, whatever that costs: the price is asked of the whole.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.selection import Selection
from fusekit.algebra.span import Span, along
from fusekit.algebra.trivial import Identity
from fusekit.errors import Inapplicable


@dataclass(frozen=True, eq=False)
class Composition(Map):
    """`maps` in a row, outermost first; no map at all is the identity."""

    maps: tuple[Any, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return reduce(lambda value, each: each(value), reversed(self.maps), x)

    def output_shape(self, shape: Shape) -> Shape:
        return reduce(lambda size, each: each.output_shape(size), reversed(self.maps), shape)

    def macs(self, shape: Shape) -> int:
        total = 0
        for each in reversed(self.maps):
            total += each.macs(shape)
            shape = each.output_shape(shape)
        return total

    def constants(self) -> tuple[Tensor, ...]:
        return tuple(constant for each in self.maps for constant in each.constants())

    def describe(self) -> str:
        return " after ".join(each.describe() for each in self.steps()) or Identity().describe()

    def plain(self) -> Any:
        """That of its only step."""
        steps = self.steps()
        return steps[0].plain() if len(steps) == 1 else None

    def span(self) -> Span | None:
        return along([each.span() for each in reversed(self.maps)])

    def linear_part(self) -> "Composition":
        return Composition(tuple(each.linear_part() for each in self.maps))

    def steps(self) -> tuple[Map, ...]:
        return tuple(step for each in self.maps for step in each.steps())

    def on_meta(self) -> "Composition":
        return Composition(tuple(each.on_meta() for each in self.maps))

    def collapsed(self) -> Map:
        """One map for all, by m1 @ (m2 @ ...); Inapplicable where a law of composition does not hold."""
        maps: tuple[Any, ...] = self.steps()
        result = maps[-1] if maps else Identity()
        for outer in reversed(maps[:-1]):
            try:
                result = outer @ result
            except TypeError:
                kinds = f"{type(outer).__name__} after {type(result).__name__}"
                raise Inapplicable(f"there is no law for a {kinds}") from None
        return result


@dataclass(frozen=True, eq=False)
class Term:
    """One branch: `map`, a chain of maps, of the source with the number `source`."""

    source: int
    map: Composition


@dataclass(frozen=True, eq=False)
class Combination:
    """The sum of the branches `terms` (`axis` None), or their concatenation along an axis counted from the right;
    `after`: what is applied to it."""

    terms: tuple[Term, ...]
    axis: int | None = None
    after: Composition = Composition(())

    def __call__(self, *sources: Tensor) -> Tensor:
        values = [term.map(sources[term.source]) for term in self.terms]
        return self.after(sum(values[1:], values[0]) if self.axis is None else torch.cat(values, self.axis))

    def output_shape(self, *shapes: Shape) -> Shape:
        """The shape of the whole for sources of these shapes."""
        return self.after.output_shape(self.joint_shape(*shapes))

    def joint_shape(self, *shapes: Shape) -> Shape:
        """The shape of the sum or concatenation itself, before `after`, for sources of these `shapes`."""
        branches = [term.map.output_shape(shapes[term.source]) for term in self.terms]
        if self.axis is None:
            return branches[0]
        sizes = list(branches[0])
        sizes[self.axis] = sum(branch[self.axis] for branch in branches)
        return tuple(sizes)

    def source_shapes(self, shape: Shape, channels: int | None = None) -> list[Shape]:
        """A shape for every source such that all branches yield one size: the first source with maps has this spatial
        shape, the other ones what fits it, and sources that are branches themselves what the others yield, or those of
        so many `channels` of a concatenation that are left."""
        known: dict[int, Shape] = {}
        yielded: Shape | None = None
        for term in self.terms:
            conv = next((m for m in reversed(term.map.maps) if isinstance(m, Conv | Selection)), None)
            if conv is None or term.source in known:
                continue
            batch, n = shape[: len(shape) - conv.n - 1], conv.n
            first = (*batch, conv.in_channels, *shape[len(shape) - n :])
            known[term.source] = first if yielded is None else preimage(term.map, first, yielded[len(yielded) - n :])
            yielded = yielded or term.map.output_shape(first)
        if yielded is None and self.axis is not None and not any(term.map.constants() for term in self.terms):
            return [shape] * (1 + max(term.source for term in self.terms))
        if yielded is None:
            raise Inapplicable("no branch is a convolution")
        widths = [_width(term) for term in self.terms]
        if self.axis is not None and channels is not None and widths.count(None) == 1:
            rest = channels - sum(width for width in widths if width is not None)
            yielded = (*yielded[: self.axis], rest, *yielded[len(yielded) + self.axis + 1 :])
        return [known.get(source, yielded) for source in range(1 + max(term.source for term in self.terms))]

    def constants(self) -> tuple[Tensor, ...]:
        """The tensors that define the branches, and what is applied to them."""
        branches = (constant for term in self.terms for constant in term.map.constants())
        return (*branches, *self.after.constants())

    def on_meta(self) -> "Combination":
        """The same on the meta device: shapes without values."""
        terms = tuple(Term(term.source, term.map.on_meta()) for term in self.terms)
        return Combination(terms, self.axis, self.after.on_meta())

    def gathered(self) -> "Combination":
        """A sum of paths as ONE convolution, of the one source or of the concatenation of all.

        Σ_t m_t(x_s(t)) = (Σ_t m_t S_s(t))(concat(x_0, ..., x_k))          S_j: the channels of x_j
        """
        sums: dict[int, Conv] = {}
        for term in self.terms:
            value = term.map.collapsed()
            if isinstance(value, Selection):
                value = value.as_conv()
            if not isinstance(value, Conv):
                raise Inapplicable("a path from the parts is no convolution")
            sums[term.source] = sums[term.source] + value if term.source in sums else value
        order = sorted(sums)
        widths = [sums[source].in_channels for source in order]
        n, device = sums[0].n, sums[0].kernel.device
        if len(order) == 1:
            return Combination((Term(0, Composition(() if sums[0].is_identity() else (sums[0],))),))
        total: Conv | None = None
        for source, width in zip(order, widths, strict=True):
            seen = sums[source] @ Selection(sum(widths[: order.index(source)]), width, sum(widths), n, device=device)
            total = seen if total is None else total + seen
        nothing = Composition(())
        return Combination(tuple(Term(source, nothing) for source in order), -n - 1, Composition((total,)))

    def merged_sum(self) -> "Combination":
        """All terms of source 0 as one convolution, first; the other terms behind it.

        Σ (K_t ⋆ x + b_t) = (Σ K_t) ⋆ x + Σ b_t, identities and per-channel maps being convolutions of window 1.
        """
        mine = [term.map.collapsed() for term in self.terms if term.source == 0]
        convs = [value for value in mine if isinstance(value, Conv)]
        if not convs:
            raise Inapplicable("no branch is a convolution")
        total = convs[0]
        for value in (*convs[1:], *(v for v in mine if not isinstance(v, Conv))):
            total = total + _as_addend(value, total)
        rest = tuple(term for term in self.terms if term.source != 0)
        return Combination((Term(0, Composition((total,))), *rest))

    def merged_concat(self) -> "Combination":
        """Neighbouring terms of one source as one convolution each, their kernels stacked, where their windows are so
        alike that few zeros are needed."""
        merged: list[Term] = []
        for term in self.terms:
            stacked = None
            if merged and merged[-1].source == term.source:
                stacked = _stacked(merged[-1], term, self.axis)
            merged[-1:] = [stacked] if stacked is not None else [*merged[-1:], term]
        if len(merged) == len(self.terms):
            raise Inapplicable("no neighbouring branches have windows alike")
        return Combination(tuple(merged), self.axis)

    def after_affine(self, outer: Affine) -> "Combination":
        """a ∘ concat(c_t) = concat(a_t ∘ c_t) for a = `outer`, a_t being a's entries for the channels of c_t.
        Inapplicable if a branch is no convolution."""
        terms, start = [], 0
        for term in self.terms:
            conv = term.map.collapsed()
            if not isinstance(conv, Conv):
                raise Inapplicable("a branch of the concatenation is no convolution")
            part = outer.narrowed(start, conv.out_channels)
            start += conv.out_channels
            terms.append(Term(term.source, Composition((part @ conv,))))
        return Combination(tuple(terms), self.axis)

    def after_conv(self, outer: Conv) -> "Combination":
        """c ∘ concat(m_t) = Σ c_t ∘ m_t for c = `outer`, c_t being c on the channels of m_t; those of one source become
        one map. Inapplicable for a transposed c, or if it is not known which channels belong to which branch."""
        if outer.transposed:
            raise Inapplicable("the branches before a transposed convolution are left as they are")
        widths = [_width(term) for term in self.terms]
        if widths.count(None) > 1:
            raise Inapplicable("it is not known how many channels each part of the concatenation has")
        known = sum(width for width in widths if width is not None)
        start = 0
        merged: dict[int, Any] = {}
        for term, width in zip(self.terms, widths, strict=True):
            width = outer.in_channels - known if width is None else width
            part = outer.reading(start, width, with_bias=start == 0)
            start += width
            value = Composition((part, *term.map.maps)).collapsed()
            merged[term.source] = merged[term.source] + value if term.source in merged else value
        if start != outer.in_channels:
            raise Inapplicable(f"{start} channels do not feed {outer.in_channels}")
        return Combination(tuple(Term(source, Composition((value,))) for source, value in merged.items()))


def _width(term: Term) -> int | None:
    """The channels that a branch yields, if its maps tell."""
    conv = next((m for m in term.map.maps if isinstance(m, Conv)), None)
    return None if conv is None else conv.out_channels


def preimage(chain: Composition, shape: Shape, spatial: Shape) -> Shape:
    """The input shape nearest to this one, axis by axis, whose output has these spatial sizes; Inapplicable if none."""
    sizes = list(shape)
    for axis in range(-len(spatial), 0):
        nearest = sorted(range(1, 4 * shape[axis] + 8 * spatial[axis] + 16), key=lambda size: abs(size - shape[axis]))
        for size in nearest:
            sizes[axis] = size
            if chain.output_shape(tuple(sizes))[axis] == spatial[axis]:
                break
        else:
            raise Inapplicable("no input sizes give the branches one output size")
    return tuple(sizes)


def _as_addend(value: Map, like: Conv) -> Affine | Conv:
    if isinstance(value, Identity):
        return Affine.of(torch.ones((), dtype=torch.float64, device=like.kernel.device), None, None)
    if not isinstance(value, Affine | Conv):
        raise Inapplicable(f"a {type(value).__name__} does not add to a convolution")
    return value


_PADDING = 1.2  # how many times the kernels' own entries a stack of them may have


def _stacked(first: Term, second: Term, axis: int | None) -> Term | None:
    """Both as one, if they are concatenated along their channels."""
    a, b = first.map.collapsed(), second.map.collapsed()
    if not isinstance(a, Conv) or not isinstance(b, Conv) or axis != a.channel_axis or axis != b.channel_axis:
        return None
    try:
        both = a.stack(b)
    except Inapplicable:
        return None
    if both.kernel.numel() > _PADDING * (a.kernel.numel() + b.kernel.numel()):
        return None
    return Term(first.source, Composition((both,)))
