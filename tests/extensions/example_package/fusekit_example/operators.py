"""A layer with an operator of its own, and what fusekit must know to fold it.

    scale_shift(x, scale, shift) = scale * x + shift        for each channel, axis 1

The operator in PyTorch is `fusekit_example::scale_shift`; in ONNX files it is `com.example::ScaleShift`.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from fusekit.algebra import Affine
from fusekit.grafting.meaning import FileReaders, Known, Linear
from fusekit.grafting.operator_node import OperatorNode
from fusekit.ir import Graph, Unread
from fusekit.ir.facts import facts
from fusekit.ir.reading import Arguments, Reading
from fusekit.ir.spellings import Spelling
from fusekit.ir.spellings.table import Call, CalledLayer


@torch.library.custom_op("fusekit_example::scale_shift", mutates_args=())
def scale_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """scale * x + shift along axis 1."""
    trailing = (-1,) + (1,) * (x.ndim - 2)
    return x * scale.reshape(trailing) + shift.reshape(trailing)


@scale_shift.register_fake
def _(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.empty_like(x)


OPERATOR = torch.ops.fusekit_example.scale_shift.default


class ScaleShift(nn.Module):
    """scale * x + shift for each of `channels` channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return OPERATOR(x, self.scale, self.shift)  # type: ignore[no-any-return]


def _call(layer: CalledLayer) -> Call:
    """The layer as a call of its operator."""
    return OPERATOR, (layer.x, layer.own("scale"), layer.own("shift"))


def _read(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    """A call of the operator as a map. None if the graph computes scale or shift: then they are no constants."""
    scale, shift = graph.constant(a["scale"]), graph.constant(a["shift"])
    if scale is None or shift is None:
        return None
    rank = facts(a["x"]).rank  # channels are counted from the right
    if rank is None:
        return Reading(Unread(Affine, "the rank of the input is unknown: pass example inputs"), a["x"])
    return Reading(Affine(scale, shift, 1 - rank), a["x"])


SPELLING = Spelling(read={OPERATOR: _read}, called={ScaleShift: _call})


def _read_in_file(node: OperatorNode, known: Known) -> Linear | None:
    """The same operator in a file."""
    source, constants = node.input(0), (node.input(1), node.input(2))
    rank, weights = known.facts(source).rank, known.weights(*constants)
    if rank is None or weights is None or not known.is_floating(source):
        return None

    def build(scale: Any, shift: Any) -> Affine:
        return Affine(scale, shift, 1 - rank)

    return Linear(source, build, constants)


FILES = FileReaders({"com.example::ScaleShift": _read_in_file})
