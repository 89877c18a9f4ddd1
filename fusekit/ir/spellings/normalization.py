"""Norms by the statistics of what comes in, as torch's operators and layers: layer, RMS and group norms whose scale and
shift are numbers of each channel."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from fusekit.algebra import Normalization
from fusekit.ir.facts import facts
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reading, bind
from fusekit.ir.spellings.conv import weights_by_name
from fusekit.ir.spellings.table import Call, CalledLayer, Layer, Spelling

aten = torch.ops.aten

_KINDS: dict[Any, str] = {aten.layer_norm.default: "layer", aten.rms_norm.default: "rms"}


def _write(graph: Graph, value: Normalization, source: fx.Node, name: str) -> list[fx.Node]:
    weight, bias = (
        None if given is None else graph.add_constant(given, f"{name}.{word}")
        for word, given in (("weight", value.weight), ("bias", value.bias))
    )
    if value.kind == "group":
        call: Call = aten.group_norm.default, (source, value.groups, weight, bias, value.eps)
    elif value.kind == "rms":
        call = aten.rms_norm.default, (source, [value.channels], weight, value.eps)
    else:
        call = aten.layer_norm.default, (source, [value.channels], weight, bias, value.eps)
    return [graph.fx.call_function(*call)]


def _read(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    shape, source = a["normalized_shape"], a["input"]
    weights = graph.constant(a.get("weight")), graph.constant(a.get("bias"))
    if len(shape) != 1 or not isinstance(shape[0], int) or _computed(a, weights):
        return None
    return Reading(Normalization(_KINDS[node.target], shape[0], a["eps"], *weights), source)


def _read_group(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    known = facts(a["input"])
    weights = graph.constant(a["weight"]), graph.constant(a["bias"])
    channels = None if known.rank is None or known.rank < 2 else known.size(1 - known.rank)
    if channels is None or known.rank is None or _computed(a, weights):
        return None
    value = Normalization("group", channels, a["eps"], *weights, groups=a["num_groups"], n=known.rank - 2)
    return Reading(value, a["input"])


def _computed(a: Arguments, weights: tuple[Tensor | None, ...]) -> bool:
    """Whether the graph computes one of them."""
    return any(
        a.get(word) is not None and value is None for word, value in zip(("weight", "bias"), weights, strict=True)
    )


def _emit(graph: Graph, node: fx.Node) -> Layer | None:
    a = bind(node)
    weights = weights_by_name(graph, a["weight"], a.get("bias"))
    if "bias" in weights and "weight" not in weights:
        return None
    options: dict[str, Any] = {"eps": a["eps"], "device": "meta"}
    if node.target is aten.group_norm.default:
        reading = _read_group(graph, node, a)
        if reading is None or len(weights) == 1:
            return None
        channels = reading.map.channels  # type: ignore[union-attr]
        return Layer(nn.GroupNorm(a["num_groups"], channels, affine=bool(weights), **options), weights)
    options["elementwise_affine"] = bool(weights)
    if node.target is aten.rms_norm.default:
        return Layer(nn.RMSNorm(a["normalized_shape"], **options), weights)
    if weights:
        options["bias"] = "bias" in weights
    return Layer(nn.LayerNorm(a["normalized_shape"], **options), weights)


def _call(call: CalledLayer) -> Call:
    layer = call.module
    return aten.layer_norm.default, (
        call.x,
        list(layer.normalized_shape),
        call.own("weight"),
        call.own("bias"),
        layer.eps,
    )


def _call_rms(call: CalledLayer) -> Call:
    layer = call.module
    return aten.rms_norm.default, (call.x, list(layer.normalized_shape), call.own("weight"), layer.eps)


def _call_group(call: CalledLayer) -> Call:
    layer = call.module
    return aten.group_norm.default, (call.x, layer.num_groups, call.own("weight"), call.own("bias"), layer.eps)


SPELLING = Spelling(
    written={Normalization: _write},
    read={**dict.fromkeys(_KINDS, _read), aten.group_norm.default: _read_group},
    emitted=dict.fromkeys((*_KINDS, aten.group_norm.default), _emit),
    called={nn.LayerNorm: _call, nn.RMSNorm: _call_rms, nn.GroupNorm: _call_group},
)
