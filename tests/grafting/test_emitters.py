"""What a map is written as computes the map, in every version of the operators, and reads as the map again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import ModelProto, TensorProto, helper

from fusekit.algebra import (
    Affine,
    AppendOnes,
    AvgPool,
    Conv,
    Cut,
    EdgePad,
    Elementwise,
    Flatten,
    GlobalMean,
    Identity,
    Interleaved,
    Map,
    MergeLeading,
    Nearest,
    Normalization,
    Pad,
    Permute,
    Picking,
    PixelShuffle,
    ValuePad,
)
from fusekit.grafting.emitters import _EMITTERS, has_form, write
from fusekit.grafting.importing import import_file, opaque
from fusekit.grafting.model_file import ModelFile
from fusekit.grafting.sheet import Place, Sheet
from fusekit.ir import evaluate
from fusekit.model import Inputs
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME

aten = torch.ops.aten
OPSETS = (7, 9, 10, 11, 13, 18, 21, 23)
IMAGE = (2, 4, 6, 8)


def numbers(*shape: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float32)


def conv(*weight: int, bias: bool = True, **options: Any) -> Conv:
    return Conv.from_torch(numbers(*weight), numbers(weight[0]) if bias else None, **options)


# the map, the shape of its input, the first opset that has a form of it
CASES: dict[str, tuple[Map, tuple[int, ...], int]] = {
    "a convolution": (conv(6, 2, 3, 2, groups=2, stride=(2, 1), padding=((1, 0), (0, 2)), dilation=(1, 2)), IMAGE, 7),
    "transposed": (
        Conv.from_torch(numbers(4, 3, 3, 3), None, stride=(2, 2), padding=((1, 1),) * 2, transposed=True,
                        output_padding=(1, 0)), IMAGE, 7,
    ),
    "a matrix": (conv(3, 8), (5, 8), 7),
    "a matrix without a bias": (conv(3, 8, bias=False), (5, 8), 7),
    "tokens": (conv(3, 8), IMAGE, 7),
    "a scale": (Affine(numbers(4), torch.zeros(4), -3), IMAGE, 7),
    "a shift": (Affine(torch.ones(4), numbers(4), -3), IMAGE, 7),
    "both": (Affine(numbers(4), numbers(4), -3), IMAGE, 7),
    "silu": (Elementwise(aten.silu.default), IMAGE, 7),
    "leaky": (Elementwise(aten.leaky_relu.default, (0.3,)), IMAGE, 7),
    "zeros": (Pad(((1, 0), (2, 3))), IMAGE, 7),
    "a crop": (Pad(((-1, 0), (-2, -1))), IMAGE, 7),
    "zeros and a crop": (Pad(((-1, 0), (2, -1))), IMAGE, 7),
    "a value": (ValuePad(((1, 0), (0, 2)), -1.5), IMAGE, 7),
    "reflected": (EdgePad("reflect", (((1, 0), (2, 2)),)), IMAGE, 7),
    "the edge": (EdgePad("replicate", (((1, 3), (0, 2)),)), IMAGE, 7),
    "a circle": (EdgePad("circular", (((1, 3), (0, 2)),)), IMAGE, 19),
    "a channel of ones": (AppendOnes(2), IMAGE, 7),
    "a slice": (Cut(((1, 0), (2, 1)), (1, 1)), IMAGE, 7),
    "every second": (Cut(((1, 0), (2, 1)), (1, 2)), IMAGE, 10),
    "a pool": (AvgPool((2, 3), (2, 1), (0, 0)), IMAGE, 7),
    "a pool that counts zeros": (AvgPool((3, 3), (1, 2), (1, 1)), IMAGE, 7),
    "a mean": (GlobalMean(2), IMAGE, 7),
    "a mean whose axes go": (GlobalMean(2, keeps=False), IMAGE, 7),
    "flat": (Flatten((6, 8)), IMAGE, 7),
    "rows": (MergeLeading(1), IMAGE, 7),
    "axes in another order": (Permute((0, 3, 1, 2)), IMAGE, 7),
    "channels in another order": (Picking((2, 0, 0), 4, 2), IMAGE, 7),
    "shuffled": (PixelShuffle(2), (2, 8, 3, 4), 11),
    "shuffled in blocks": (PixelShuffle(2, blocks_first=True), (2, 8, 3, 4), 7),
    "repeated": (Nearest((2, 3)), IMAGE, 7),
    "pixels in a row": (Interleaved(2), IMAGE, 7),
    "a layer norm": (Normalization("layer", 8, 0.1, numbers(8), numbers(8)), IMAGE, 17),
    "a layer norm without a shift": (Normalization("layer", 8, 0.1, numbers(8)), IMAGE, 17),
    "a layer norm alone": (Normalization("layer", 8, 0.1), IMAGE, 17),
    "an RMS norm": (Normalization("rms", 8, 0.1, numbers(8)), IMAGE, 23),
    "a group norm": (Normalization("group", 4, 0.1, numbers(4), numbers(4), groups=2, n=2), IMAGE, 21),
}  # fmt: skip
NOT_READ_AGAIN = {"pixels in a row"}  # a reshaping like any other
FORMLESS = {
    "a circle of several stages": EdgePad("circular", (((1, 1),), ((1, 1),))),
    "several axes behind": MergeLeading(2),
}


def written(value: Map, shape: tuple[int, ...], opset: int, *, known: bool) -> ModelProto:
    """A model of the map alone; `known`: the sizes of its input are told."""
    taken: set[str] = set()

    def unique(name: str) -> str:
        while name in taken:
            name += "'"
        taken.add(name)
        return name

    sheet = Sheet(opset, unique, [], [])
    write(sheet, value, Place("x", "y", "node", len(shape), shape if known else None, torch.float32))
    sizes = list(shape) if known else [None] * len(shape)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(sheet.nodes, "graph", [x], [y], sheet.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_the_map(name: str, tmp_path: Path) -> None:
    value, shape, first = CASES[name]
    x = numbers(*shape)
    expected = value(x)
    for opset in OPSETS:
        assert has_form(value, opset) == (opset >= first)
        for known in (True, False) if opset >= first else ():
            path = tmp_path / "model.onnx"
            path.write_bytes(written(value, shape, opset, known=known).SerializeToString())
            (_, given), *_ = ONNX_RUNTIME.load(path).run(Inputs((x,)), ["x"])
            assert given.shape == expected.shape
            torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
            if known and name not in NOT_READ_AGAIN:
                read_again(path, x, expected)


def read_again(path: Path, x: Any, expected: Any) -> None:
    imported = import_file(ModelFile.read(path), {})
    nodes = [node for node in imported.graph.nodes if node.op != "output"]
    assert all(node.target is not opaque for node in nodes)
    values = evaluate(imported.graph, nodes, {nodes[0]: x})
    torch.testing.assert_close(values[imported.kept()["y"]], expected, rtol=1e-4, atol=1e-5)


def test_every_emitter_is_written_here() -> None:
    assert {type(value) for value, _, _ in CASES.values()} == set(_EMITTERS)


@pytest.mark.parametrize("name", FORMLESS)
def test_what_has_no_form(name: str) -> None:
    assert not any(has_form(FORMLESS[name], opset) for opset in OPSETS)
    assert has_form(Identity(), 7)
