"""Converts regions of a network to torch's memory format channels_last, where torch computes them faster that way.

A region is a connected set of operators that keep the memory format of their input: 2d convolutions, pointwise
operators, operators on each channel, pools, sums, concatenations. Its inputs are converted once on entry and its
results once on exit, so the code outside sees no difference. The region is timed as a whole in both formats, because a
format that is faster for one convolution is often not worth the conversions around it. Only the order of the numbers in
memory changes; a check makes sure that the region still computes the same numbers.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.fx.node import map_arg

from fusekit.algebra import Affine, AvgPool, Conv, GlobalMean, Identity
from fusekit.algebra.layout import channels_first, channels_last
from fusekit.ir import Graph, Known, known, note, where
from fusekit.ir.emit import emit
from fusekit.ir.facts import facts
from fusekit.ir.read import read
from fusekit.ir.spellings.elementwise import read_activation
from fusekit.model import Inputs
from fusekit.optimizing.race import Clock
from fusekit.report import Event, Outcome
from fusekit.rewriting import MARGIN, relative_error

NAME = "channels-last"
_AGREE = 1e-4  # allowed difference of two kernels' float32 results; a wrong graph has an error near 1

aten = torch.ops.aten
_JOINTS = {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.cat.default}
_POOLS = {
    *(aten.max_pool2d.default, aten.avg_pool2d.default, aten.constant_pad_nd.default),
    *(aten.upsample_nearest2d.vec, aten.upsample_bilinear2d.vec),
}
_CONVERSIONS = (channels_last, channels_first)
_LAYERS = (nn.MaxPool2d, nn.AvgPool2d, nn.Upsample, nn.Dropout, nn.Dropout2d, nn.BatchNorm2d, nn.ZeroPad2d)


@dataclass
class Plane:
    """A region: its nodes in order, with its inputs (`sources`) and outputs (`results`)."""

    nodes: list[fx.Node] = field(default_factory=list)

    @property
    def sources(self) -> list[fx.Node]:
        """The values that the region reads from outside, without constants."""
        inside = set(self.nodes)
        read = (s for node in self.nodes for s in node.all_input_nodes if s not in inside and s.op != "get_attr")
        return list(dict.fromkeys(read))

    @property
    def results(self) -> list[fx.Node]:
        """The nodes whose values are read outside the region."""
        return [node for node in self.nodes if self.readers(node)]

    def readers(self, node: fx.Node) -> list[fx.Node]:
        """The nodes outside that read the values of a node. Nodes that only ask for its sizes do not count, because
        these are the same in any memory format."""
        inside = set(self.nodes)
        return [user for user in node.users if user not in inside and not _asks_for_sizes(user)]


def relay(graph: Graph, clock: Clock, vetoed: Iterable[tuple[str, str]] = ()) -> list[Event]:
    """Convert the regions that are faster with channels last, in place. Returns one event for each region."""
    events = []
    for plane in planes(graph):
        place = f"{where(plane.nodes[0])} ... {where(plane.nodes[-1])}"
        if (NAME, place) in vetoed:
            events.append(Event(NAME, place, Outcome.REFUSED, reason="the whole model was slower with it"))
            continue
        events.append(_decide(graph, plane, place, clock))
    return events


def planes(graph: Graph) -> list[Plane]:
    """The regions of the graph that hold at least one convolution and whose shapes are known."""
    found: dict[fx.Node, Plane] = {}
    for node in graph.nodes:
        if not _keeps_layout(graph, node):
            continue
        plane = Plane()
        for source in node.all_input_nodes:
            other = found.get(source)
            if other is not None and other is not plane:
                plane, other = (plane, other) if len(plane.nodes) >= len(other.nodes) else (other, plane)
                plane.nodes += other.nodes
                found.update(dict.fromkeys(other.nodes, plane))
        plane.nodes.append(node)
        found[node] = plane
    order = {node: number for number, node in enumerate(graph.nodes)}
    distinct = list({id(plane): plane for plane in found.values()}.values())
    for plane in distinct:
        plane.nodes.sort(key=order.__getitem__)
    usable = [plane for plane in distinct if any(_is_conv(graph, node) for node in plane.nodes)]
    return sorted(usable, key=lambda plane: order[plane.nodes[0]])


def _asks_for_sizes(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.target is aten.sym_size.int or (node.target is getattr and node.args[1] in ("shape", "ndim", "dtype"))


def _is_conv(graph: Graph, node: fx.Node) -> bool:
    reading = read(graph, node)
    return reading is not None and isinstance(reading.map, Conv) and reading.map.n == 2


def _keeps_layout(graph: Graph, node: fx.Node) -> bool:
    """Whether a node of known shape [B, C, H, W] gives its result in the memory format of its inputs, and overwrites
    none of them."""
    if node.op not in ("call_function", "call_module") or len(known(node).shape or ()) != 4:
        return False
    if any(len(known(s).shape or ()) != 4 for s in node.all_input_nodes if s.op != "get_attr"):
        return False
    if node.op == "call_module":
        module = graph.modules[str(node.target)]
        if module._forward_hooks or module._forward_pre_hooks:
            return False
        return read_activation(graph, node) is not None or (type(module) in _LAYERS)
    if node.target in _JOINTS or node.target in _POOLS or node.target in _CONVERSIONS:
        return True
    reading = read(graph, node)
    return read_activation(graph, node) is not None or (
        reading is not None and isinstance(reading.map, Conv | Affine | AvgPool | GlobalMean | Identity)
    )


def _decide(graph: Graph, plane: Plane, place: str, clock: Clock) -> Event:
    sources = plane.sources
    dtype = next((d for s in sources if (d := facts(s).dtype) is not None), torch.float32)
    device = next((c.device for c in graph.constants.values()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    shapes = (known(source).shape or () for source in sources)
    inputs = Inputs(tuple(torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes))
    modules: dict[str, Callable[[], nn.Module]] = {
        "as it is": lambda: _module_of(graph, plane, last=False),
        "channels last": lambda: _module_of(graph, plane, last=True),
    }
    times = clock.race({"region": _fingerprint(graph, plane)}, modules, inputs)
    if times is None:
        return Event(NAME, place, Outcome.REFUSED, reason="it could not be measured")
    both = (times["as it is"], times["channels last"])
    if both[1] >= MARGIN * both[0]:
        return Event(NAME, place, Outcome.REFUSED, reason="not clearly faster", times=both)
    with torch.no_grad():
        expected, given = (inputs.call(make()) for make in modules.values())
    error = max(relative_error(ours.double(), theirs.double()) for ours, theirs in zip(given, expected, strict=True))
    if not error <= _AGREE:
        reason = "the converted region computes other values"
        return Event(NAME, place, Outcome.REJECTED, error=error, reason=reason, times=both)
    _lay_out(graph, plane)
    return Event(NAME, place, Outcome.APPLIED, error=error, times=both, realizes=True)


def _lay_out(graph: Graph, plane: Plane) -> None:
    """Insert conversions where values enter and leave the region, convert its weights, remove conversions inside."""
    for node in [node for node in plane.nodes if node.target in _CONVERSIONS]:
        source = node.all_input_nodes[0]
        node.replace_all_uses_with(source)
        graph.fx.erase_node(node)
        plane.nodes.remove(node)
    inside = set(plane.nodes)
    results = plane.results
    for source in plane.sources:
        first = next(node for node in plane.nodes if source in node.all_input_nodes)
        with graph.fx.inserting_before(first):
            converted = _called(graph, channels_last, source)
        for user in [user for user in source.users if user in inside]:
            user.replace_input_with(source, converted)
    for node in results:
        outside = plane.readers(node)
        with graph.fx.inserting_after(node):
            converted = _called(graph, channels_first, node)
        for user in outside:
            user.replace_input_with(node, converted)
    for node in plane.nodes:
        if _is_conv(graph, node) and (weight := node.all_input_nodes[1]).op == "get_attr":
            value = graph.constants[str(weight.target)]
            laid = channels_last(value.detach())
            kept = nn.Parameter(laid) if isinstance(value, nn.Parameter) else laid
            graph.constants[str(weight.target)] = kept.requires_grad_(value.requires_grad)


def _called(graph: Graph, function: Callable[..., object], source: fx.Node) -> fx.Node:
    node = graph.fx.call_function(function, (source,))
    note(node, known(source).of_tensor | Known(where=known(source).where))
    return node


def _module_of(graph: Graph, plane: Plane, *, last: bool) -> nn.Module:
    """The region as a separate module, which shares constants and modules with the graph. `last`: convert it to
    channels last."""
    copied = Graph(fx.Graph(), dict(graph.constants), dict(graph.modules), "Region")
    nodes: dict[fx.Node, fx.Node] = {}
    for number, source in enumerate(plane.sources):
        nodes[source] = copied.fx.placeholder(f"x{number}")
        note(nodes[source], known(source))
    results = plane.results
    for node in plane.nodes:
        for source in node.all_input_nodes:
            if source not in nodes:
                nodes[source] = copied.fx.node_copy(source)
        nodes[node] = copied.fx.node_copy(node, nodes.__getitem__)
    copied.fx.output(tuple(nodes[node] for node in results))
    copied.prune()
    if last:
        _lay_out(copied, Plane([nodes[node] for node in plane.nodes]))
    return emit(copied)


def _fingerprint(graph: Graph, plane: Plane) -> str:
    """A hash of the region's operators, arguments and shapes, without the values of its weights."""
    order = {node: number for number, node in enumerate((*plane.sources, *plane.nodes))}

    def spelled(node: fx.Node) -> str:
        if node in order:
            return f"%{order[node]}"
        value = graph.constant(node)
        return "?" if value is None else f"{value.dtype}{list(value.shape)}"

    lines = [str(known(source).shape) for source in plane.sources]
    for node in plane.nodes:
        target = type(graph.modules[str(node.target)]).__name__ if node.op == "call_module" else str(node.target)
        arguments = map_arg((node.args, node.kwargs), spelled)
        lines.append(f"{target}{arguments}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
