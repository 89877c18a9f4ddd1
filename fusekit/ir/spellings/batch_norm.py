"""Norms by running statistics, which are affine maps: batch norms, synchronized or not, and instance norms in
evaluation mode are one operator; emitted as batch norms."""

from typing import Any

import torch
from torch import fx, nn

from fusekit.algebra import Affine
from fusekit.ir.facts import Known, facts, known, note
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reading, Unread, bind
from fusekit.ir.spellings.table import Call, CalledLayer, Layer, Spelling

aten = torch.ops.aten

_LAYERS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_LAYERS: dict[type[nn.Module], int] = {nn.InstanceNorm1d: 3, nn.InstanceNorm2d: 4, nn.InstanceNorm3d: 5}
_OF_RANK = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_TENSORS = ("weight", "bias", "running_mean", "running_var")


def _read(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """With running statistics. The channels are axis 1 from the left, so the rank must be known."""
    weight, bias, mean, var = (graph.constant(a[name]) for name in _TENSORS)
    rank = facts(a["input"]).rank or facts(node).rank
    computed = any(a[name] is not None and graph.constant(a[name]) is None for name in _TENSORS)
    if a.get("training", a.get("use_input_stats")) or computed or mean is None or var is None:
        return None
    if rank is None:
        return Reading(Unread(Affine, "the rank of the batch norm's input is unknown: pass example inputs"), a["input"])
    return Reading(Affine.batch_norm(weight, bias, mean, var, a["eps"], 1 - rank), a["input"])


def write_norm(graph: Graph, value: Affine, source: fx.Node, name: str) -> list[fx.Node]:
    """s x + t as a batch norm of mean 0 and variance 1, its channels behind the batch: γ = s, β = t, ε = 0."""
    weight, bias = graph.add_constant(value.scale, f"{name}.weight"), graph.add_constant(value.shift, f"{name}.bias")
    mean = graph.add_constant(torch.zeros_like(value.shift), f"{name}.running_mean")
    var = graph.add_constant(torch.ones_like(value.scale), f"{name}.running_var")
    for statistic in (mean, var):
        note(statistic, Known(fixed=True))
    arguments = (source, weight, bias, mean, var, False, 0.0, 0.0, True)
    return [graph.fx.call_function(aten.batch_norm.default, arguments)]


def _emit(graph: Graph, node: fx.Node) -> Layer | None:
    a = bind(node)
    kind: Any = known(node).module
    kind = kind if kind in _LAYERS else _OF_RANK.get(facts(a["input"]).rank or 0)
    found = {name: value for name in _TENSORS if (value := graph.constant(a[name])) is not None}
    affine = "weight" in found
    if kind is None or a["training"] or not {"running_mean", "running_var"} <= found.keys():
        return None
    if affine != ("bias" in found):
        return None
    mean = found["running_mean"]
    layer: nn.Module = kind(len(mean), eps=a["eps"], momentum=a["momentum"], affine=affine, device="meta")
    layer.num_batches_tracked = torch.zeros((), dtype=torch.long, device=mean.device)
    return Layer(layer, found)


def _call_instance_norm(call: CalledLayer) -> Call | None:
    """Without statistics of its own it normalizes by each image's; without a batch its channels stand elsewhere."""
    batched = facts(call.x).rank == next(
        rank for kind, rank in _INSTANCE_LAYERS.items() if isinstance(call.module, kind)
    )
    return _call(call) if batched else None


def _call(call: CalledLayer) -> Call | None:
    layer = call.module
    if layer.running_mean is None or layer.running_var is None or layer.training:
        return None  # normalises by the batch's own statistics
    weight, bias, mean, var = (call.own(name) for name in _TENSORS)
    return norm_call(call.x, mean, var, weight, bias, momentum=layer.momentum or 0.0, eps=layer.eps)


def norm_call(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Call | None:
    """`F.batch_norm` as ATen's, if it uses running statistics."""
    if training or running_mean is None or running_var is None:
        return None
    return aten.batch_norm.default, (input, weight, bias, running_mean, running_var, False, momentum, eps, True)


def instance_norm_call(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Call | None:
    """`F.instance_norm` as ATen's batch norm, if it uses running statistics."""
    return norm_call(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


SPELLING = Spelling(
    read=dict.fromkeys((aten.batch_norm.default, aten.instance_norm.default), _read),
    emitted={aten.batch_norm.default: _emit},
    called={
        **dict.fromkeys((*_LAYERS, nn.SyncBatchNorm), _call),
        **dict.fromkeys(_INSTANCE_LAYERS, _call_instance_norm),
    },
)
