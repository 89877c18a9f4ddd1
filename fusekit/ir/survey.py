"""The size of the program of a graph, and a drawing of it, in one pass, because reading a node takes time."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import fx

from fusekit.algebra import Conv, Identity, Map
from fusekit.ir.facts import Known, known, note, origins_of, where
from fusekit.ir.graph import Graph, operator_name
from fusekit.ir.read import read
from fusekit.ir.receptive_field import Field, follow
from fusekit.nn import ShapeGuard
from fusekit.report import Box, Drawing, Totals

_OF_PYTHON = ("_operator", "builtins", "math")  # modules of functions that compute with sizes
_SIZES = {torch.ops.aten.sym_size.int, torch._assert}


def mark(graph: Graph, prefix: str = "") -> None:
    """Note at each node that it stands for itself, under its name behind `prefix`. From here on, the nodes that replace
    it keep its name among their origins."""
    for node in graph.nodes:
        if node.op.startswith("call_"):
            note(node, Known(origins=(prefix + node.name,)))


def survey(graph: Graph, prefix: str = "") -> tuple[Totals, Drawing]:
    """(size, drawing) of the program. `prefix`: of the ids of the boxes.

    The size: operators that run, entries of parameters, and multiply-accumulates of convolutions and linear layers for
    the shapes of the example inputs. Identities, guards and questions for sizes do not count as operators and are not
    drawn.
    """
    tensors = {id(t): t for t in graph.constants.values() if t.is_floating_point() or t.is_complex()}
    for module in graph.modules.values():
        tensors |= {id(p): p for p in module.parameters()}
    boxes: list[Box] = []
    shown: dict[fx.Node, tuple[str, ...]] = {}  # the ids of the boxes that a node's value comes from
    sizes: set[fx.Node] = set()
    fields: dict[fx.Node, Field | None] = {}
    macs: int | None = 0
    hidden = 0
    for node in graph.nodes:
        reading = read(graph, node)
        value = None if reading is None else reading.known
        follow(graph, node, reading, fields)
        sources = tuple(dict.fromkeys(name for n in node.all_input_nodes for name in shown.get(n, ())))
        if node.op == "get_attr" or _is_size(graph, node, sizes):
            sizes |= set() if node.op == "get_attr" else {node}
            continue
        if isinstance(value, Identity) or operator_name(node) == "getitem":
            shown[node] = sources
            hidden += isinstance(value, Identity)
            continue
        cost: int | None = 0
        if reading is not None and value is not None and value.is_weighted():
            shape = known(reading.source).shape
            cost = None if shape is None else value.macs(shape)
            macs = None if macs is None or cost is None else macs + cost
        shown[node] = (prefix + node.name,)
        boxes.append(_box(graph, node, prefix + node.name, sources, value, cost, fields.get(node)))
    operators = sum(box.operator not in ("input", "output") for box in boxes)
    return Totals(operators, sum(t.numel() for t in tensors.values()), macs), Drawing(tuple(boxes), hidden)


def _box(
    graph: Graph,
    node: fx.Node,
    name: str,
    sources: tuple[str, ...],
    value: Map | None,
    macs: int | None,
    f: Field | None,
) -> Box:
    box = Box(
        name,
        _operator(graph, node),
        "" if node.op in ("placeholder", "output") else where(node),
        sources,
        origins_of([node]),
        known(node).shape,
        macs=macs,
        parameters=_entries(graph, node) if value is None else sum(each.numel() for each in value.constants()),
        field=None if f is None else f.extent,
    )
    conv: Conv | None = None if value is None else value.plain()
    if conv is None:
        return box
    return replace(
        box,
        channels=(conv.in_channels, conv.out_channels),
        window=conv.window,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
    )


def _operator(graph: Graph, node: fx.Node) -> str:
    if node.op in ("placeholder", "output"):
        return "input" if node.op == "placeholder" else "output"
    if known(node).operator:
        return known(node).operator
    if node.op == "call_module":
        return type(graph.modules[str(node.target)]).__name__
    return operator_name(node)


def _entries(graph: Graph, node: fx.Node) -> int:
    """Entries of the parameters that an operator reads, if it does not read as a map."""
    if node.op == "call_module":
        return sum(each.numel() for each in graph.modules[str(node.target)].parameters())
    return sum(value.numel() for value in _constants(graph, node.all_input_nodes))


def _constants(graph: Graph, nodes: Iterable[fx.Node]) -> Iterable[torch.Tensor]:
    return (value for node in nodes if (value := graph.constant(node)) is not None)


def _is_size(graph: Graph, node: fx.Node, sizes: set[fx.Node]) -> bool:
    """Whether the node asks for a size, computes with sizes, or checks them."""
    if node.op == "call_method":
        return node.target in ("size", "dim")
    if node.op == "call_module":
        return isinstance(graph.modules[str(node.target)], ShapeGuard)
    if node.op != "call_function":
        return False
    if node.target in _SIZES:
        return True
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim", "dtype", "device")
    of_python = getattr(node.target, "__module__", "") in _OF_PYTHON
    return of_python and all(source in sizes for source in node.all_input_nodes)
