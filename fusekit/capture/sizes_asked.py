"""Sizes asked of a tensor that its source answers as well.

    y = conv(x):   y.shape[0] = x.shape[0]   y.shape[1] = 8   y.shape[-1] = (x.shape[-1] + 2 - 3) // 2 + 1

for every map that says which sizes it makes. A size read between a convolution and its batch norm would otherwise keep
the convolution's own output alive, and the batch norm could not fold into it. What has to be computed anew is asked of
the source only where that frees the tensor for a fold.

Axes counted from the right mean the same for an image with a batch and for one without. Those counted from the left do
not: then callers are held to the number of axes that was taken for granted, unless a layer of the model insists on it.
"""

from dataclasses import dataclass
from typing import Any, cast

from torch import fx

from fusekit.algebra import Map, Shape
from fusekit.algebra.counts import Count, TooLong
from fusekit.capture.infer import insists_on_rank
from fusekit.capture.numbers import Numbers
from fusekit.capture.queries import SAME_RANK
from fusekit.capture.written_numbers import Writer, erase_unread
from fusekit.ir import Graph, Known, note
from fusekit.ir.facts import facts, start_afresh
from fusekit.ir.read import read
from fusekit.nn import ShapeGuard


@dataclass(frozen=True)
class _Size:
    """The size of a tensor of `rank` axes along one of them, counted from the right."""

    tensor: fx.Node
    axis: int
    rank: int


def ask_sources_for_sizes(graph: Graph) -> None:
    """Let questions about single sizes be answered by the earliest tensor that can."""
    numbers = Numbers()
    for node in graph.nodes:
        numbers.see(node)
    questions = [*numbers.of, *numbers.sizes]
    ranks: dict[fx.Node, int] = {}
    for node, number in numbers.of.items():
        size = _size_read(number.count.size_key() if number.count is not None else None)
        answer = None if size is None else _answer(graph, size[0], set(questions))
        if size is None or answer is None:
            continue
        if size[1] and not any(insists_on_rank(each) for each in (size[0].tensor, *size[0].tensor.users)):
            ranks[_earliest_of_rank(graph, answer[1].tensor)] = answer[1].rank
        with graph.fx.inserting_before(node):
            written = Writer(graph, lambda key: _written(graph, key)).write(answer[0])
        for user in list(node.users):
            user.replace_input_with(node, written)
    erase_unread(graph, questions)
    for tensor, rank in ranks.items():
        _hold_to_rank(graph, tensor, rank)


def _size_read(key: Any) -> tuple[_Size, bool] | None:
    """The size that goes by a key, and whether its axis was counted from the left; None if its axes are not known."""
    if not isinstance(key, tuple):
        return None
    tensor, axis = key
    rank = facts(tensor).rank
    if rank is None or not -rank <= axis < rank:
        return None
    return _Size(tensor, axis - rank if axis >= 0 else axis, rank), axis >= 0


def _answer(graph: Graph, size: _Size, questions: set[fx.Node]) -> tuple[Count, _Size] | None:
    """The size as a count of earlier ones, and the last that was asked; None if its own tensor has to answer."""
    asked, count = size, None
    while (step := _step(graph, asked)) is not None:
        made, source = step
        if made.size_key() is None and made.constant is None and not _frees(graph, asked.tensor, questions):
            break
        asked, count = source, made
        if made.size_key() is None:
            break
        asked = cast(_Size, made.size_key())
    return None if count is None else (count, asked)


def _step(graph: Graph, size: _Size) -> tuple[Count, _Size] | None:
    """The size by those of the tensor that its own is a map of, and one of these."""
    reading = read(graph, size.tensor)
    if reading is None or reading.known is None:
        return None
    rank = size.rank if isinstance(reading.known, SAME_RANK) else facts(reading.source).rank
    if rank is None:
        return None
    given = tuple(_Size(reading.source, axis, rank) for axis in range(-rank, 0))
    try:
        made = _made(reading.known, tuple(map(Count.size, given)))
    except (TypeError, ValueError, IndexError, TooLong):  # it decides by them
        return None
    if len(made) != size.rank:
        return None
    found = made[size.axis]
    return (found if isinstance(found, Count) else Count.of(found)), given[-1]


def _made(value: Map, sizes: tuple[Count, ...]) -> tuple[Count | int, ...]:
    """The formula of the map, which only adds, multiplies and divides."""
    return cast(tuple[Count | int, ...], value.output_shape(cast(Shape, sizes)))


def _frees(graph: Graph, tensor: fx.Node, questions: set[fx.Node]) -> bool:
    """Whether one map is all that reads the tensor, but for questions."""
    readers = [user for user in tensor.users if user not in questions]
    return len(readers) == 1 and read(graph, readers[0]) is not None


def _earliest_of_rank(graph: Graph, tensor: fx.Node) -> fx.Node:
    """The first tensor with as many axes. A check of a later one would keep that alive, and nothing fold across it."""
    while (reading := read(graph, tensor)) is not None and any(reading.is_a(kind) for kind in SAME_RANK):
        tensor = reading.source
    return tensor


def _written(graph: Graph, size: _Size) -> fx.Node:
    node = graph.fx.call_method("size", (size.tensor, size.axis))
    start_afresh(node)
    return node


def _hold_to_rank(graph: Graph, tensor: fx.Node, rank: int) -> None:
    path = f"rank_of_{tensor.name}"
    graph.modules[path] = ShapeGuard([tensor.name], [f"{tensor.name}.dim() == {rank}"])
    with graph.fx.inserting_after(tensor):
        note(graph.fx.call_module(path, (tensor,)), Known(where=path))
