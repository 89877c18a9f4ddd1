"""Sums and concatenations of branches, each a composition of maps.

    Combination(terms)(x0, ..., xn) = Σ m_t(x_s(t))   or   concat of m_t(x_s(t)) along an axis, and maps `after` it

Branches of one source merge: a sum of convolutions is a convolution, and so is their concatenation. Each branch is
first collapsed to one map by the laws of composition, whatever that costs: the price is asked of the whole.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from fusekit.algebra.affine import Affine
from fusekit.algebra.composition import Composition
from fusekit.algebra.conv import Conv
from fusekit.algebra.map import Map, Shape
from fusekit.algebra.selection import Selection
from fusekit.algebra.trivial import Identity
from fusekit.errors import Inapplicable

NOTHING = Composition(())


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
    after: Composition = NOTHING

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
        so many `channels` of a concatenation that are left. Raises Inapplicable if no branch tells how many channels it
        reads."""
        widths = self._widths(channels)
        known: dict[int, Shape] = {}
        yielded: Shape | None = None
        for term, width in zip(self.terms, widths, strict=True):
            reads = _reads(term.map)
            if reads is None and self.axis is not None and channels is not None and width is not None:
                reads = (width, -self.axis - 1) if len({other.source for other in self.terms}) == 1 else None
            if reads is None or term.source in known:
                continue
            read, n = reads
            first = (*shape[: len(shape) - n - 1], read, *shape[len(shape) - n :])
            if yielded is None:
                known[term.source] = self._agreeing(term.source, first, n)
                yielded = term.map.output_shape(known[term.source])
            else:
                known[term.source] = preimage(term.map, first, yielded[len(yielded) - n :])
        joined = self.axis is not None and not any(term.map.constants() for term in self.terms)
        if yielded is None and (joined or all(isinstance(m, Affine) for term in self.terms for m in term.map.maps)):
            return [shape] * (1 + max(term.source for term in self.terms))
        if yielded is None:
            raise Inapplicable("no branch tells how many channels it reads")
        for term, width in zip(self.terms, widths, strict=True):
            if term.source not in known:
                like = yielded
                if self.axis is not None and width is not None:
                    like = (*yielded[: self.axis], width, *yielded[len(yielded) + self.axis + 1 :])
                known[term.source] = preimage(term.map, like, yielded[2:]) if term.map.maps else like
        return [known[source] for source in range(1 + max(term.source for term in self.terms))]

    def _agreeing(self, source: int, shape: Shape, n: int) -> Shape:
        """The shape nearest to this one, axis by axis of the last `n`, at which the branches of a source agree in size;
        Inapplicable if there is none."""
        chains = [term.map for term in self.terms if term.source == source]
        sizes = list(shape)
        for axis in range(-n, 0):
            near = sorted(range(1, 2 * shape[axis] + 16), key=lambda size, axis=axis: abs(size - shape[axis]))  # type: ignore[misc]
            for size in near:
                sizes[axis] = size
                if len({chain.output_shape(tuple(sizes))[axis] for chain in chains}) == 1:
                    break
            else:
                raise Inapplicable("there are no sizes at which the branches agree")
        return tuple(sizes)

    def _widths(self, channels: int | None) -> list[int | None]:
        """The channels that each branch yields, if its maps tell, or others of the same source: only convolutions
        change how many they are. Of so many `channels` of a concatenation those that are left, for one branch or
        several of one source."""
        found = ((term.source, _reads(term.map)) for term in self.terms)
        read = {source: reads[0] for source, reads in found if reads is not None and self.axis == -reads[1] - 1}
        convs = [next((m for m in term.map.maps if isinstance(m, Conv)), None) for term in self.terms]
        pairs = list(zip(self.terms, convs, strict=True))
        widths = [read.get(term.source) if conv is None else conv.out_channels for term, conv in pairs]
        unknown = [term.source for (term, _), width in zip(pairs, widths, strict=True) if width is None]
        if channels is None or not unknown or len(set(unknown)) > 1:
            return widths
        rest = channels - sum(width for width in widths if width is not None)
        each = None if rest % len(unknown) else rest // len(unknown)
        return [each if width is None else width for width in widths]

    def steps(self) -> tuple[Map, ...]:
        """The maps that it is made of."""
        return (*(step for term in self.terms for step in term.map.steps()), *self.after.steps())

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

        Raises Inapplicable if a path is no convolution.
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
        return Combination(tuple(Term(source, NOTHING) for source in order), -n - 1, Composition((total,)))

    def merged_sum(self) -> "Combination":
        """All terms of source 0 as one map, first; the other terms behind it.

        Σ (K_t ⋆ x + b_t) = (Σ K_t) ⋆ x + Σ b_t, identities, crops and per-channel maps being convolutions of window 1;
        Σ (s_t x + r_t) = (Σ s_t) x + Σ r_t where there is nothing else.
        """
        mine = [term.map for term in self.terms if term.source == 0]
        first = next((conv for chain in mine if (conv := _first_conv(chain)) is not None), None)
        total = _sum_of_affines(mine) if first is None else _sum_of_convs(mine, first)
        rest = tuple(term for term in self.terms if term.source != 0)
        return Combination((Term(0, Composition((total,))), *rest))

    def merged_concat(self) -> "Combination":
        """Neighbouring terms of one source as one convolution each, their kernels stacked, where their windows are so
        alike that few zeros are needed. Raises Inapplicable if no windows are so alike."""
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
        start = 0
        merged: dict[int, Any] = {}
        for term, width in zip(self.terms, self._widths(outer.in_channels), strict=True):
            if width is None:
                raise Inapplicable("it is not known how many channels each part of the concatenation has")
            part = outer.reading(start, width, with_bias=start == 0)
            start += width
            value = Composition((part, *term.map.maps)).collapsed()
            before = merged.get(term.source)
            # what can be concatenated is of one size
            merged[term.source] = value if before is None else before.plus(value, agreeing=True)
        if start != outer.in_channels:
            raise Inapplicable(f"{start} channels do not feed {outer.in_channels}")
        return Combination(tuple(Term(source, Composition((value,))) for source, value in merged.items()))


