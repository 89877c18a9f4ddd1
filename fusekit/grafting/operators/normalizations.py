"""Norms by the statistics of what comes in: layer, RMS, group and instance norms with constant scale and shift."""

from functools import partial

import torch
from torch import Tensor

from fusekit.algebra import Normalization
from fusekit.algebra.values import is_one, is_zero
from fusekit.grafting.meaning import Known, Linear, Reader
from fusekit.grafting.operator_node import OperatorNode

# each kind's operator, and the first opset in which it takes a scale and a shift of each channel
NORMS = {"layer": ("LayerNormalization", 17), "rms": ("RMSNormalization", 23), "group": ("GroupNormalization", 21)}


def _norm_of(
    weight: Tensor, bias: Tensor | None = None, *, kind: str, eps: float, channels: int, groups: int = 1, n: int = 0
) -> Normalization:
    """A scale of ones and a shift of zeros are none; those of groups hold for each of their channels."""
    scale, shift = (
        None if given is None else given.repeat_interleave(channels // len(given)) for given in (weight, bias)
    )
    scale = None if scale is None or is_one(scale) else scale
    shift = None if is_zero(shift) else shift
    if scale is None and shift is not None:
        scale = torch.ones_like(shift)
    return Normalization(kind, channels, eps, scale, shift, groups, n)


def _of_last_axis(kind: str) -> Reader:
    def read(node: OperatorNode, known: Known) -> Linear | None:
        """Over the last axis alone, with nothing but the result asked for."""
        source = node.input(0)
        facts, weights = known.facts(source), known.weights(*node.inputs[1:])
        alone = facts.rank is not None and int(node.number("axis", -1)) in (-1, facts.rank - 1)
        if not alone or not node.only_output or not known.is_floating(source) or not weights:
            return None
        channels = facts.size(-1)
        if channels is None or any(tuple(weight.shape) != (channels,) for weight in weights):
            return None
        build = partial(_norm_of, kind=kind, eps=float(node.number("epsilon", 1e-5)), channels=channels)
        return Linear(source, build, tuple(node.inputs[1:]))

    return read


def _group(node: OperatorNode, known: Known) -> Linear | None:
    """Before opset 21 scale and shift are numbers of each group."""
    groups = int(node.number("num_groups", 0))
    return _of_groups(node, known, groups, groups if node.opset < NORMS["group"][1] else None)


def _instance(node: OperatorNode, known: Known) -> Linear | None:
    """Groups of one channel each."""
    return _of_groups(node, known, None, None)


def _of_groups(node: OperatorNode, known: Known, groups: int | None, numbers: int | None) -> Linear | None:
    """`groups`: None for one of each channel; `numbers`: in scale and shift, None for one of each channel."""
    source = node.input(0)
    facts, weights = known.facts(source), known.weights(*node.inputs[1:])
    if facts.rank is None or facts.rank < 3 or not known.is_floating(source) or weights is None or len(weights) != 2:
        return None
    channels = facts.size(1 - facts.rank)
    if not channels or groups == 0 or channels % (groups or 1):
        return None
    if any(tuple(weight.shape) != (numbers or channels,) for weight in weights):
        return None
    eps = float(node.number("epsilon", 1e-5))
    build = partial(_norm_of, kind="group", eps=eps, channels=channels, groups=groups or channels, n=facts.rank - 2)
    return Linear(source, build, tuple(node.inputs[1:]))


READERS: dict[str, Reader] = {
    "LayerNormalization": _of_last_axis("layer"),
    "RMSNormalization": _of_last_axis("rms"),
    "GroupNormalization": _group,
    "InstanceNormalization": _instance,
}
