"""Reads arithmetic of a tensor and a constant, on either side and however it is spelled, as an affine map.

x + c, c - x, x c, x / c, ...  =  scale · x + shift
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from fusekit.algebra import Affine, Identity
from fusekit.algebra.values import is_one, is_zero
from fusekit.errors import Inapplicable
from fusekit.ir.facts import Facts, facts
from fusekit.ir.graph import Graph
from fusekit.ir.reading import Arguments, Reader, Reading, Unread
from fusekit.ir.spellings.batch_norm import write_norm
from fusekit.ir.spellings.table import Spelling

aten = torch.ops.aten

Spelled = tuple[Any, Any] | None  # (scale, shift): tensors or numbers; None where the map is not affine
Form = Callable[[Tensor | None, Tensor | None, float], Spelled]  # of (left, right, alpha), None for the input


def _read_arithmetic(spell: Form) -> Reader:
    """Arithmetic of a tensor and a constant, on either side."""

    def reader(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
        left, right = a["self"], a["other"]
        on_left = isinstance(left, fx.Node) and left.op != "get_attr"
        source, operand = (left, right) if on_left else (right, left)
        if not isinstance(source, fx.Node) or source.op == "get_attr":
            return None
        try:
            constant, axis = _operand(graph, operand, facts(source))
        except Inapplicable as unread:
            return Reading(Unread(Affine, str(unread)), source) if graph.constant(operand) is not None else None
        spelled = spell(None if on_left else constant, constant if on_left else None, a.get("alpha", 1))
        if spelled is None:
            return None
        scale, shift = (v if isinstance(v, Tensor) else torch.full_like(constant, v) for v in spelled)
        affine = Affine.of(scale, shift, axis)
        # x + zeros of [C] is not x where x has one entry that broadcasts up, and an example does not rule that out
        return Reading(Identity() if axis is None and affine.is_identity() else affine, source)

    return reader


def _operand(graph: Graph, operand: Any, source: Facts) -> tuple[Tensor, int | None]:
    """A constant operand as a float64 scalar, or as a vector along one axis (counted from the right).

    A vector reads only if the tensor is known to have as many entries *on that axis*: with as many on another axis, or
    with one that broadcasts up, it is another map. A tensor operand of higher precision would widen the result.
    """
    if source.dtype is None or not source.dtype.is_floating_point:
        raise Inapplicable(f"the dtype of the other operand is {source.dtype or 'unknown: pass example inputs'}")
    if isinstance(operand, int | float) and not isinstance(operand, bool):
        return torch.tensor(float(operand), dtype=torch.float64), None
    value = graph.constant(operand)
    if value is None or not value.is_floating_point() or (value.ndim and value.dtype != source.dtype):
        raise Inapplicable("the operand is no floating constant of the tensor's dtype")
    axes = [axis for axis in range(-value.ndim, 0) if value.shape[axis] != 1]
    if (value.ndim > 1 or axes) and source.rank is None:
        raise Inapplicable("the rank of the other operand is unknown: pass example inputs")
    if (source.rank is not None and source.rank < value.ndim) or len(axes) > 1:
        raise Inapplicable(f"a constant of shape {list(value.shape)} is not one number per channel")
    if axes and source.size(axes[0]) != value.shape[axes[0]]:
        size = source.size(axes[0])
        known = "unknown: pass example inputs" if size is None else str(size)
        raise Inapplicable(f"a constant of shape {list(value.shape)} on an axis whose size is {known}")
    flat = value.detach().double()
    return (flat.flatten(), axes[0]) if axes else (flat.reshape(()), None)


def _add(left: Tensor | None, right: Tensor | None, alpha: float) -> Spelled:
    """x + alpha y."""
    return (1.0, alpha * right) if right is not None else (alpha, left)


def _sub(left: Tensor | None, right: Tensor | None, alpha: float) -> Spelled:
    """x - alpha y."""
    return (1.0, -alpha * right) if right is not None else (-alpha, left)


def _rsub(left: Tensor | None, right: Tensor | None, alpha: float) -> Spelled:
    """y - alpha x."""
    return (-alpha, right) if right is not None else (1.0, None if left is None else -alpha * left)


def _mul(left: Tensor | None, right: Tensor | None, alpha: float) -> Spelled:
    return (left if right is None else right, 0.0)


def _div(left: Tensor | None, right: Tensor | None, alpha: float) -> Spelled:
    """x / y; constant / x is not affine, and neither is a division by zero."""
    return (1.0 / right, 0.0) if right is not None and bool(torch.all(right != 0)) else None


def _read_neg(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """-x."""
    source = a["self"]
    dtype = facts(source).dtype
    if graph.constant(source) is not None or dtype is None or not dtype.is_floating_point:
        return None
    minus = torch.tensor(-1.0, dtype=torch.float64)
    return Reading(Affine(minus, torch.zeros_like(minus), None), source)


def _write_affine(graph: Graph, value: Affine, source: fx.Node, name: str) -> list[fx.Node]:
    """A batch norm where the channels stand behind the batch and both scale and shift count; else a product and a
    sum."""
    if value.is_identity():
        return []
    by_channel = value.axis is not None and value.axis == 1 - (facts(source).rank or 0)
    if by_channel and not is_one(value.scale) and not is_zero(value.shift):
        return write_norm(graph, value, source, name)
    nodes: list[fx.Node] = []
    for overload, operand, missing, word in (
        (aten.mul.Tensor, value.scale, is_one(value.scale), "scale"),
        (aten.add.Tensor, value.shift, is_zero(value.shift), "shift"),
    ):
        if not missing:
            given = _spelled(graph, operand, value.axis, f"{name}.{word}")
            nodes.append(graph.fx.call_function(overload, (nodes[-1] if nodes else source, given)))
    return nodes


def _spelled(graph: Graph, operand: Tensor, axis: int | None, name: str) -> fx.Node | float:
    """A number, or a constant along an axis counted from the right."""
    if axis is None:
        return float(operand)
    return graph.add_constant(operand.reshape(-1, *(1,) * (-axis - 1)), name)


SPELLING = Spelling(
    written={Affine: _write_affine},
    read={
        **dict.fromkeys((aten.add.Tensor, aten.add.Scalar), _read_arithmetic(_add)),
        **dict.fromkeys((aten.sub.Tensor, aten.sub.Scalar), _read_arithmetic(_sub)),
        **dict.fromkeys((aten.subtract.Tensor, aten.subtract.Scalar), _read_arithmetic(_sub)),
        **dict.fromkeys((aten.rsub.Tensor, aten.rsub.Scalar), _read_arithmetic(_rsub)),
        aten.neg.default: _read_neg,
        **dict.fromkeys((aten.mul.Tensor, aten.mul.Scalar), _read_arithmetic(_mul)),
        **dict.fromkeys((aten.multiply.Tensor, aten.multiply.Scalar), _read_arithmetic(_mul)),
        **dict.fromkeys((aten.div.Tensor, aten.div.Scalar), _read_arithmetic(_div)),
        **dict.fromkeys((aten.divide.Tensor, aten.divide.Scalar), _read_arithmetic(_div)),
        **dict.fromkeys((aten.true_divide.Tensor, aten.true_divide.Scalar), _read_arithmetic(_div)),
    },
)
