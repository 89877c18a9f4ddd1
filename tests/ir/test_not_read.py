"""What could be another map does not read and says why; what is none does not read. A reading that guesses is wrong at
other sizes."""

import operator
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusekit.algebra import (
    Affine,
    Conv,
    Pad,
)
from fusekit.errors import Inapplicable
from fusekit.ir import Facts, Unread
from fusekit.ir.read import read
from tests.support.graphs import Calls, X, captured, graph_of

aten = torch.ops.aten


def _floats(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float32) + 0.5


NCHW = Facts((2, 3, 3, 3), torch.float32)  # C = H = W: only the axis tells
ONE_CHANNEL = Facts((2, 1, 5, 5), torch.float32)
FREE = Facts((None, 3, None, None), torch.float32)
NO_RANK = Facts(None, torch.float32)

UNREAD: dict[str, tuple[Any, tuple[Any, ...], Facts | None, str]] = {
    "(H, W)": (aten.mul.Tensor, (X, _floats(3, 3)), NCHW, "not one number per channel"),
    "(C, H, 1)": (aten.add.Tensor, (X, _floats(3, 3, 1)), NCHW, "not one number per channel"),
    "with a batch axis": (aten.add.Tensor, (X, _floats(2, 3, 1, 1)), NCHW, "not one number per channel"),
    "more axes than the tensor": (aten.add.Tensor, (X, _floats(1, 1, 3, 1, 1)), NCHW, "not one number per channel"),
    "one number, more axes": (aten.mul.Tensor, (X, _floats(1)), Facts((), torch.float32), "not one number per"),
    "broadcasts up": (aten.mul.Tensor, (X, _floats(3, 1, 1)), ONE_CHANNEL, "on an axis whose size is 1"),
    "constant first, broadcasts up": (aten.add.Tensor, (_floats(5, 1, 1), X), ONE_CHANNEL, "an axis whose size is 1"),
    "(W,) on a free width": (aten.mul.Tensor, (X, _floats(3)), FREE, "an axis whose size is unknown"),
    "(H, 1) on a free height": (aten.sub.Tensor, (X, _floats(3, 1)), FREE, "an axis whose size is unknown"),
    "rank unknown": (aten.mul.Tensor, (X, _floats(3, 1, 1)), NO_RANK, "rank of the other operand is unknown"),
    "nothing known": (aten.mul.Tensor, (X, _floats(3, 1, 1)), None, "dtype of the other operand is unknown"),
    "double on float": (aten.mul.Tensor, (X, _floats(3, 1, 1).double()), NCHW, "no floating constant of the tensor's"),
    "half on float": (aten.mul.Tensor, (X, _floats(3, 1, 1).half()), NCHW, "no floating constant of the tensor's"),
    "integer constant": (aten.mul.Tensor, (X, torch.ones(3, 1, 1, dtype=torch.int64)), NCHW, "no floating constant"),
    "integer tensor": (aten.add.Tensor, (X, _floats(3, 1, 1)), Facts((2, 3, 3, 3), torch.int64), "is torch.int64"),
    "complex tensor": (aten.mul.Tensor, (X, _floats(3, 1, 1)), Facts((2, 3, 3, 3), torch.complex64), "complex64"),
    "batch norm, rank unknown": (
        aten.batch_norm.default,
        (X, None, None, _floats(3), _floats(3), False, 0.1, 1e-5, True),
        NO_RANK,
        "rank of the batch norm's input is unknown",
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_could_be_another_map_does_not_read_and_says_why(name: str) -> None:
    target, args, known, words = UNREAD[name]
    graph, node = graph_of(target, args, known=known)
    reading = read(graph, node)
    assert reading is not None
    assert isinstance(reading.map, Unread)
    assert reading.is_a(Affine) and not reading.is_a(Conv)
    assert words in reading.map.reason


INTEGERS = Facts((2, 3, 3, 3), torch.int64)

NOT_READ: dict[str, tuple[Any, tuple[Any, ...], Facts | None]] = {
    "division by zero": (aten.div.Tensor, (X, 0.0), NCHW),
    "division by a zero": (aten.div.Tensor, (X, torch.tensor([1.0, 0.0, 2.0]).reshape(3, 1, 1)), NCHW),
    "constant / x": (aten.div.Tensor, (_floats(3, 1, 1), X), NCHW),
    "x + x": (aten.add.Tensor, (X, X), NCHW),
    "x * True": (aten.mul.Tensor, (X, True), NCHW),
    "complex factor": (aten.mul.Tensor, (X, 2j), NCHW),
    "integers + 1.5": (aten.add.Tensor, (X, 1.5), INTEGERS),
    "integers / 2": (aten.div.Tensor, (X, 2), INTEGERS),
    "constants alone": (aten.add.Tensor, (_floats(3), _floats(3)), NCHW),
    "training mode": (
        aten.batch_norm.default,
        (X, None, None, _floats(3), _floats(3), True, 0.1, 1e-5, True),
        NCHW,
    ),
    "batch statistics": (
        aten.batch_norm.default,
        (X, _floats(3), _floats(3), None, None, False, 0.1, 1e-5, True),
        NCHW,
    ),
    "batch norm of itself": (
        aten.batch_norm.default,
        (X, X, None, _floats(3), _floats(3), False, 0.1, 1e-5, True),
        NCHW,
    ),
    "dropout in training": (aten.dropout.default, (X, 0.5, True), NCHW),
    "alpha dropout in training": (aten.alpha_dropout.default, (X, 0.5, True), NCHW),
    "weight from the input": (aten.conv2d.default, (_floats(2, 3, 5, 5), X), NCHW),
    "bias from the input": (aten.conv2d.default, (X, _floats(4, 3, 1, 1), X), NCHW),
    "linear, weight from the input": (aten.linear.default, (_floats(2, 3), X), NCHW),
    "linear of a vector weight": (aten.linear.default, (X, _floats(3)), NCHW),
    "integer weights": (aten.conv2d.default, (X, torch.ones(4, 3, 1, 1, dtype=torch.int64)), INTEGERS),
    "reflect and crop": (aten.pad.default, (X, [1, -1], "reflect"), NCHW),
    "replicate and crop": (aten.pad.default, (X, [-1, 1], "replicate", None), NCHW),
    "circular and crop": (aten.pad.default, (X, [1, 1, 1, -1], "circular"), NCHW),
    "crop, and pad with ones": (aten.pad.default, (X, [1, -1], "constant", 1.0), NCHW),
    "pad with minus infinity": (aten.constant_pad_nd.default, (X, [1, 1], float("-inf")), NCHW),
    "pool that rounds up": (aten.avg_pool2d.default, (X, [2, 2], [2, 2], [0, 0], True), NCHW),
    "pool that does not count padding": (aten.avg_pool2d.default, (X, [2, 2], [], [1, 1], False, False), NCHW),
    "pool with a divisor of its own": (aten.avg_pool2d.default, (X, [2, 2], [], [0, 0], False, True, 3), NCHW),
    "max pool": (aten.max_pool2d.default, (X, [2, 2]), NCHW),
    "mean that drops its only axis": (aten.mean.dim, (X, [-1]), NCHW),
    "mean of unknown rank that drops its axes": (aten.mean.dim, (X, [-2, -1]), NO_RANK),
    "mean over the channels alone": (aten.mean.dim, (X, [1], True), NCHW),
    "mean over rows alone": (aten.mean.dim, (X, [2], True), NCHW),
    "pool to two positions": (aten.adaptive_avg_pool2d.default, (X, [2, 1]), NCHW),
    "flatten of everything": (aten.flatten.using_ints, (X,), NCHW),
    "flatten of the positions": (aten.flatten.using_ints, (X, 2), NCHW),
    "constant @ x": (aten.matmul.default, (_floats(3, 3), X), NCHW),
    "x @ a batch of constants": (aten.matmul.default, (X, _floats(2, 3, 3, 3)), NCHW),
    "x @ a vector": (aten.matmul.default, (X, _floats(3)), NCHW),
    "instance norm of each image's own": (
        aten.instance_norm.default,
        (X, None, None, None, None, True, 0.1, 1e-5, False),
        NCHW,
    ),
    "a slice of channels": (operator.getitem, (X, (slice(None), slice(1, 3))), NCHW),
    "a slice of the batch": (aten.slice.Tensor, (X, 0, 1, 9), NCHW),
    "so many rows": (operator.getitem, (X, (Ellipsis, slice(0, 2))), NCHW),
    "no rows": (operator.getitem, (X, (Ellipsis, slice(1, 0))), NCHW),
    "the last rows": (operator.getitem, (X, (Ellipsis, slice(-2, None))), NCHW),
    "one row": (operator.getitem, (X, (slice(None), slice(None), 1)), NCHW),
    "a row from the end of a free width": (aten.slice.Tensor, (X, 3, -2, sys.maxsize), FREE),
    "a slice of unknown rank": (operator.getitem, (X, (slice(None), slice(None), slice(1, -1))), NO_RANK),
    "rows by an index": (aten.index_select.default, (X, 2, torch.tensor([0, 2])), NCHW),
    "rows by an index, as a subscript": (aten.index.Tensor, (X, [None, None, torch.tensor([0, 2])]), NCHW),
    "an index beside another": (aten.index.Tensor, (X, [None, torch.tensor([0]), torch.tensor([0])]), NCHW),
    "a mask of channels": (aten.index.Tensor, (X, [None, torch.tensor([True, False, True])]), NCHW),
    "a table of channels": (aten.index.Tensor, (X, [None, torch.tensor([[0, 1]])]), NCHW),
    "channels beyond the last": (operator.getitem, (X, (slice(None), [0, 3])), NCHW),
    "channels and some rows": (operator.getitem, (X, (slice(None), [0, 1], slice(1, 2))), NCHW),
    "channels of a batch cut": (operator.getitem, (X, (slice(1, None), [0, 1])), NCHW),
    "rows turned round": (aten.flip.default, (X, [2]), NCHW),
    "channels and rows turned round": (aten.flip.default, (X, [1, 2]), NCHW),
    "a shuffle that does not divide": (aten.channel_shuffle.default, (X, 2), NCHW),
    "reshape of one batch size": (aten.reshape.default, (X, [2, -1]), NCHW),
    "reshape to other rows": (aten.reshape.default, (X, [-1, 9]), NCHW),
    "layer norm over two axes": (aten.layer_norm.default, (X, [3, 3], _floats(3, 3)), NCHW),
    "layer norm by itself": (aten.layer_norm.default, (X, [3], X), NCHW),
    "a sum over the rows": (aten.einsum.default, ("bchw,oh->bcow", [X, _floats(4, 3)]), NCHW),
    "a sum that drops its axis": (aten.einsum.default, ("bchw,c->bhw", [X, _floats(3)]), NCHW),
    "a sum over the axis that stays": (aten.einsum.default, ("bchw,cw->bchw", [X, _floats(3, 3)]), NCHW),
    "a sum that turns the axes": (aten.einsum.default, ("bchw,oc->bhwo", [X, _floats(4, 3)]), NCHW),
    "a sum of itself": (aten.einsum.default, ("bchw,bdhw->bcd", [X, X]), NCHW),
    "a sum over a diagonal": (aten.einsum.default, ("bccw,ow->bcco", [X, _floats(4, 3)]), NCHW),
    "a transpose of unknown rank": (aten.transpose.int, (X, 1, 2), NO_RANK),
    "another operator": (aten.softmax.int, (X, 1), NCHW),
    "floor division": (aten.div.Tensor_mode, (X, 2.0), NCHW),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_what_is_not_one_of_the_maps_does_not_read(name: str) -> None:
    target, args, known = NOT_READ[name]
    kwargs = {"rounding_mode": "floor"} if target is aten.div.Tensor_mode else {}
    graph, node = graph_of(target, args, kwargs, known)
    assert read(graph, node) is None


def test_other_nodes_do_not_read() -> None:
    """Inputs, constants, outputs, opaque modules and getitem: read is asked of every node of a graph."""
    model = Calls(lambda m, x: m.f(x).chunk(2)[0], f=nn.Softmax(1))
    graph = captured(model, torch.randn(2, 4, 5))
    assert [read(graph, node) for node in graph.nodes] == [None] * len(list(graph.nodes))


def test_a_row_as_long_as_the_channels_acts_on_the_last_axis() -> None:
    """With C = W a (W,) constant is a map of axis -1, a (H, 1) one of axis -2: the number of entries says nothing."""
    for shape, axis in (((3,), -1), ((1, 3), -1), ((3, 1), -2), ((3, 1, 1), -3), ((1, 3, 1, 1), -3)):
        graph, node = graph_of(aten.mul.Tensor, (X, _floats(*shape)), known=NCHW)
        reading = read(graph, node)
        assert reading is not None and isinstance(reading.map, Affine)
        assert reading.map.axis == axis


def test_a_pad_of_channels_is_a_pad_that_no_convolution_takes() -> None:
    graph, node = graph_of(aten.pad.default, (X, [0, 0, 0, 0, 1, 0]), known=NCHW)
    reading = read(graph, node)
    assert reading is not None and isinstance(reading.map, Pad)
    conv = Conv.from_torch(_floats(4, 4, 3, 3), None)
    with pytest.raises(Inapplicable, match="reaches beyond the 2 spatial axes"):
        _ = conv @ reading.map


def test_a_constant_keeps_its_precision_in_the_reading() -> None:
    """Scale and shift are float64 whatever the model's dtype: the rounding comes once, at the commit."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        graph, node = graph_of(aten.div.Tensor, (X, _floats(3, 1, 1).to(dtype)), known=Facts((2, 3, 3, 3), dtype))
        reading = read(graph, node)
        assert reading is not None and isinstance(reading.map, Affine)
        assert reading.map.scale.dtype == torch.float64
