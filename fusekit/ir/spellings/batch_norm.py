"""Batch norms in evaluation mode, which are affine maps: read from torch's operator, emitted as its layers."""

from typing import Any

import torch
from torch import fx, nn

from fusekit.algebra import Affine
from fusekit.ir.facts import facts, known
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reading, Unread, bind
from fusekit.ir.spellings.table import Call, CalledLayer, Layer, Spelling

aten = torch.ops.aten

_LAYERS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_OF_RANK = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_TENSORS = ("weight", "bias", "running_mean", "running_var")


def _read(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """With running statistics. The channels are axis 1 from the left, so the rank must be known."""
    weight, bias, mean, var = (graph.constant(a[name]) for name in _TENSORS)
    rank = facts(a["input"]).rank or facts(node).rank
    computed = any(a[name] is not None and graph.constant(a[name]) is None for name in _TENSORS)
    if a["training"] or computed or mean is None or var is None:
        return None
    if rank is None:
        return Reading(Unread(Affine, "the rank of the batch norm's input is unknown: pass example inputs"), a["input"])
    return Reading(Affine.batch_norm(weight, bias, mean, var, a["eps"], 1 - rank), a["input"])


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


SPELLING = Spelling(
    read={aten.batch_norm.default: _read},
    emitted={aten.batch_norm.default: _emit},
    called=dict.fromkeys(_LAYERS, _call),
)
