"""ONNX forms of operators that torch's exporter translates wrongly, or not at all.

atan2: for x < 0 the exporter adds π if y > 0, and subtracts it otherwise. So the angle of a negative real number, which
is π, comes out as -π. And two infinities give NaN. Adaptive pools in three dimensions cannot be exported at all.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset18

op: Any = opset18  # Any: its types are those of ONNX


def _atan2(y: Any, x: Any) -> Any:
    """atan2(y, x), computed by the arctangent of one argument. It is right in every quadrant, at ±0 and at ±∞
    (`lower.functions.angle` is the same in torch)."""
    one, zero, pi = (op.CastLike(op.Constant(value_float=value), x) for value in (1.0, 0.0, math.pi))
    origin = op.And(op.Equal(x, zero), op.Equal(y, zero))
    corner = op.And(op.IsInf(x), op.IsInf(y))
    ratio = op.Where(corner, op.Mul(op.Sign(x), op.Sign(y)), op.Div(y, op.Where(origin, one, x)))
    base = op.Where(origin, y, op.Atan(ratio))
    half_turn = op.Where(_negative(y, zero), op.Neg(pi), pi)
    return op.Where(_negative(x, zero), op.Where(origin, half_turn, op.Add(base, half_turn)), base)


def _negative(x: Any, zero: Any) -> Any:
    """True if x has a minus sign; also for -0.0, whose reciprocal is -∞."""
    return op.Or(op.Less(x, zero), op.And(op.Equal(x, zero), op.Less(op.Reciprocal(x), zero)))


def _adaptive_avg_pool3d(x: Any, output_size: Sequence[int]) -> Any:
    """[N, C, D, H, W] -> [N, C, *output_size], if the sizes are known and divisible, so that all windows have one size.
    Raises ValueError otherwise."""
    sizes = [] if x.shape is None else list(x.shape)[2:]
    if len(sizes) != 3 or any(not isinstance(n, int) or n % out for n, out in zip(sizes, output_size, strict=True)):
        raise ValueError(f"an adaptive pool of sizes {sizes} to {list(output_size)} has no windows of one size")
    window = [n // out for n, out in zip(sizes, output_size, strict=True)]
    return op.AveragePool(x, kernel_shape=window, strides=window)


OPERATORS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.atan2.default: _atan2,
    torch.ops.aten._adaptive_avg_pool3d.default: _adaptive_avg_pool3d,
}
