"""Finds regions that split a tensor along its channels, compute with the parts, and join the results again.

Such a region ends in a concatenation of sums of linear maps of parts. Multiplied out, it is one sum over paths from its
sources. Each path is a chain of linear maps: it starts with the selection of some channels and ends with the placement
of its result among the output channels. Biases and shifts must count once: in a sum, only the path through the first
term keeps the shifts of the maps applied after the sum.
"""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import Any

import torch
from torch import fx

from fusekit.algebra import Affine, Combination, Composition, Conv, Elementwise, Identity, Map, Selection, Term
from fusekit.ir import Graph, known
from fusekit.ir.facts import facts
from fusekit.ir.joins import Branch, concatenated
from fusekit.ir.read import read
from fusekit.ir.reading import bind
from fusekit.ir.spellings.elementwise import read_activation
from fusekit.rewriting.pattern import Match

aten = torch.ops.aten
MANY = 64  # give up if there are more paths than this, or more steps on one path


@dataclass(frozen=True)
class Part:
    """The channels [start, start + width) of `whole` along `axis`. `cut`: the split or chunk node, if one made several
    parts at once."""

    whole: fx.Node
    axis: int
    start: int
    width: int
    cut: fx.Node | None = None


def part_of(node: fx.Node) -> Part | None:
    """The part that a node (slice, narrow, indexing, an output of split or chunk) takes of a tensor; None for another
    node, or if the size of the tensor along the axis is unknown."""
    if node.target in (aten.slice.Tensor, aten.narrow.default):
        return _sliced(node)
    if node.target is not operator.getitem or not isinstance(node.args[0], fx.Node):
        return None
    cut: Any = node.args[0]
    index: Any = node.args[1]
    if isinstance(index, tuple):
        return _indexed(cut, index)
    sizes = _sizes(cut)
    if sizes is None or not isinstance(index, int):
        return None
    index %= len(sizes[1])
    return Part(bind(cut)["self"], sizes[0], sum(sizes[1][:index]), sizes[1][index], cut)