def _reads(chain: Composition) -> tuple[int, int] | None:
    """How many channels a chain reads, and the axes behind these, if its maps tell."""
    for value in reversed(chain.maps):
        if isinstance(value, Conv | Selection):
            return value.in_channels, value.n
        if isinstance(value, Affine) and value.axis is not None:
            return int(value.scale.shape[0]), -value.axis - 1
    return None


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


def _first_conv(chain: Composition) -> Conv | None:
    """The convolution that tells how many channels a chain reads."""
    return next((step for step in reversed(chain.steps()) if isinstance(step, Conv)), None)


def _sum_of_convs(chains: Sequence[Composition], first: Conv) -> Conv:
    """All as convolutions of what `first` reads; a chain that no law of per-channel maps collapses, step by step."""
    convs: list[Conv] = []
    for chain in chains:
        try:
            value: Map = chain.collapsed()
        except Inapplicable:
            value = chain
        if not isinstance(value, Conv):
            value = chain.as_conv(first.n, first.in_channels, first.kernel.device)
        convs.append(value)
    return reduce(operator.add, convs)


def _sum_of_affines(chains: Sequence[Composition]) -> Affine:
    """All as per-channel maps of one tensor; Inapplicable if one is none, or all are the identity."""
    values = [chain.collapsed() for chain in chains]
    known = next((value for value in values if isinstance(value, Affine)), None)
    if known is None:
        raise Inapplicable("no branch is a convolution or a map of each channel")
    one = Affine(torch.ones_like(known.scale), torch.zeros_like(known.shift), known.axis)
    total: Affine | None = None
    for value in values:
        affine = one if isinstance(value, Identity) else value
        if not isinstance(affine, Affine):
            raise Inapplicable("a branch is no map of each channel")
        total = affine if total is None else total + affine
    assert total is not None
    return total


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
