"""Functions of each entry alone that some laws look through."""

from collections.abc import Callable
from typing import Any

import torch

from fusekit.grafting.meaning import Called, Known, Meaning, Reader, Value
from fusekit.grafting.operator_node import OperatorNode
from fusekit.grafting.operators import arithmetic

aten = torch.ops.aten

_NO_ATTRIBUTES: dict[str, Any] = {
    "Relu": aten.relu.default,
    "Sigmoid": aten.sigmoid.default,
    "Tanh": aten.tanh.default,
    "Abs": aten.abs.default,
}


def _plain(target: Any) -> Reader:
    def read(node: OperatorNode, known: Known) -> Called | None:
        return Called(target, (Value(node.input(0)),)) if known.is_floating(node.input(0)) else None

    return read


def _leaky_relu(node: OperatorNode, known: Known) -> Called | None:
    if not known.is_floating(node.input(0)):
        return None
    return Called(aten.leaky_relu.default, (Value(node.input(0)), float(node.number("alpha", 0.01))))


_MUL = arithmetic.READERS["Mul"]


def _mul(node: OperatorNode, known: Known) -> Meaning | None:
    """x σ(x) is one activation (SiLU, Swish), which files have in two nodes."""
    for source, factor in ((node.input(0), node.input(1)), (node.input(1), node.input(0))):
        made = known.read_once.get(factor)
        if made is not None and made.operator == "Sigmoid" and made.input(0) == source and known.is_floating(source):
            return Called(aten.silu.default, (Value(source),), absorbs=factor)
    return _MUL(node, known)


READERS: dict[str, Reader] = {
    "Mul": _mul,
    **{operator: _plain(target) for operator, target in _NO_ATTRIBUTES.items()},
    "LeakyRelu": _leaky_relu,
}

# the other way: what a call of torch is called in a file, and its attributes by its further arguments; SiLU, which is
# two nodes, `emitters.py` writes
WRITTEN: dict[Any, tuple[str, Callable[..., dict[str, Any]]]] = {
    **{target: (operator, dict) for operator, target in _NO_ATTRIBUTES.items()},
    aten.leaky_relu.default: ("LeakyRelu", lambda alpha=0.01: {"alpha": alpha}),
}
