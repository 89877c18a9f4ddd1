"""Narrows the ranges of channels, so that 8 bits hold them well. The function does not change.

    act(s x) = s act(x) for s > 0        ReLU, leaky ReLU, PReLU, max pool, average pool, pad by zeros, flatten

So the output channel c of a convolution may be divided by s_c, if its readers multiply their input channel c by s_c
(Nagel et al., Data-free quantization through weight equalization and bias correction, ICCV 2019). They take
s_c = sqrt(r1_c r2_c) / r2_c for the ranges r1 of the outputs' kernels and r2 of the inputs' kernels. Here

    log s_c = mean of  log r1_c of each producer,  log a_c of each activation,  -log r2_c of each reader

with each range relative to the largest one of its tensor. Without activations, of one producer and one reader, this is
the published formula, up to a common factor. It is repeated until nothing changes, because ranges depend on the scales
of neighbours.

Operands of a sum share their scales: channels are joined by union-find. A channel that something else reads, or that
leaves the network, keeps the scale 1, and the report says why.

This is not a pass: a scale has many readers, and no region of one input holds them. A copy of the graph is changed,
compared with the original in float64 on constants that are not rounded yet, and then it replaces the original.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from fusekit.algebra import Affine, Conv
from fusekit.ir import Facts, Graph, Known, evaluate, known, note, where
from fusekit.ir.write import write
from fusekit.model import Inputs
from fusekit.optimizing.shared_scales import Layer, SharedScales
from fusekit.report import Event, Outcome
from fusekit.validation.graphs_differ import distance, is_guard, outputs
from fusekit.validation.probes import guess_sizes, plan_probes

NAME = "equalize-channels"
TOLERANCE = 1e-10
_SWEEPS, _SETTLED = 200, 1e-4
_LARGEST = math.log(2.0**16)  # of a scale; a channel that needs more is as good as dead


@torch.no_grad()
def equalize_channels(graph: Graph, inputs: Inputs) -> list[Event]:
    """Narrow the ranges of channels in place. Returns one event for each layer that was scaled, and one for each reason
    why scales are 1."""
    found = SharedScales.of(graph)
    refused = [Event(NAME, place, Outcome.REFUSED, reason=reason) for place, reason in found.refused()]
    scales = balanced(found, _activations(graph, found, inputs))
    scaled = [layer for layer in found.layers if _differs(scales, layer)]
    if not scaled:
        nothing = Event(NAME, "model", Outcome.REFUSED, reason="no channel between two layers has a range to narrow")
        return refused or [nothing]
    place = " + ".join(where(layer.node) for layer in scaled)
    try:
        new, made = _rescaled(graph, scaled, scales)
        worst = max(
            distance(outputs(graph, given), outputs(new, given))
            for given in (inputs, *(probe.inputs for probe in plan_probes(inputs, *guess_sizes(inputs))))
        )
    except Exception as error:
        reason = f"the check failed to run ({type(error).__name__}: {error})"
        return [*refused, Event(NAME, place, Outcome.REJECTED, error=math.inf, reason=reason)]
    if not worst <= TOLERANCE:
        reason = f"float64 error {worst:.1e} exceeds {TOLERANCE:.0e}"
        return [*refused, Event(NAME, place, Outcome.REJECTED, error=worst, reason=reason)]
    if beyond := _round(graph, new, made):
        return [*refused, Event(NAME, place, Outcome.REFUSED, reason=beyond)]
    graph.fx, graph.constants = new.fx, new.constants
    graph.prune()
    return [*refused, *(_applied(layer, scales, worst) for layer in scaled)]


def balanced(found: SharedScales, activations: Mapping[fx.Node, Tensor]) -> Tensor:
    """The scale of each group of channels, in float64 [groups]; 1 for those that are fixed.

    `activations`: the largest absolute value of each input channel of a layer, [C], by the layer's node.
    """
    logs = torch.zeros(found.count, dtype=torch.float64)
    if not found.count:  # there is no channel
        return logs
    free = ~found.fixed
    views = [_View(layer, _largest_taps(layer.conv)) for layer in found.layers]
    for _ in range(_SWEEPS):
        total, producers, readers = (torch.zeros_like(logs) for _ in range(3))
        for view in views:
            ranges = view.matrix * _grouped(logs[view.layer.inputs].exp(), view.layer.conv.groups)[:, None, :]
            ranges = ranges / _grouped(logs[view.layer.outputs].exp(), view.layer.conv.groups)[:, :, None]
            _add(total, producers, view.layer.outputs, ranges.amax(2).flatten(), 1)
            _add(total, readers, view.layer.inputs, ranges.amax(1).flatten(), -1)
            if view.layer.node in activations:
                seen = activations[view.layer.node] / logs[view.layer.inputs].exp()
                _add(total, torch.zeros_like(logs), view.layer.inputs, seen, 1, counts=producers)
        moved = torch.where(
            free & (producers > 0) & (readers > 0), 0.5 * total / (producers + readers).clamp_min(1), 0.0
        )
        before = logs
        logs = (logs + moved).clamp(-_LARGEST, _LARGEST)
        if float((logs - before).abs().max()) < _SETTLED:
            break
    return logs.exp()


@dataclass(frozen=True)
class _View:
    """A layer and the largest absolute weight between each output and input, [group, out, in]."""

    layer: Layer
    matrix: Tensor


def _largest_taps(conv: Conv) -> Tensor:
    kernel = conv.kernel.detach().cpu().double().abs()
    return kernel.reshape(*kernel.shape[:3], -1).amax(3)


def _grouped(values: Tensor, groups: int) -> Tensor:
    return values.reshape(groups, -1)


def _add(total: Tensor, own: Tensor, groups: Tensor, ranges: Tensor, sign: int, counts: Tensor | None = None) -> None:
    """Add the logarithms of ranges, relative to the largest, to the totals of their groups. A range of 0 says
    nothing."""
    alive = ranges > 0
    if not bool(alive.any()):
        return
    logs = (ranges[alive] / ranges.max()).log()
    total.index_add_(0, groups[alive], sign * logs)
    counted = own if counts is None else counts
    counted.index_add_(0, groups[alive], torch.ones_like(logs))


def _activations(graph: Graph, found: SharedScales, inputs: Inputs) -> dict[fx.Node, Tensor]:
    """The largest absolute value of each input channel of each layer, on these inputs."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    own = inputs.cloned()
    given = {**dict(zip((str(n.target) for n in placeholders), own.args, strict=False)), **own.kwargs}
    values: dict[fx.Node, Any] = {n: given.get(str(n.target), (*n.args, None)[0]) for n in placeholders}
    values |= {node: None for node in graph.nodes if is_guard(graph, node)}
    evaluate(graph, [node for node in graph.nodes if node.op != "output"], values)
    ranges: dict[fx.Node, Tensor] = {}
    for layer in found.layers:
        value = values[layer.source].detach().cpu().double().abs()
        kept = layer.conv.channel_axis % value.ndim
        others = [axis for axis in range(value.ndim) if axis != kept]
        ranges[layer.node] = value.amax(others) if value.numel() else torch.zeros(layer.conv.in_channels)
    return ranges


