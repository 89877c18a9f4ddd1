"""What an operator of a graph computes, in a form that is equal for the same operator of another kind of graph.

kind       "conv2d", "relu", "add": what is computed, whoever wrote it down (Gemm, addmm and linear are "linear")
geometry   channels, window, stride, padding, dilation, groups of a convolution; the fields of another map
options    all other arguments of an operator of ATen, or of a layer of torch.nn; None where they are not known
weights    the constants, in the layout of the algebra: a kernel is [group, out, in, *window] in every graph
mark       a few digits of sums over the weights, equal for weights that are equal up to rounding
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from fusekit.algebra import Elementwise
from fusekit.comparing.side import Side
from fusekit.ir.read import read
from fusekit.ir.reading import bind

# operators of ONNX and of ATen that are one, where no map reads them
_ALIASES = {
    alias: name
    for name, aliases in {
        "cat": ("concat",),
        "linear": ("gemm", "addmm"),
        "maxpool2d": ("maxpool",),
        "avgpool2d": ("averagepool",),
        "adaptiveavgpool2d": ("globalaveragepool",),
        "mean": ("reducemean",),
        "upsample": ("resize",),
        "reshape": ("flatten", "view"),
        "permute": ("transpose",),
    }.items()
    for alias in aliases
}
ROUNDING = 1e-6  # relative difference of weights up to which they are the same


@dataclass(frozen=True, eq=False)
class Meaning:
    """What one operator computes; see above. `of`: how it is called, on which the spelling of the options depends.
    `weights` reads them from the graph, each time anew: what is read of a large model is not kept.
    """

    kind: str
    geometry: tuple[Any, ...]
    options: tuple[str, ...] | None
    of: str
    weights: Callable[[], tuple[Tensor, ...]]
    mark: tuple[str, ...]


def meanings(side: Side) -> dict[str, Meaning]:
    """The meaning of each operator of a model, by the id of its box."""
    return {name: _meaning(side, side.nodes[name]) for name in side.boxes}


def alike(first: Meaning, second: Meaning) -> bool:
    """Whether both compute the same but for their weights. What is not known of one of them is taken to be equal."""
    known_of_both = first.options is not None and second.options is not None and first.of == second.of
    same = (first.kind, first.geometry) == (second.kind, second.geometry)
    return same and (not known_of_both or first.options == second.options)


def apart(first: Meaning, second: Meaning) -> float:
    """The largest relative difference of their weights, ‖a − b‖ / ‖a‖; infinite if there are others."""
    ours, theirs = first.weights(), second.weights()
    if [tuple(w.shape) for w in ours] != [tuple(w.shape) for w in theirs]:
        return float("inf")
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if a is b or torch.equal(a, b):
            continue
        a, b = _wide(a), _wide(b)
        norm = float(torch.linalg.vector_norm(a))
        distance = float(torch.linalg.vector_norm(a - b))
        worst = max(worst, distance / norm if norm else distance if distance else 0.0)
    return worst


def _meaning(side: Side, node: fx.Node) -> Meaning:
    meaning, weights = _read(side, node)
    return replace(meaning, mark=tuple(map(_mark, weights)))


def _read(side: Side, node: fx.Node) -> tuple[Meaning, tuple[Tensor, ...]]:
    """The meaning without its mark, and the weights."""
    box = side.boxes[node.name]
    reading = read(side.graph, node)
    value = None if reading is None else reading.known
    conv = None if value is None else value.plain()
    geometry: tuple[Any, ...] = (box.channels, box.window, box.stride, box.padding, box.dilation, box.groups)
    if conv is not None:
        kind = "linear" if conv.n == 0 else f"conv{'transpose' if conv.transposed else ''}{conv.n}d"
        weights = tuple(conv.constants())
    elif value is not None and not isinstance(value, Elementwise):
        name = type(value).__name__.lower()
        kind, weights = _ALIASES.get(name, name), tuple(value.constants())
        geometry = () if kind == "reshape" else (value.describe(),)
    else:
        kind, weights, geometry = _spelled(node, box.operator), tuple(_constants(side, node)), ()
    weights = tuple(each.detach() for each in weights)
    options = _options(side, node) if value is None or isinstance(value, Elementwise) else None
    return Meaning(kind, geometry, options, node.op, lambda: _read(side, node)[1], ()), weights


def _options(side: Side, node: fx.Node) -> tuple[str, ...] | None:
    """The arguments of an operator of ATen that are no tensors, with its defaults, or of a layer; each as text."""
    if node.op == "call_module":
        told = side.graph.modules[str(node.target)].extra_repr()
        return tuple(each for each in re.split(r", (?=\w+=)", told) if each and not each.startswith("inplace"))
    given = bind(node)
    if not given:
        return None
    plain = {name: value for name, value in given.items() if not _holds_nodes(value)}
    return tuple(f"{name}={_number(value)}" for name, value in sorted(plain.items()))


def _holds_nodes(value: Any) -> bool:
    return isinstance(value, fx.Node) or (isinstance(value, list | tuple) and any(map(_holds_nodes, value)))


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) else value


def _spelled(node: fx.Node, operator: str) -> str:
    """The name of an operator without case and underscores: that of ATen where the graph has one."""
    name = node.target._schema.name.split("::")[1] if isinstance(node.target, torch._ops.OpOverload) else operator
    name = name.replace("_", "").lower()
    return _ALIASES.get(name, name)


def _constants(side: Side, node: fx.Node) -> list[Tensor]:
    if node.op == "call_module":
        return list(side.graph.modules[str(node.target)].parameters())
    found = (side.graph.constant(each) for each in node.all_input_nodes)
    return [value for value in found if value is not None]


def _mark(weight: Tensor) -> str:
    """The norm, and a sum with the cosines of the places as weights, so that the order counts."""
    wide = _wide(weight).reshape(-1)
    if not wide.numel():
        return "0"
    sizes = "x".join(map(str, weight.shape))
    norm = float(torch.linalg.vector_norm(wide))
    waves = torch.cos(torch.arange(wide.numel(), dtype=torch.float64) + 0.5)
    along = float(wide @ waves) / norm if norm else 0.0
    return f"{sizes} {norm:.4e} {along:.3f}"


def _wide(weight: Tensor) -> Tensor:
    if weight.is_complex():
        weight = torch.view_as_real(weight.resolve_conj())
    return weight.to(torch.float64)