def _sizes(cut: fx.Node) -> tuple[int, list[int]] | None:
    """(axis, sizes) of the parts of a split or chunk, the axis counted from the right; None if not known."""
    if cut.target not in (aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default):
        return None
    a = bind(cut)
    known = facts(a["self"])
    if known.rank is None:
        return None
    axis = a["dim"] if a["dim"] < 0 else a["dim"] - known.rank
    total = known.size(axis)
    if cut.target is aten.split_with_sizes.default:
        sizes = a["split_sizes"]
        return (axis, list(sizes)) if all(isinstance(size, int) for size in sizes) else None
    if not total or not isinstance(a.get("split_size", 0), int):
        return None
    size = a["split_size"] if "split_size" in a else -(-total // a["chunks"])
    return (axis, [min(size, total - start) for start in range(0, total, size)]) if size else None


def _sliced(node: fx.Node) -> Part | None:
    a = bind(node)
    if a.get("step", 1) != 1 or not isinstance(a["dim"], int):
        return None
    start, end = a["start"] or 0, a.get("end")
    if "length" in a:
        end = start + a["length"] if isinstance(start, int) and isinstance(a["length"], int) else start
    return _range(a["self"], a["dim"], start, end)


def _indexed(whole: fx.Node, index: tuple[Any, ...]) -> Part | None:
    """The part x[..., a:b, :]: a range along one axis, and all of the others."""
    everything = slice(None)
    if any(i is not Ellipsis and not isinstance(i, slice) for i in index) or index.count(Ellipsis) > 1:
        return None
    chosen = [place for place, i in enumerate(index) if i is not Ellipsis and i != everything]
    if len(chosen) != 1 or index[chosen[0]].step not in (None, 1):
        return None
    behind = Ellipsis in index and index.index(Ellipsis) < chosen[0]
    dim = chosen[0] - len(index) if behind else chosen[0]
    return _range(whole, dim, index[chosen[0]].start or 0, index[chosen[0]].stop)


def _range(whole: fx.Node, dim: int, start: Any, end: Any) -> Part | None:
    known = facts(whole)
    axis = dim if dim < 0 or known.rank is None else dim - known.rank
    total = known.size(axis) if axis < 0 else None
    end = total if end is None else end
    if total is None or not isinstance(start, int) or not isinstance(end, int):
        return None
    start, end = (max(0, min(total, bound + total if bound < 0 else bound)) for bound in (start, end))
    return Part(whole, axis, start, end - start) if end > start else None


@dataclass(frozen=True)
class Step:
    """One node on a path: `node` applies `map` to `source`, which is its operand number `operand`."""

    node: fx.Node
    map: Map
    source: fx.Node
    operand: int = 0


Path = tuple[Step, ...]  # outermost first


@dataclass(frozen=True)
class PartsOf:
    """A concatenation of sums of linear maps of parts. Either all parts are of one tensor, or there are two source
    tensors and every part of the output depends on both.

    `behind_layers`: match only if every path starts with a convolution and no later map mixes channels.
    """

    behind_layers: bool = False

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        axis = _axis_of(graph, output)
        if axis is None:
            return None
        device = next((t.device for t in graph.constants.values()), torch.device("cpu"))
        paths = list(islice(_walk(graph, output, (), axis, device), MANY + 1))
        if not 2 <= len(paths) <= MANY:
            return None
        common = _one_source(paths)
        if common is not None:
            paths = _until(paths, [common] * len(paths))
            if not any(isinstance(s.map, Selection) and not s.map.places for path in paths for s in path):
                return None
            paths = _before(graph, common, paths)
        else:
            paths = _several_sources(paths)
        if self.behind_layers and not all(_is_layer_first(path) for path in paths):
            return None
        return _match(paths, output) if paths else None

    def __str__(self) -> str:
        return "Σ place ∘ affine ∘ select ∘ Conv" if self.behind_layers else "Σ place ∘ map ∘ select"


class AlikeParts:
    """A concatenation of parts of one tensor, with the same activation applied to each part."""

    def match(self, graph: Graph, output: fx.Node) -> Match | None:
        found = concatenated(graph, output)
        read = [read_activation(graph, part) for part in found[0]] if found is not None else []
        if found is None or len(read) < 2 or None in read:
            return None
        activations, sources = zip(*read, strict=True)
        if len(set(sources)) < len(sources) or any(_spelled(a) != _spelled(activations[0]) for a in activations):
            return None
        axis = found[1]
        placed = _placed(output, sources, axis, "cpu")
        walks = (path for step in placed for path in _walk(graph, step.source, (step,), axis, "cpu"))
        paths = list(islice(walks, MANY + 1))
        if not paths or len(paths) > MANY or _one_source(paths) is None:
            return None
        terms = tuple(Term(k, Composition((a,))) for k, a in enumerate(activations))
        branches = [Branch(s, (n,), (a,)) for s, n, a in zip(sources, found[0], activations, strict=True)]
        return Match(tuple(sources), (*sorted(found[0]), output), (Combination(terms, axis),), tuple(branches))

    def __str__(self) -> str:
        return "concat(f, ..., f)"


def _spelled(value: Elementwise) -> tuple[Any, ...]:
    return value.function, value.arguments, tuple(value.options.items())


def _axis_of(graph: Graph, output: fx.Node) -> int | None:
    """The axis of the concatenation, counted from the right; None if the output is no concatenation."""
    found = concatenated(graph, output)
    return None if found is None else found[1]


def _walk(graph: Graph, node: fx.Node, outer: Path, axis: int, device: torch.device | str) -> Iterator[Path]:
    """Every path from a node back through linear maps. A path has at most three convolutions and `MANY` steps."""
    long = len(outer) >= MANY or sum(isinstance(step.map, Conv) for step in outer) > 2
    steps = [] if long else _joint(node, axis, device) or _linear_step(graph, node, axis, device)
    if not steps:
        yield outer
        return
    for number, step in enumerate(steps):
        behind = outer if number == 0 else tuple(replace(o, map=o.map.linear_part()) for o in outer)
        yield from _walk(graph, step.source, (*behind, step), axis, device)


def _joint(node: fx.Node, axis: int, device: torch.device | str) -> list[Step]:
    """One step for each term of a concatenation, a sum or a difference; empty for other nodes."""
    if node.target is aten.cat.default:
        a = bind(node)
        rank = facts(node).rank
        along = a["dim"] if a["dim"] < 0 or rank is None else a["dim"] - rank
        plain = along == axis and all(part.op != "get_attr" for part in a["tensors"])
        return _placed(node, a["tensors"], axis, device) if plain else []
    if node.target not in (aten.add.Tensor, aten.sub.Tensor) or node.kwargs or len(node.args) > 2:
        return []
    left, right = node.args
    if not (isinstance(left, fx.Node) and isinstance(right, fx.Node)) or "get_attr" in (left.op, right.op):
        return []
    shapes = [(known(n).shape, facts(n).rank, facts(n).size(axis)) for n in (left, right)]
    if shapes[0] != shapes[1] or shapes[0][1] is None:
        return []
    minus = torch.tensor(-1.0 if node.target is aten.sub.Tensor else 1.0, dtype=torch.float64, device=device)
    return [Step(node, Identity(), left), Step(node, Affine(minus, torch.zeros_like(minus), None), right, 1)]


def _placed(node: fx.Node, parts: Sequence[fx.Node], axis: int, device: torch.device | str) -> list[Step]:
    widths = [facts(part).size(axis) for part in parts]
    if None in widths:
        return []
    known = [width or 0 for width in widths]
    starts = accumulate(known, initial=0)
    return [
        Step(node, Selection(start, width, sum(known), -axis - 1, places=True, device=device), part, operand)
        for operand, (start, width, part) in enumerate(zip(starts, known, parts, strict=False))
    ]


def _linear_step(graph: Graph, node: fx.Node, axis: int, device: torch.device | str) -> list[Step]:
    part = part_of(node)
    if part is not None and part.axis == axis:
        total = facts(part.whole).size(axis) or 0
        return [Step(node, Selection(part.start, part.width, total, -axis - 1, device=device), part.whole)]
    reading = read(graph, node)
    if reading is None or not isinstance(reading.map, Affine | Conv | Identity):
        return []
    if isinstance(reading.map, Conv) and reading.map.channel_axis != axis:
        return []
    return [Step(node, reading.map, reading.source)]


def _one_source(paths: Sequence[Path]) -> fx.Node | None:
    """The value nearest to the output that is on all paths; None if there is none."""
    common = [{step.source for step in path} for path in paths]
    return next((step.source for step in paths[0] if all(step.source in nodes for nodes in common)), None)


def _until(paths: Sequence[Path], sources: Sequence[fx.Node]) -> list[Path]:
    """The paths, each cut at its source. Paths that differed only before the source become equal; the first of them is
    kept, because it has the shifts."""
    found: dict[tuple[tuple[fx.Node, int], ...], Path] = {}
    for path, source in zip(paths, sources, strict=True):
        cut = path[: 1 + next(k for k, step in enumerate(path) if step.source is source)]
        found.setdefault(tuple((step.node, step.operand) for step in cut), cut)
    return list(found.values())


def _before(graph: Graph, source: fx.Node, paths: list[Path]) -> list[Path]:
    """The paths, extended by the convolution that computes the source, if all convolutions on them are pointwise: these
    can be folded into it at no cost."""
    reading = read(graph, source)
    if reading is None or not isinstance(reading.map, Conv):
        return paths
    if not all(not isinstance(s.map, Conv) or s.map.is_pointwise() for path in paths for s in path):
        return paths
    return [(*path, Step(source, reading.map, reading.source)) for path in paths]


def _is_layer_first(path: Path) -> bool:
    """Whether the path starts with a convolution and no later map mixes channels."""
    return isinstance(path[-1].map, Conv) and not any(isinstance(step.map, Conv) for step in path[:-1])


def _several_sources(paths: list[Path]) -> list[Path]:
    """The paths cut at two source tensors, if every part of the output is computed by convolutions from both of them;
    empty otherwise."""
    feeds: dict[fx.Node, set[int]] = {}  # for each value, the parts of the output that depend on it
    for path in paths:
        for step in path:
            feeds.setdefault(step.source, set()).add(path[0].operand)
    nearest = [next((step.source for step in _from_layer(path) if len(feeds[step.source]) > 1), None) for path in paths]
    if None in nearest:
        return []
    ended = _until(paths, [source for source in nearest if source is not None])
    makes = {(path[0].operand, path[-1].source) for path in ended}
    sources = {path[-1].source for path in ended}
    parts = {path[0].operand for path in ended}
    return ended if len(makes) == len(sources) * len(parts) and len(sources) == 2 else []


def _from_layer(path: Path) -> Path:
    """The rest of the path from the convolution nearest to the output back to the source."""
    return path[next((k for k, step in enumerate(path) if isinstance(step.map, Conv)), len(path)) :]


def _match(paths: Sequence[Path], output: fx.Node) -> Match:
    sources = tuple(dict.fromkeys(path[-1].source for path in paths))
    branches = tuple(Branch(path[-1].source, tuple(s.node for s in path), tuple(s.map for s in path)) for path in paths)
    whole = Combination(tuple(Term(sources.index(b.source), Composition(b.maps)) for b in branches))
    nodes = {step.node for path in paths for step in path}
    cuts = {part.cut for node in nodes if (part := part_of(node)) is not None and part.cut is not None}
    return Match(sources, tuple(sorted(nodes | cuts)), (whole,), branches)
