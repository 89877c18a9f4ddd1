"""Items assigned to the border of a padded tensor: a pad of another value.

    y = pad_0(x);  y[:, :, :1] = v        is y = pad_v ∘ pad_0'(x), the first row being padded with v, the rest with 0

Strips are taken one after the other, as they were written, so that the last one has the corners. A strip is a pad of
its own only where what it overwrites is known to be there: within the pad of zeros. All else stays an assignment.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from fusekit.algebra import Composition, Map, Pad, ValuePad
from fusekit.algebra.map import Pairs
from fusekit.ir import Graph, Known, known, note, where
from fusekit.ir.facts import facts
from fusekit.ir.read import read
from fusekit.ir.write import write
from fusekit.nn.functional.items import with_items

_ALL = slice(None)
Values = Callable[[fx.Node], Tensor | None]


@dataclass(frozen=True)
class _Strip:
    """The first or the last entries of an axis, counted from the right, and what is written there."""

    axis: int
    high: bool
    width: int
    value: float | Tensor


@dataclass(frozen=True)
class _Padded:
    """`pads`, innermost first, of what is left of a pad of zeros around `source`, on all axes behind the channels."""

    source: fx.Node
    dtype: torch.dtype | None
    zeros: Pairs
    pads: tuple[ValuePad, ...] = ()

    def written(self, strip: _Strip) -> "_Padded | None":
        """With a strip on top; None where it reaches beyond the zeros that are left, or what was written is hidden."""
        n = len(self.zeros)
        side = int(strip.high)
        if any(pad.padding[strip.axis][side] for pad in self.pads) or self.zeros[strip.axis][side] < strip.width:
            return None
        zeros, pad = [list(pair) for pair in self.zeros], [[0, 0] for _ in range(n)]
        zeros[strip.axis][side] -= strip.width
        pad[strip.axis][side] = strip.width
        new = ValuePad(_pairs(pad), strip.value)
        left = replace(self, zeros=_pairs(zeros))
        if self.pads and _same(self.pads[-1].value, strip.value):
            last = self.pads[-1]
            both = ((a + c, b + d) for (a, b), (c, d) in zip(last.padding, new.padding, strict=True))
            return replace(left, pads=(*self.pads[:-1], replace(last, padding=tuple(both))))
        return replace(left, pads=(*self.pads, new))

    @property
    def map(self) -> Composition:
        zeros: tuple[Map, ...] = (Pad(self.zeros),) if any(map(any, self.zeros)) else ()
        return Composition((*self.pads[::-1], *zeros))


def write_items_as_pads(graph: Graph, values: Values) -> None:
    """Where strips of constants are assigned to a tensor that was padded with zeros, pad with them. `values`: the value
    at a node of a constant, as precisely as it is known."""
    found: dict[fx.Node, _Padded] = {}
    for node in list(graph.nodes):
        if node.target is not with_items:
            continue
        base: Any = node.args[0]
        padded = found.get(base) or _padded(graph, base)
        strip = None if padded is None else _strip(node, padded, values)
        written = None if padded is None or strip is None else padded.written(strip)
        if written is not None:
            found[node] = written
    for node, padded in found.items():
        if node.users and not all(user in found for user in node.users):
            with graph.fx.inserting_before(node):
                nodes = write(graph, padded.map, [padded.source], [where(node)])
            note(nodes[-1], known(node).of_tensor | Known(line=known(node).line))
            node.replace_all_uses_with(nodes[-1])
    bases = {node.args[0] for node in found}
    graph.erase_dead([node for node in graph.nodes if node in found or node in bases])


def is_of_constants(graph: Graph, node: fx.Node) -> bool:
    """Whether a node assigns a tensor that the model has computed from its parameters alone."""
    return node.target is with_items and graph.constant(node.args[2]) is not None


def _padded(graph: Graph, node: fx.Node) -> _Padded | None:
    reading, rank = read(graph, node), facts(node).rank
    if reading is None or not isinstance(reading.known, Pad) or rank is None or rank < 3:
        return None
    pad = reading.known
    if any(low < 0 or high < 0 for low, high in pad.padding) or len(pad.padding) > rank - 2:
        return None
    return _Padded(reading.source, facts(node).dtype, (*((0, 0),) * (rank - 2 - len(pad.padding)), *pad.padding))


def _strip(node: fx.Node, padded: _Padded, values: Values) -> _Strip | None:
    _, index, given = node.args
    n = len(padded.zeros)
    if isinstance(given, fx.Node) and facts(given).dtype != padded.dtype:
        return None
    slices = list(_slices(index, n + 2))
    chosen = [(axis, each) for axis, each in enumerate(slices) if each != _ALL]
    if len(slices) != n + 2 or len(chosen) != 1 or chosen[0][0] < 2:
        return None
    axis, each = chosen[0]
    bounds = _bounds(each)
    value = None if bounds is None else _value(given, n + 2, axis if isinstance(each, int) else None, values)
    if bounds is None or value is None:
        return None
    high, width = bounds
    return _Strip(axis - (n + 2), high, width, value)


def _slices(index: Any, rank: int) -> Iterator[Any]:
    """One for each axis; another number of them where the index is none of slices and whole numbers."""
    index = index if isinstance(index, tuple) else (index,)
    if not all(each is Ellipsis or isinstance(each, slice | int) for each in index) or index.count(Ellipsis) > 1:
        return
    index = index if Ellipsis in index else (*index, Ellipsis)
    for each in index:
        yield from [_ALL] * (rank - len(index) + 1) if each is Ellipsis else [_plain(each)]


def _plain(each: Any) -> Any:
    """A slice that is all of an axis as `slice(None)`, however it is written."""
    return (
        _ALL if isinstance(each, slice) and each in (slice(0, None), slice(None, None, 1), slice(0, None, 1)) else each
    )


def _bounds(each: Any) -> tuple[bool, int] | None:
    """(whether it is the end, width) of a strip at one end of an axis; None for any other slice."""
    if isinstance(each, bool):
        return None
    if isinstance(each, int):
        return (False, 1) if each == 0 else (True, 1) if each == -1 else None
    start, stop = each.start or 0, each.stop
    if each.step not in (None, 1) or not isinstance(start, int) or not isinstance(stop, int | None):
        return None
    if start == 0 and stop is not None and stop > 0:
        return False, stop
    return (True, -start) if start < 0 and stop is None else None


def _value(given: Any, rank: int, dropped: int | None, values: Values) -> float | Tensor | None:
    """What is written, one number or one for each channel; None if it differs from place to place, or is not known."""
    if isinstance(given, int | float):
        return float(given)
    tensor = values(given) if isinstance(given, fx.Node) else None
    if tensor is None or not tensor.is_floating_point():
        return None
    tensor = tensor.detach()
    shape = [1] * (rank - (dropped is not None) - tensor.ndim) + list(tensor.shape)
    if len(shape) > rank - (dropped is not None):
        return None
    if dropped is not None:
        shape.insert(dropped, 1)
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        return None
    return tensor.flatten() if shape[1] > 1 else float(tensor)


def _same(one: float | Tensor, other: float | Tensor) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and one == other


def _pairs(sides: list[list[int]]) -> Pairs:
    return tuple((low, high) for low, high in sides)
