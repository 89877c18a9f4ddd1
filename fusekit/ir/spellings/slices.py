"""Slices of spatial axes, as subscripts or calls: read where they stand behind batch and channels, and their bounds
count from the ends, whatever the size. Slices of channels are parts (`fusekit/rewriting/channel_paths.py`)."""

import operator
import sys
from typing import Any

import torch
from torch import fx

from fusekit.algebra import Cut, Identity
from fusekit.ir.facts import facts
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reading
from fusekit.ir.spellings.picks import picked
from fusekit.ir.spellings.table import Spelling

aten = torch.ops.aten

_ALL = slice(None)
Bounds = tuple[Any, Any, Any]  # start, stop, step, as Python has them


def _read_subscript(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """x[..., 1:-1, ::2]."""
    source: Any = node.args[0]
    index: Any = node.args[1]
    rank = facts(source).rank
    if not isinstance(source, fx.Node) or not isinstance(index, tuple) or rank is None:
        return None
    whole = (isinstance(i, slice) and i == _ALL for i in (*index[:1], *index[2:]))
    if len(index) > 1 and isinstance(index[1], list | tuple | fx.Node) and all(whole):
        return picked(graph, source, 1, list(index[1]) if isinstance(index[1], list | tuple) else index[1])
    if not all(i is Ellipsis or isinstance(i, slice) for i in index) or index.count(Ellipsis) > 1:
        return None
    place = index.index(Ellipsis) if Ellipsis in index else len(index)
    behind = index[place + 1 :]
    axes = [*range(place), *range(rank - len(behind), rank)]
    slices = (i for i in index if i is not Ellipsis)
    return _reading(source, {axis: (i.start, i.stop, i.step) for axis, i in zip(axes, slices, strict=True)})


def _read_slice(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    return _reading(a["self"], {a["dim"]: (a["start"], a["end"], a["step"])})


def _reading(source: fx.Node, chosen: dict[Any, Bounds]) -> Reading | None:
    """The cut of these axes, counted from the left or the right."""
    known = facts(source)
    if known.rank is None:
        return None
    crop, every = [(0, 0)] * known.rank, [1] * known.rank
    for axis, bounds in chosen.items():
        found = _cut(bounds)
        if found is None:
            return None
        crop[axis], every[axis] = found
    if set(crop) == {(0, 0)} and set(every) == {1}:
        return Reading(Identity(), source)
    if any(pair != (0, 0) for pair in crop[:2]) or every[:2] != [1, 1]:
        return None
    return Reading(Cut(tuple(crop[2:]), tuple(every[2:])), source)


def _cut(bounds: Bounds) -> tuple[tuple[int, int], int] | None:
    """((low, high) crop, step); None where a bound is computed, or is a place on an axis whose size may vary."""
    start, stop, step = (0 if bounds[0] is None else bounds[0]), bounds[1], bounds[2] or 1
    stop = 0 if stop in (None, sys.maxsize) else stop
    if not all(isinstance(bound, int) for bound in (start, stop, step)):
        return None
    return ((start, -stop), step) if start >= 0 >= stop and (stop or bounds[1] != 0) else None


SPELLING = Spelling(read={operator.getitem: _read_subscript, aten.slice.Tensor: _read_slice})
