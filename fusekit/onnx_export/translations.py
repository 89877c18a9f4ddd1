"""ONNX forms of operators that torch's exporter answers wrongly, or not at all.

atan2: the exporter adds π where x < 0 and y > 0 and subtracts it elsewhere, so that of a negative real number, whose
angle is π, it says -π; and it makes NaN of two infinities. Adaptive pools in three dimensions it does not know.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset18

op: Any = opset18  # whose types are those of ONNX


def _atan2(y: Any, x: Any) -> Any:
    """atan2(y, x) by the arctangent of one argument, exact in every quadrant, at ±0 and at ±∞ (`lower.functions.angle`
    is the same in torch's words)."""
    one, zero, pi = (op.CastLike(op.Constant(value_float=value), x) for value in (1.0, 0.0, math.pi))
    origin = op.And(op.Equal(x, zero), op.Equal(y, zero))
    corner = op.And(op.IsInf(x), op.IsInf(y))
    ratio = op.Where(corner, op.Mul(op.Sign(x), op.Sign(y)), op.Div(y, op.Where(origin, one, x)))
    base = op.Where(origin, y, op.Atan(ratio))
    half_turn = op.Where(_negative(y, zero), op.Neg(pi), pi)
    return op.Where(_negative(x, zero), op.Where(origin, half_turn, op.Add(base, half_turn)), base)


def _negative(x: Any, zero: Any) -> Any:
    """Whether x carries a minus sign, -0.0 included: 1/x tells the zeros apart."""
    return op.Or(op.Less(x, zero), op.And(op.Equal(x, zero), op.Less(op.Reciprocal(x), zero)))


def _adaptive_avg_pool3d(x: Any, output_size: Sequence[int]) -> Any:
    """Windows of one size, where the sizes are known and divide: [N, C, D, H, W] to [N, C, *output_size]."""
    sizes = [] if x.shape is None else list(x.shape)[2:]
    if len(sizes) != 3 or any(not isinstance(n, int) or n % out for n, out in zip(sizes, output_size, strict=True)):
        raise ValueError(f"an adaptive pool of sizes {sizes} to {list(output_size)} has no windows of one size")
    window = [n // out for n, out in zip(sizes, output_size, strict=True)]
    return op.AveragePool(x, kernel_shape=window, strides=window)


OPERATORS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.atan2.default: _atan2,
    torch.ops.aten._adaptive_avg_pool3d.default: _adaptive_avg_pool3d,
}
