"""ONNX forms of operators that torch's exporter translates wrongly, or not at all.

atan2: for x < 0 the exporter adds π if y > 0, and subtracts it otherwise. So the angle of a negative real number, which
is π, comes out as -π. And two infinities give NaN. Adaptive pools in three dimensions cannot be exported at all, and
neither can a roll by a part of a free size.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset18

_END = (1 << 63) - 1  # of any axis

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


def _roll(x: Any, shifts: Any, dims: Sequence[int] = ()) -> Any:
    """x with its entries moved by `shifts` along `dims`, cyclically, as two slices that change places. The exporter's
    own form takes shifts that are numbers; those of fftshift are half of a size, which may be free."""
    sizes = list(x.shape)
    if not sizes:
        return op.Identity(x)
    if not dims:
        flat = _rolled(op.Reshape(x, op.Constant(value_ints=[-1])), shifts, 0, None)
        return op.Reshape(flat, op.Shape(x))
    for number, dim in enumerate(dims):
        shift = op.Gather(shifts, op.Constant(value_ints=[number])) if len(dims) > 1 else shifts
        x = _rolled(x, shift, dim % len(sizes), sizes[dim])
    return x


def _rolled(x: Any, shift: Any, axis: int, known: Any) -> Any:
    """One axis: its last `shift` entries come first. A size that is not known may be 0, by which nothing is divided."""
    size = op.Shape(x, start=axis, end=axis + 1)
    if not isinstance(known, int) or not known:
        size = op.Max(size, op.Constant(value_ints=[1]))
    start, axes = op.Mod(op.Neg(shift), size), op.Constant(value_ints=[axis])
    behind = op.Slice(x, start, op.Constant(value_ints=[_END]), axes)
    front = op.Slice(x, op.Constant(value_ints=[0]), start, axes)
    return op.Concat(behind, front, axis=axis)


OPERATORS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.atan2.default: _atan2,
    torch.ops.aten._adaptive_avg_pool3d.default: _adaptive_avg_pool3d,
    torch.ops.aten.roll.default: _roll,
}
