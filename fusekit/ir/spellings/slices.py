"""Slices of spatial axes, as subscripts or calls: read where they stand behind batch and channels, and their bounds
count from the ends or the size is known. Slices of channels are parts (`fusekit/rewriting/channel_paths.py`)."""

import operator
import sys
from typing import Any

import torch
from torch import fx

from fusekit.algebra import Cut, Identity
from fusekit.ir.facts import Facts, facts
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


def _read_narrow(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    start, length = a["start"], a["length"]
    if not isinstance(start, int) or not isinstance(length, int):
        return None
    return _reading(a["input" if "input" in a else "self"], {a["dim"]: (start, (start + length) or None, 1)})


def _reading(source: fx.Node, chosen: dict[Any, Bounds]) -> Reading | None:
    """The cut of these axes, counted from the left or the right."""
    known = facts(source)
    if known.rank is None:
        return None
    crop, every = [(0, 0)] * known.rank, [1] * known.rank
    for axis, bounds in chosen.items():
        found = _cut(bounds, known, axis - known.rank if axis >= 0 else axis)
        if found is None:
            return None
        crop[axis], every[axis] = found
    if set(crop) == {(0, 0)} and set(every) == {1}:
        return Reading(Identity(), source)
    if any(pair != (0, 0) for pair in crop[:2]) or every[:2] != [1, 1]:
        return None
    return Reading(Cut(tuple(crop[2:]), tuple(every[2:])), source)


def _cut(bounds: Bounds, known: Facts, axis: int) -> tuple[tuple[int, int], int] | None:
    """((low, high) crop, step); None where a bound is computed, or hangs on a size that is not known."""
    start, stop, step = (0 if bounds[0] is None else bounds[0]), bounds[1], bounds[2] or 1
    stop = None if stop == sys.maxsize else stop
    if not all(isinstance(bound, int) for bound in (start, 0 if stop is None else stop, step)):
        return None
    size = known.size(axis)
    low = start if start >= 0 else None if size is None else max(size + start, 0)
    high = 0 if stop is None else -stop if stop < 0 else None if size is None else max(size - stop, 0)
    if low is None or high is None or (size is not None and low + high >= size):
        return None
    return (low, high), step


SPELLING = Spelling(
    read={operator.getitem: _read_subscript, aten.slice.Tensor: _read_slice, aten.narrow.default: _read_narrow}
)
