"""Arithmetic of a value and a constant, batch norms; sums and differences of two values of one shape.

    x + c, c - x, x c, x / c, -x   =   scale · x + shift, along the one axis on which c has more than one number

Broadcasting is numpy's. A constant reads only where the value is known to have as many entries on that axis: with one
entry it would be broadcast up, and the result is no map of it entry by entry.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fusekit.algebra import Affine, Identity, Map
from fusekit.algebra.values import wide
from fusekit.grafting.meaning import Called, Known, Linear, Meaning, Reader, Value
from fusekit.grafting.operator_node import OperatorNode

aten = torch.ops.aten

Form = Callable[[Tensor], tuple[Tensor | float, Tensor | float]]  # of the constant: (scale, shift)


def _affine(constant: Tensor, *, form: Form, axis: int | None) -> Map:
    flat = wide(constant).reshape(() if axis is None else (-1,))
    scale, shift = (v if isinstance(v, Tensor) else torch.full_like(flat, v) for v in form(flat))
    affine = Affine.of(scale, shift, axis)
    return Identity() if axis is None and affine.is_identity() else affine


def _arithmetic(
    right: Form | None, left: Form | None, of_two: object = None, refuses: Callable[[Tensor], bool] | None = None
) -> Reader:
    """`right`: what x op c is; `left`: what c op x is; `of_two`: the call for two values of one shape. `refuses`: a
    constant that the form cannot take."""

    def read(node: OperatorNode, known: Known) -> Meaning | None:
        first, second = node.input(0), node.input(1)
        stored = [name in known.constants for name in (first, second)]
        if not any(stored):
            both = of_two is not None and known.is_floating(first) and known.shapes.alike((first, second))
            return Called(of_two, (Value(first), Value(second))) if both else None
        source, constant, form = (second, first, left) if stored[0] else (first, second, right)
        value = known.constants.tensor(constant)
        if all(stored) or form is None or value is None or (refuses is not None and refuses(value)):
            return None
        axes = _axis(value, known, source)
        return None if axes is None else Linear(source, partial(_affine, form=form, axis=axes[0]), (constant,))

    return read


def _axis(value: Tensor, known: Known, source: str) -> tuple[int | None] | None:
    """The axis from the right along which a constant differs, in brackets, (None,) for a single number; None where it
    is no such constant."""
    facts = known.facts(source)
    axes = [axis for axis in range(-value.ndim, 0) if value.shape[axis] != 1]
    if facts.dtype not in (None, value.dtype) or (value.ndim and (facts.rank is None or facts.rank < value.ndim)):
        return None
    if len(axes) > 1 or (axes and facts.size(axes[0]) != value.shape[axes[0]]):
        return None
    return (axes[0] if axes else None,)


def _minus(constant: Tensor) -> tuple[float, Tensor]:
    """x - c."""
    return 1.0, -constant


def _minus_x(constant: Tensor) -> tuple[float, Tensor]:
    """c - x."""
    return -1.0, constant


def _plus(constant: Tensor) -> tuple[float, Tensor]:
    return 1.0, constant


def _times(constant: Tensor) -> tuple[Tensor, float]:
    return constant, 0.0


def _over(constant: Tensor) -> tuple[Tensor, float]:
    """x / c."""
    return 1.0 / constant, 0.0


def _has_zero(constant: Tensor) -> bool:
    return bool((constant == 0).any())


def _negative() -> Affine:
    minus = torch.tensor(-1.0, dtype=torch.float64)
    return Affine(minus, torch.zeros_like(minus), None)


def _neg(node: OperatorNode, known: Known) -> Linear | None:
    return Linear(node.input(0), _negative) if known.is_floating(node.input(0)) else None


def _normalised(scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor, *, eps: float, axis: int) -> Affine:
    return Affine.batch_norm(scale, bias, mean, var, eps, axis)


def _batch_norm(node: OperatorNode, known: Known) -> Linear | None:
    """With given statistics. Before opset 9 `spatial` = 0 means statistics of each entry; from 14 on `training_mode`
    = 1 those of the batch, as before it did the presence of further outputs."""
    trains = node.number("training_mode", 0) or not node.number("spatial", 1) or not node.only_output
    rank = known.facts(node.input(0)).rank
    weights = known.weights(*node.inputs[1:5])
    if trains or rank is None or rank < 2 or weights is None or len(weights) != 4:
        return None
    if any(weight.ndim != 1 for weight in weights) or known.facts(node.input(0)).size(1 - rank) not in (
        None,
        len(weights[0]),
    ):
        return None
    build = partial(_normalised, eps=float(node.number("epsilon", 1e-5)), axis=1 - rank)
    return Linear(node.input(0), build, tuple(node.inputs[1:5]))


READERS: dict[str, Reader] = {
    "Add": _arithmetic(_plus, _plus, aten.add.Tensor),
    "Sub": _arithmetic(_minus, _minus_x, aten.sub.Tensor),
    "Mul": _arithmetic(_times, _times),
    "Div": _arithmetic(_over, None, refuses=_has_zero),
    "Neg": _neg,
    "BatchNormalization": _batch_norm,
}