def _differs(scales: Tensor, layer: Layer) -> bool:
    return bool((torch.cat([scales[layer.inputs], scales[layer.outputs]]) != 1).any())


def scaled(conv: Conv, before: Tensor, behind: Tensor) -> Conv:
    """The convolution of x' = x / before whose output is y / behind, in float64: W'_oi = W_oi before_i / behind_o and
    b'_o = b_o / behind_o."""
    zeros = torch.zeros_like
    inner = Affine(before, zeros(before), conv.channel_axis)
    outer = Affine(1 / behind, zeros(behind), conv.channel_axis)
    return outer @ (conv @ inner)


def _rescaled(graph: Graph, layers: list[Layer], scales: Tensor) -> tuple[Graph, dict[str, Tensor]]:
    """A copy of the graph with scaled layers, and for each of its new constants the one that it replaces."""
    fresh = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    fresh.output(fresh.graph_copy(graph.fx, copies))
    new = replace(graph, fx=fresh, constants=dict(graph.constants), readings=None)
    made: dict[str, Tensor] = {}
    for layer in layers:
        old, conv = copies[layer.node], layer.conv
        device = conv.kernel.device
        value = scaled(conv, scales[layer.inputs].to(device), scales[layer.outputs].to(device))
        with fresh.inserting_before(old):
            nodes = write(new, value, (copies[layer.source],), (where(layer.node),))
        note(nodes[-1], known(layer.node))
        made |= {str(c.target): conv.kernel for c in nodes[-1].all_input_nodes if c.op == "get_attr"}
        old.replace_all_uses_with(nodes[-1])
        new.erase_dead([old])
        copies[layer.node] = nodes[-1]
    new.lint()
    return new, made


def _round(graph: Graph, new: Graph, made: dict[str, Tensor]) -> str:
    """Round the new constants to the dtype of those that they replace. Why that is not possible; "" if it is."""
    for name, old in made.items():
        value = new.constants[name].detach()
        stored = value.to(old.dtype).contiguous()
        if not bool(stored.isfinite().all()) or bool((stored == 0)[value != 0].all() and (value != 0).any()):
            return f"{name} would leave the range of {old.dtype}"
        trains = any(constant.requires_grad for constant in graph.constants.values())
        new.constants[name] = stored.requires_grad_(trains)
    for node in new.nodes:
        if node.op == "get_attr" and str(node.target) in made:
            value = new.constants[str(node.target)]
            note(node, Known(facts=Facts(tuple(value.shape), value.dtype)))
    return ""


def _applied(layer: Layer, scales: Tensor, error: float) -> Event:
    """The spread of a layer's weights, before and after: the largest range of an output channel over the median."""
    before, after = scales[layer.inputs], scales[layer.outputs]
    spreads = (_spread(layer.conv), _spread(scaled(layer.conv, before, after)))
    told = tuple(f"largest range {spread:.3g} times the median" for spread in spreads)
    return Event(NAME, where(layer.node), Outcome.APPLIED, error=error, change=told)


def _spread(conv: Conv) -> float:
    ranges = _largest_taps(conv).amax(2).flatten()
    return float(ranges.max() / ranges.median().clamp_min(1e-300))
