"""The small graphs at which ONNX tools were compared: what folds, and what it comes to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
from onnx import ModelProto

import fusekit
from tests.support.onnx_files import drawn, model, node, norm, operators, saved

IMAGE = {"x": ("n", 8, "h", "w")}
OUT = {"y": (None, None, None, None)}


def chain(*nodes: Any, image: Any = None, out: Any = None, **constants: Any) -> ModelProto:
    return model(nodes, constants, image or IMAGE, out or OUT)


def conv_norm() -> ModelProto:
    return chain(
        node("Conv", "x w b", "c", pads=[1] * 4), node("BatchNormalization", "c s t m v", "y"),
        w=drawn(16, 8, 3, 3), b=drawn(16), **norm(16, ""),
    )  # fmt: skip


def transposed_norm() -> ModelProto:
    return chain(
        node("ConvTranspose", "x w b", "c", strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]),
        node("BatchNormalization", "c s t m v", "y"),
        w=drawn(8, 16, 3, 3), b=drawn(16), **norm(16, ""),
    )  # fmt: skip


def bgr_conv() -> ModelProto:
    return chain(
        node("Gather", "x order", "c", axis=1), node("Conv", "c w b", "y", pads=[1] * 4),
        image={"x": ("n", 3, "h", "w")}, order=[2, 1, 0], w=drawn(16, 3, 3, 3), b=drawn(16),
    )  # fmt: skip


def last_conv() -> ModelProto:
    return chain(
        node("Transpose", "x", "c", perm=[0, 3, 1, 2]), node("Conv", "c w b", "y", pads=[1] * 4),
        image={"x": ("n", "h", "w", 3)}, w=drawn(16, 3, 3, 3), b=drawn(16),
    )  # fmt: skip


def narrowed() -> ModelProto:
    return chain(
        node("Conv", "x w b", "c", pads=[1] * 4), node("Conv", "c k d", "y"),
        w=drawn(32, 8, 3, 3), b=drawn(32), k=drawn(8, 32, 1, 1), d=drawn(8),
    )  # fmt: skip


def two_wide() -> ModelProto:
    return chain(
        node("Conv", "x w", "c"), node("Conv", "c k", "y"),
        image={"x": ("n", 3, "h", "w")}, w=drawn(64, 3, 3, 3), k=drawn(3, 64, 3, 3),
    )  # fmt: skip


def two_windows() -> ModelProto:
    return chain(
        node("Conv", "x w b", "c", pads=[1] * 4), node("Conv", "x k", "d"), node("Add", "c d", "y"),
        w=drawn(8, 8, 3, 3), b=drawn(8), k=drawn(8, 8, 1, 1),
    )  # fmt: skip


def norm_branch() -> ModelProto:
    return chain(
        node("Conv", "x w b", "c", pads=[1] * 4), node("BatchNormalization", "x s t m v", "d"), node("Add", "c d", "y"),
        w=drawn(8, 8, 3, 3), b=drawn(8), **norm(8, ""),
    )  # fmt: skip


def norm_conv(*pads: int) -> ModelProto:
    return chain(
        node("BatchNormalization", "x s t m v", "c"), node("Conv", "c w b", "y", pads=pads),
        w=drawn(16, 8, 3, 3), b=drawn(16), **norm(8, ""),
    )  # fmt: skip


def standardised() -> ModelProto:
    return chain(
        node("Sub", "x mean", "a"), node("Div", "a std", "c"), node("Conv", "c w b", "y", strides=[2, 2]),
        image={"x": ("n", 3, "h", "w")}, mean=drawn(3, 1, 1), std=drawn(1, 3, 1, 1, positive=True),
        w=drawn(16, 3, 3, 3), b=drawn(16),
    )  # fmt: skip


def pooled() -> ModelProto:
    return chain(
        node("AveragePool", "x", "c", kernel_shape=[2, 2], strides=[2, 2]), node("Conv", "c w b", "y"),
        w=drawn(4, 8, 1, 1), b=drawn(4),
    )  # fmt: skip


def resized(channels: int = 8) -> ModelProto:
    return chain(
        node("Resize", "x _ scales", "c", mode="nearest", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor"),
        node("Conv", "c w b", "y", pads=[1] * 4),
        image={"x": ("n", channels, "h", "w")},
        scales=numpy.array([1, 1, 2, 2], "float32"), w=drawn(channels, channels, 3, 3), b=drawn(channels),
    )  # fmt: skip


def two_linear() -> ModelProto:
    return chain(
        node("Gemm", "x w b", "c", transB=1), node("MatMul", "c k", "d"), node("Add", "d e", "y"),
        image={"x": ("n", 64)}, out={"y": (None, None)}, w=drawn(256, 64), b=drawn(256), k=drawn(256, 32), e=drawn(32),
    )  # fmt: skip


def norm_linear() -> ModelProto:
    return chain(
        node("LayerNormalization", "x s t", "c"), node("MatMul", "c w", "d"), node("Add", "d b", "y"),
        image={"x": ("n", 16, 64)}, out={"y": (None, None, None)},
        s=drawn(64), t=drawn(64), w=drawn(64, 32), b=drawn(32),
    )  # fmt: skip


CASES: dict[str, tuple[Callable[[], ModelProto], list[str]]] = {
    "conv -> norm": (conv_norm, ["Conv"]),
    "transposed conv -> norm": (transposed_norm, ["ConvTranspose"]),
    "channels the other way round -> conv": (bgr_conv, ["Conv"]),
    "channels last -> conv": (last_conv, ["Reshape", "Unsqueeze", "Conv"]),
    "3x3 -> 1x1": (narrowed, ["Conv"]),
    "3x3 -> 3x3": (two_wide, ["Conv"]),
    "3x3 + 1x1": (two_windows, ["Conv"]),
    "3x3 + norm": (norm_branch, ["Conv"]),
    "norm -> conv": (lambda: norm_conv(0, 0, 0, 0), ["Conv"]),
    "norm -> padded conv": (lambda: norm_conv(1, 1, 1, 1), ["BatchNormalization", "Conv"]),
    "(x - m) / s -> conv": (standardised, ["Conv"]),
    "pool -> 1x1": (pooled, ["Conv"]),
    "nearest -> conv": (lambda: resized(64), ["ConvTranspose"]),
    "nearest -> conv of few channels": (resized, ["Resize", "Conv"]),
    "linear -> linear": (two_linear, ["Gemm"]),
    "layer norm -> linear": (norm_linear, ["LayerNormalization", "MatMul", "Add"]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_folds(name: str, tmp_path: Path) -> None:
    make, expected = CASES[name]
    verdict = fusekit.optimize_onnx(saved(make(), tmp_path), tmp_path / "small.onnx", measure=False)
    assert verdict.ok, str(verdict)
    assert operators(onnx.load(tmp_path / "small.onnx")) == expected, str(verdict.report)
